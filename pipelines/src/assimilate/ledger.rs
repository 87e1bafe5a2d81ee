//! What worker 0 keeps until a cycle is closed for good: the last word on every field, site and report.

use std::collections::BTreeMap;

use advect_engine::Cycle;
use advect_operators::cycle::{SiteAnalysis, Verdict};
use advect_operators::observations::{Fault, Report};

/// A cycle that is closed for good.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Closed {
    /// The cycle.
    pub(crate) valid: u64,
    /// Analysis mean of every cell.
    pub(crate) mean: Vec<f64>,
    /// Analysis standard deviation over the ensemble.
    pub(crate) spread: Vec<f64>,
    /// Analyses at the sites, by site.
    pub(crate) sites: Vec<SiteAnalysis>,
    /// Reports of the cycle with verdict and departure from the background, in order.
    pub(crate) verdicts: Vec<(Report, Option<Fault>, f64)>,
}

/// What has come and can still change.
#[derive(Default)]
pub(crate) struct Ledger {
    fields: BTreeMap<u64, (u64, Vec<f64>)>,
    sites: BTreeMap<u64, BTreeMap<u64, SiteAnalysis>>,
    verdicts: BTreeMap<u64, Vec<(u64, Verdict)>>,
    closed: u64,
}

impl Ledger {
    /// Takes mean and spread in turn, `[cells][2]`.
    pub(crate) fn field(&mut self, time: Cycle, values: &[f64]) {
        let held = self.fields.entry(time.valid).or_default();
        if held.1.is_empty() || held.0 <= time.known {
            *held = (time.known, values.to_vec());
        }
    }

    /// Takes the analysis at a site.
    pub(crate) fn site(&mut self, analysis: SiteAnalysis) {
        let held = self.sites.entry(analysis.time.valid).or_default();
        let old = held.get(&analysis.site).map_or(0, |a| a.time.known);
        if old <= analysis.time.known {
            held.insert(analysis.site, analysis);
        }
    }

    /// Takes a verdict.
    pub(crate) fn verdict(&mut self, time: Cycle, verdict: Verdict) {
        self.verdicts
            .entry(time.valid)
            .or_default()
            .push((time.known, verdict));
    }

    /// Cycles before `first_open` that are new among the closed.
    pub(crate) fn close(&mut self, first_open: u64) -> Vec<Closed> {
        let cycles = self.closed..first_open.max(self.closed);
        self.closed = cycles.end;
        cycles.filter_map(|valid| self.seal(valid)).collect()
    }

    fn seal(&mut self, valid: u64) -> Option<Closed> {
        let (_, field) = self.fields.remove(&valid)?;
        let mut news = self.verdicts.remove(&valid).unwrap_or_default();
        // takings first: both may be of one report and one time
        news.sort_by_key(|(known, v)| (*known, v.stands));
        let mut standing: BTreeMap<Report, (Option<Fault>, f64)> = BTreeMap::new();
        for (_, v) in news {
            if v.stands {
                standing.insert(v.report, (v.fault, v.departure));
            } else {
                standing.remove(&v.report);
            }
        }
        Some(Closed {
            valid,
            mean: field.iter().step_by(2).copied().collect(),
            spread: field.iter().skip(1).step_by(2).copied().collect(),
            sites: self
                .sites
                .remove(&valid)
                .unwrap_or_default()
                .into_values()
                .collect(),
            verdicts: standing
                .into_iter()
                .map(|(r, (fault, d))| (r, fault, d))
                .collect(),
        })
    }
}
