//! What worker 0 keeps until a cycle is closed for good: the last word on every field, site and report.

use std::collections::BTreeMap;

use advect_engine::snapshot::Entry;
use advect_engine::{Batch, Cycle};
use advect_operators::cycle::{SiteAnalysis, Verdict};
use advect_operators::observations::{Fault, Report};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Stream, StreamVec};

/// The output that holds a record for every closed cycle.
pub(crate) const CYCLES: &str = "cycles";

/// A cycle that is closed for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// What closes cycles.
pub(crate) struct Closing<'s> {
    /// One record per worker for every `known`.
    pub(crate) ticks: StreamVec<'s, Cycle, ()>,
    /// Mean and spread of every cell, `[rows][columns][2]`, on every worker.
    pub(crate) fields: Stream<'s, Cycle, Batch>,
    /// Analyses at the sites.
    pub(crate) sites: StreamVec<'s, Cycle, SiteAnalysis>,
    /// Verdicts on reports.
    pub(crate) verdicts: StreamVec<'s, Cycle, Verdict>,
}

impl<'s> Closing<'s> {
    /// Closes cycles from `open` on, on worker 0: each as soon as all has come that was known while
    /// it was open. `closed` is called for it, and it becomes a record of [`CYCLES`].
    ///
    /// # Panics
    /// If a record cannot be serialized: it holds numbers and texts, so this is a bug.
    pub(crate) fn close(
        self,
        window: u64,
        open: u64,
        mut closed: impl FnMut(&Closed) + 'static,
    ) -> StreamVec<'s, Cycle, Entry<Cycle>> {
        let scope = self.ticks.scope();
        let first = scope.worker().index() == 0;
        let mut builder = OperatorBuilder::new("Close".to_owned(), scope);
        let mut ticks = builder.new_input(self.ticks, Pipeline);
        let mut fields = builder.new_input(self.fields, Pipeline);
        let mut sites = builder.new_input(self.sites, Exchange::new(|_: &SiteAnalysis| 0));
        let mut verdicts = builder.new_input(self.verdicts, Exchange::new(|_: &Verdict| 0));
        let (output, stream) = builder.new_output::<Vec<Entry<Cycle>>>();
        type Out = CapacityContainerBuilder<Vec<Entry<Cycle>>>;
        let mut output = OutputBuilder::<_, Out>::from(output);
        builder.build(move |caps| {
            drop(caps);
            let mut ledger = Ledger {
                closed: open,
                ..Ledger::default()
            };
            let mut due: BTreeMap<u64, Capability<Cycle>> = BTreeMap::new();
            move |frontiers| {
                ticks.for_each(|cap, data| {
                    data.clear();
                    for time in cap.stamp().elements() {
                        due.insert(time.known, cap.delayed(time, 0));
                    }
                });
                fields.for_each(|cap, batch| {
                    for time in cap.stamp().elements() {
                        for shard in batch.shards.drain(..).filter(|_| first) {
                            ledger.field(*time, shard.elements());
                        }
                    }
                });
                sites.for_each(|_, data| data.drain(..).for_each(|site| ledger.site(site)));
                verdicts.for_each(|cap, data| {
                    for time in cap.stamp().elements() {
                        data.drain(..).for_each(|v| ledger.verdict(*time, v));
                    }
                });
                while let Some(entry) = due.first_entry() {
                    let known = *entry.key();
                    let all = Cycle::new(u64::MAX, known);
                    if frontiers.iter().any(|f| f.less_equal(&all)) {
                        break;
                    }
                    let cap = entry.remove();
                    let mut output = output.activate();
                    let mut session = output.session(&cap);
                    for cycle in ledger.close((known + 1).saturating_sub(window)) {
                        closed(&cycle);
                        let record = Entry::record(*cap.time(), CYCLES, cycle.valid, &cycle)
                            .unwrap_or_else(|e| panic!("Close: {e}"));
                        session.give(record);
                    }
                }
            }
        });
        stream
    }
}

/// What has come and can still change.
#[derive(Default)]
struct Ledger {
    fields: BTreeMap<u64, (u64, Vec<f64>)>,
    sites: BTreeMap<u64, BTreeMap<u64, SiteAnalysis>>,
    verdicts: BTreeMap<u64, Vec<(u64, Verdict)>>,
    closed: u64,
}

impl Ledger {
    /// Takes mean and spread in turn, `[cells][2]`.
    fn field(&mut self, time: Cycle, values: &[f64]) {
        let held = self.fields.entry(time.valid).or_default();
        if held.1.is_empty() || held.0 <= time.known {
            *held = (time.known, values.to_vec());
        }
    }

    /// Takes the analysis at a site.
    fn site(&mut self, analysis: SiteAnalysis) {
        let held = self.sites.entry(analysis.time.valid).or_default();
        let old = held.get(&analysis.site).map_or(0, |a| a.time.known);
        if old <= analysis.time.known {
            held.insert(analysis.site, analysis);
        }
    }

    /// Takes a verdict.
    fn verdict(&mut self, time: Cycle, verdict: Verdict) {
        self.verdicts
            .entry(time.valid)
            .or_default()
            .push((time.known, verdict));
    }

    /// Cycles before `first_open` that are new among the closed.
    fn close(&mut self, first_open: u64) -> Vec<Closed> {
        let cycles = self.closed..first_open.max(self.closed);
        self.closed = cycles.end;
        cycles.filter_map(|valid| self.seal(valid)).collect()
    }

    fn seal(&mut self, valid: u64) -> Option<Closed> {
        let (_, field) = self.fields.remove(&valid)?;
        let mut news = self.verdicts.remove(&valid).unwrap_or_default();
        // the last that stands, if there were more of those than were taken back
        news.sort_by_key(|(known, v)| (*known, v.stands));
        let mut standing: BTreeMap<Report, (i64, Option<Fault>, f64)> = BTreeMap::new();
        for (_, v) in news {
            let (count, fault, departure) = standing.entry(v.report).or_default();
            if v.stands {
                (*count, *fault, *departure) = (*count + 1, v.fault, v.departure);
            } else {
                *count -= 1;
            }
        }
        let standing = standing.into_iter().filter(|(_, (count, ..))| *count > 0);
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
            verdicts: standing.map(|(r, (_, fault, d))| (r, fault, d)).collect(),
        })
    }
}
