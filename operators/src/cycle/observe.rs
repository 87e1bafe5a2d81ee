//! Departures: what the background says at every report, and the check against it.
//!
//! For each report $y$ of a cycle, $d = y - \overline{H(E)}$ and $Y = H(E) - \overline{H(E)}$. The
//! operator keeps what it gave for each report, and when the background or the reports of a cycle
//! change at a later `known` it takes back and gives anew only what has other bits.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use advect_engine::{Batch, Cycle};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;

use super::bands::Bands;
use super::records::Departed;
use super::settings::Settings;
use crate::observations::{Fault, Report, quality};

/// An update of the collection of reports.
pub type ReportUpdate = (Report, Cycle, isize);

/// State of one cycle on one worker.
#[derive(Default)]
struct Open {
    reports: BTreeMap<Report, isize>,
    given: BTreeMap<Report, Departed>,
}

/// Gives the departures of `reports` from `backgrounds`, for the worker of each report and for those
/// within the radius of the buddy check. `backgrounds` carries one shard `[rows][columns][N]` per
/// time, from row `first_row` on (a band and the row north of it).
pub fn observe<'s>(
    reports: StreamVec<'s, Cycle, ReportUpdate>,
    backgrounds: timely::dataflow::Stream<'s, Cycle, Batch>,
    settings: &Rc<Settings>,
    bands: &Bands,
    first_row: usize,
) -> StreamVec<'s, Cycle, Departed> {
    type Out = CapacityContainerBuilder<Vec<Departed>>;
    let worker = reports.scope().worker().index();
    let (settings, bands) = (Rc::clone(settings), bands.clone());
    let home = bands.clone();
    let route = Exchange::new(move |(r, _, _): &ReportUpdate| home.home(r) as u64);
    reports.binary_frontier::<_, Out, _, _, _, _>(
        backgrounds,
        route,
        Pipeline,
        "Observe",
        move |_, _| {
            let mut open: BTreeMap<u64, Open> = BTreeMap::new();
            let mut updates: BTreeMap<Cycle, Vec<(Report, isize)>> = BTreeMap::new();
            let mut fields: BTreeMap<(u64, u64), (Capability<Cycle>, Vec<f64>)> = BTreeMap::new();
            move |(reports, reports_frontier), (backgrounds, _), output| {
                reports.for_each(|_, data| {
                    for (report, time, diff) in data.drain(..) {
                        updates.entry(time).or_default().push((report, diff));
                    }
                });
                backgrounds.for_each(|cap, batch| {
                    for time in cap.stamp().elements() {
                        for shard in batch.shards.drain(..) {
                            let field = shard.elements::<f64>().to_vec();
                            // earlier knowledge first: it is the order in which cycles revise
                            fields.insert((time.known, time.valid), (cap.delayed(time, 0), field));
                        }
                    }
                });
                while let Some(entry) = fields.first_entry() {
                    let (known, valid) = *entry.key();
                    let now = Cycle::new(valid, known);
                    if reports_frontier.less_equal(&now) {
                        break;
                    }
                    let (cap, field) = entry.remove();
                    open.retain(|&v, _| v >= settings.first_open(known));
                    let state = open.entry(valid).or_default();
                    let due: Vec<Cycle> = updates
                        .keys()
                        .filter(|t| t.valid == valid && t.known <= known)
                        .copied()
                        .collect();
                    for time in due {
                        for (report, diff) in updates.remove(&time).into_iter().flatten() {
                            *state.reports.entry(report).or_default() += diff;
                        }
                    }
                    state.reports.retain(|_, count| *count != 0);
                    let mut session = output.session(&cap);
                    let predict = Predict {
                        settings: &settings,
                        field: &field,
                        first_row,
                    };
                    for departed in state.revise(&predict) {
                        for to in bands.audience(&departed.report, settings.buddy.radius) {
                            let own = to == worker;
                            let anomalies = if own {
                                departed.anomalies.clone()
                            } else {
                                Vec::new()
                            };
                            if own || departed.fault.is_none() {
                                session.give(Departed {
                                    to: to as u64,
                                    own,
                                    anomalies,
                                    ..departed.clone()
                                });
                            }
                        }
                    }
                }
            }
        },
    )
}

impl Open {
    /// What is taken back and what comes, in the order of reports.
    fn revise(&mut self, predict: &Predict<'_>) -> Vec<Departed> {
        let mut changes = Vec::new();
        let all: BTreeSet<Report> = self
            .reports
            .keys()
            .chain(self.given.keys())
            .cloned()
            .collect();
        for report in all {
            let old = self.given.get(&report);
            let new = self
                .reports
                .contains_key(&report)
                .then(|| predict.departed(&report));
            if old == new.as_ref() {
                continue;
            }
            if let Some(old) = self.given.remove(&report) {
                changes.push(Departed {
                    comes: false,
                    ..old
                });
            }
            if let Some(new) = new {
                changes.push(new.clone());
                self.given.insert(report, new);
            }
        }
        changes
    }
}

/// A background and how to read it.
struct Predict<'a> {
    settings: &'a Settings,
    field: &'a [f64],
    first_row: usize,
}

impl Predict<'_> {
    fn departed(&self, report: &Report) -> Departed {
        let n = self.settings.members;
        let mut departed = Departed {
            to: 0,
            report: report.clone(),
            own: true,
            comes: true,
            departure: 0.0,
            anomalies: vec![0.0; n],
            fault: None,
        };
        let Some(operator) = self.settings.operator(report) else {
            departed.fault = Some(Fault::Domain);
            return departed;
        };
        let before = self.first_row * self.settings.grid.columns();
        for (m, slot) in departed.anomalies.iter_mut().enumerate() {
            *slot = operator.apply(|cell| self.field[(cell - before) * n + m]);
        }
        let mean = departed.anomalies.iter().sum::<f64>() / n as f64;
        departed.anomalies.iter_mut().for_each(|y| *y -= mean);
        departed.departure = report.value() - mean;
        let variance = departed.anomalies.iter().map(|y| y * y).sum::<f64>() / (n - 1) as f64;
        let error = self.settings.observation_error.powi(2);
        if quality::gross(
            departed.departure,
            variance,
            error,
            self.settings.gross_limit,
        ) {
            departed.fault = Some(Fault::GrossError);
        }
        departed
    }
}
