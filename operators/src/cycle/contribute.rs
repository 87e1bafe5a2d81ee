//! Contributions: reports that pass the buddy check become partials of the cells that hear them.
//!
//! Every accepted report adds its exact row, tapered by distance, to the sums of the cells and sites
//! within reach. What changes is summed per cell before it leaves, and
//! travels to the worker of the cell as an update of a differential collection.

use std::collections::BTreeMap;
use std::rc::Rc;

use advect_engine::Cycle;
use differential_dataflow::difference::IsZero;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::records::{Departed, Verdict};
use super::settings::Settings;
use super::sums::{Row, Sums};
use crate::assimilation::localization::TAPER_CUTOFF;
use crate::observations::buddy::Departure;
use crate::observations::grid::distance;
use crate::observations::{Fault, Report};

/// A cell in a cycle: the key of local sums.
pub type CellKey = (u64, u64);

/// An update of the collection of local sums.
pub type SumsUpdate = ((CellKey, ()), Cycle, Sums);

/// State of one cycle on one worker.
#[derive(Default)]
struct Open {
    own: BTreeMap<Report, Departed>,
    neighbours: BTreeMap<Report, Departure>,
    accepted: BTreeMap<Report, Row>,
    judged: BTreeMap<Report, (Option<Fault>, f64)>,
}

/// Judges departures and gives the updates of local sums and the verdicts that changed.
pub fn contribute<'s>(
    departures: StreamVec<'s, Cycle, Departed>,
    settings: &Rc<Settings>,
) -> (
    StreamVec<'s, Cycle, SumsUpdate>,
    StreamVec<'s, Cycle, Verdict>,
) {
    let settings = Rc::clone(settings);
    let mut builder = OperatorBuilder::new("Contribute".to_owned(), departures.scope());
    let mut input = builder.new_input(departures, Exchange::new(|d: &Departed| d.to));
    let (sums_out, sums) = builder.new_output::<Vec<SumsUpdate>>();
    let (verdicts_out, verdicts) = builder.new_output::<Vec<Verdict>>();
    let mut sums_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<SumsUpdate>>>::from(sums_out);
    let mut verdicts_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Verdict>>>::from(verdicts_out);
    type Pending = (Capability<Cycle>, Capability<Cycle>, Vec<Departed>);
    builder.build(move |caps| {
        drop(caps);
        let mut pending: BTreeMap<(u64, u64), Pending> = BTreeMap::new();
        let mut open: BTreeMap<u64, Open> = BTreeMap::new();
        move |frontiers| {
            input.for_each(|cap, data| {
                for time in cap.stamp().elements() {
                    let slot = pending.entry((time.known, time.valid)).or_insert_with(|| {
                        (cap.delayed(time, 0), cap.delayed(time, 1), Vec::new())
                    });
                    slot.2.append(data);
                }
            });
            while let Some(entry) = pending.first_entry() {
                let (known, valid) = *entry.key();
                let now = Cycle::new(valid, known);
                if frontiers.iter().any(|f| f.less_equal(&now)) {
                    break;
                }
                let (sums_cap, verdicts_cap, changes) = entry.remove();
                let mut deltas: BTreeMap<CellKey, Sums> = BTreeMap::new();
                // cycles that are closed for good give back what they hold
                let closed = settings.first_open(known);
                while let Some(old) = open.first_entry().filter(|e| *e.key() < closed) {
                    let cycle = *old.key();
                    for (report, row) in old.remove().accepted {
                        spread(&settings, cycle, &report, &row, -1, &mut deltas);
                    }
                }
                let state = open.entry(valid).or_default();
                state.take(changes);
                let verdicts = state.judge(&settings, valid, &mut deltas);
                let mut output = sums_out.activate();
                let mut session = output.session(&sums_cap);
                for (key, delta) in deltas {
                    if !delta.is_zero() {
                        session.give(((key, ()), now, delta));
                    }
                }
                drop(session);
                verdicts_out
                    .activate()
                    .session(&verdicts_cap)
                    .give_iterator(verdicts.into_iter());
            }
        }
    });
    (sums, verdicts)
}

/// Adds a row to every cell that hears the report.
fn spread(
    settings: &Settings,
    cycle: u64,
    report: &Report,
    row: &Row,
    sign: i64,
    deltas: &mut BTreeMap<CellKey, Sums>,
) {
    let (lat, lon) = (report.latitude(), report.longitude());
    let mut hear = |point: usize, km: f64| {
        let taper = settings.taper.at(km);
        if taper > TAPER_CUTOFF {
            deltas
                .entry((cycle, point as u64))
                .or_default()
                .add(row, taper, sign);
        }
    };
    let reach = settings.taper.reach();
    settings.grid.for_cells_within(lat, lon, reach, &mut hear);
    for (i, site) in settings.sites.iter().enumerate() {
        let left_out = site.without.as_ref() == Some(&report.station);
        if !left_out && (site.latitude - lat).abs() * 110.0 <= reach {
            let km = distance(lat, lon, site.latitude, site.longitude);
            hear(settings.grid.cells() + i, km);
        }
    }
}

impl Open {
    /// Applies what comes and what is taken back. Takings first: both may be of one report.
    fn take(&mut self, mut changes: Vec<Departed>) {
        changes.sort_by_key(|d| d.comes);
        for d in changes {
            if d.comes {
                if d.fault.is_none() {
                    let place = Departure {
                        latitude: d.report.latitude(),
                        longitude: d.report.longitude(),
                        departure: d.departure,
                    };
                    self.neighbours.insert(d.report.clone(), place);
                }
                if d.own {
                    self.own.insert(d.report.clone(), d);
                }
            } else {
                self.neighbours.remove(&d.report);
                if d.own {
                    self.own.remove(&d.report);
                }
            }
        }
    }

    /// Judges every report anew; adds to `deltas` what changed and returns the changed verdicts.
    fn judge(
        &mut self,
        settings: &Settings,
        cycle: u64,
        deltas: &mut BTreeMap<CellKey, Sums>,
    ) -> Vec<Verdict> {
        let mut accepted = BTreeMap::new();
        let mut judged = BTreeMap::new();
        let mut verdicts = Vec::new();
        for (report, d) in &self.own {
            let fault = d.fault.or_else(|| {
                let passes = self
                    .neighbours
                    .get(report)
                    .is_none_or(|own| settings.buddy.passes(own, self.neighbours.values()));
                (!passes).then_some(Fault::Buddy)
            });
            if fault.is_none() {
                let row = Row::new(&d.anomalies, d.departure, settings.observation_error);
                accepted.insert(report.clone(), row);
            }
            judged.insert(report.clone(), (fault, d.departure));
            if self.judged.get(report) != Some(&(fault, d.departure)) {
                let (report, departure) = (report.clone(), d.departure);
                verdicts.push(Verdict {
                    report,
                    fault,
                    departure,
                    stands: true,
                });
            }
        }
        for (report, (fault, departure)) in &self.judged {
            if !judged.contains_key(report) {
                let (report, fault, departure) = (report.clone(), *fault, *departure);
                verdicts.push(Verdict {
                    report,
                    fault,
                    departure,
                    stands: false,
                });
            }
        }
        for (report, row) in &self.accepted {
            if accepted.get(report) != Some(row) {
                spread(settings, cycle, report, row, -1, deltas);
            }
        }
        for (report, row) in &accepted {
            if self.accepted.get(report) != Some(row) {
                spread(settings, cycle, report, row, 1, deltas);
            }
        }
        self.accepted = accepted;
        self.judged = judged;
        verdicts
    }
}
