//! Screening: which reports enter a cycle at all, and why the others do not.
//!
//! Checks that need nothing but the report, stations that are withheld for verification, reports
//! that come after their cycle is closed, and one report per station and cycle. All of them are
//! functions of the reports that stand at a time, not of the order in which they came.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use advect_engine::Cycle;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::observe::ReportUpdate;
use super::records::Verdict;
use super::settings::Settings;
use crate::observations::{Fault, Quality, Report};

/// What a report is screened by.
#[derive(Debug, Clone)]
pub struct Screen {
    /// Checks on the report alone.
    pub quality: Quality,
    /// Stations that are kept for verification.
    pub withheld: Rc<BTreeSet<String>>,
}

/// The reports of one station and cycle: how often each stands, and the verdict on it.
#[derive(Default)]
struct Slot {
    counts: BTreeMap<Report, isize>,
    judged: BTreeMap<Report, Option<Fault>>,
}

/// Passes on the updates of reports that enter their cycle, and gives verdicts on the others.
/// A report whose own `cycle` is earlier than the time of its update is too late.
pub fn screen<'s>(
    reports: StreamVec<'s, Cycle, ReportUpdate>,
    settings: &Rc<Settings>,
    screen: &Screen,
) -> (
    StreamVec<'s, Cycle, ReportUpdate>,
    StreamVec<'s, Cycle, Verdict>,
) {
    let (settings, screen) = (Rc::clone(settings), screen.clone());
    let mut builder = OperatorBuilder::new("Screen".to_owned(), reports.scope());
    let route =
        Exchange::new(|(r, _, _): &ReportUpdate| u64::from(crc32fast::hash(r.station.as_bytes())));
    let mut input = builder.new_input(reports, route);
    let (passed_out, passed) = builder.new_output::<Vec<ReportUpdate>>();
    let (verdicts_out, verdicts) = builder.new_output::<Vec<Verdict>>();
    let mut passed_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<ReportUpdate>>>::from(passed_out);
    let mut verdicts_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Verdict>>>::from(verdicts_out);
    type Pending = (Capability<Cycle>, Capability<Cycle>, Vec<(Report, isize)>);
    builder.build(move |caps| {
        drop(caps);
        let mut pending: BTreeMap<(u64, u64), Pending> = BTreeMap::new();
        let mut open: BTreeMap<u64, BTreeMap<String, Slot>> = BTreeMap::new();
        move |frontiers| {
            input.for_each(|cap, data| {
                for (report, time, diff) in data.drain(..) {
                    let slot = pending.entry((time.known, time.valid)).or_insert_with(|| {
                        (cap.delayed(&time, 0), cap.delayed(&time, 1), Vec::new())
                    });
                    slot.2.push((report, diff));
                }
            });
            while let Some(entry) = pending.first_entry() {
                let (known, valid) = *entry.key();
                let now = Cycle::new(valid, known);
                if frontiers.iter().any(|f| f.less_equal(&now)) {
                    break;
                }
                let (passed_cap, verdicts_cap, changes) = entry.remove();
                open.retain(|&v, _| v >= settings.first_open(known));
                let mut touched: BTreeSet<(u64, String)> = BTreeSet::new();
                let mut verdicts = Vec::new();
                for (report, diff) in changes {
                    if report.cycle != valid {
                        let stands = diff > 0;
                        verdicts.push(verdict(report, Some(Fault::Late), stands));
                        continue;
                    }
                    touched.insert((valid, report.station.clone()));
                    let slots = open.entry(valid).or_default();
                    let slot = slots.entry(report.station.clone()).or_default();
                    *slot.counts.entry(report).or_default() += diff;
                }
                let mut passed = Vec::new();
                for (cycle, station) in touched {
                    if let Some(slot) = open.get_mut(&cycle).and_then(|s| s.get_mut(&station)) {
                        slot.judge(&screen, now, &mut passed, &mut verdicts);
                    }
                }
                passed_out
                    .activate()
                    .session(&passed_cap)
                    .give_iterator(passed.into_iter());
                verdicts_out
                    .activate()
                    .session(&verdicts_cap)
                    .give_iterator(verdicts.into_iter());
            }
        }
    });
    (passed, verdicts)
}

impl Slot {
    fn judge(
        &mut self,
        screen: &Screen,
        now: Cycle,
        passed: &mut Vec<ReportUpdate>,
        verdicts: &mut Vec<Verdict>,
    ) {
        self.counts.retain(|_, count| *count != 0);
        // the first in the source that passes the checks is taken, whatever came first
        let mut standing: Vec<&Report> = self
            .counts
            .iter()
            .filter(|(_, c)| **c > 0)
            .map(|(r, _)| r)
            .collect();
        standing.sort_by_key(|r| r.order);
        let mut judged = BTreeMap::new();
        let mut taken = false;
        for report in standing {
            let fault = match screen.quality.check(report) {
                Err((fault, _)) => Some(fault),
                Ok(()) if screen.withheld.contains(&report.station) && !taken => {
                    Some(Fault::Withheld)
                }
                Ok(()) if taken => Some(Fault::Duplicate),
                Ok(()) => None,
            };
            taken |= matches!(fault, None | Some(Fault::Withheld));
            judged.insert(report.clone(), fault);
        }
        for (report, fault) in &self.judged {
            if judged.get(report) != Some(fault) {
                match fault {
                    None => passed.push((report.clone(), now, -1)),
                    Some(_) => verdicts.push(verdict(report.clone(), *fault, false)),
                }
            }
        }
        for (report, fault) in &judged {
            if self.judged.get(report) != Some(fault) {
                match fault {
                    None => passed.push((report.clone(), now, 1)),
                    Some(_) => verdicts.push(verdict(report.clone(), *fault, true)),
                }
            }
        }
        self.judged = judged;
    }
}

fn verdict(report: Report, fault: Option<Fault>, stands: bool) -> Verdict {
    Verdict {
        report,
        fault,
        departure: 0.0,
        stands,
    }
}
