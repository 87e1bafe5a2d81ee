//! The hybrid-gain step: the mean of an ensemble analysis blended with a static gain.
//!
//! $$ \bar x^a = (1 - \alpha)\,\bar x^{LETKF} + \alpha\,(\bar x^b + K d) $$
//!
//! (Penny 2014, equation 5), with $K$ of [`Krige`](crate::observations::Krige) at the point's own
//! height and fraction of land; anomalies stay those of the LETKF. An ensemble of tens of members
//! sees fronts and the day's error; the static covariance sees valleys, coasts and single stations.
//! Departures travel to every worker: tens of bytes each.

use std::collections::BTreeMap;
use std::rc::Rc;

use advect_engine::{Batch, Cycle, Shard};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::{Stream, StreamVec};

use super::records::Verdict;
use super::settings::Settings;
use crate::observations::{Place, Report};

/// Sends every verdict to every worker.
pub fn to_all<'s>(verdicts: StreamVec<'s, Cycle, Verdict>) -> StreamVec<'s, Cycle, (u64, Verdict)> {
    let workers = verdicts.scope().worker().peers() as u64;
    verdicts.flat_map(move |v| (0..workers).map(move |to| (to, v.clone())))
}

/// Reports that stand and were accepted, with place and departure, by cycle.
type Accepted = BTreeMap<u64, BTreeMap<Report, (Place, f64)>>;

/// Blends `analyses` (`[..., N]`, one row a point of `points`) with the static gain. With `describe`
/// the background mean follows the members: `[points][N + 1]`.
///
/// # Panics
/// If departures are not finite: the checks let none of those pass, so this is a bug.
pub fn hybrid<'s>(
    analyses: Stream<'s, Cycle, Batch>,
    backgrounds: Stream<'s, Cycle, Batch>,
    verdicts: StreamVec<'s, Cycle, (u64, Verdict)>,
    settings: &Rc<Settings>,
    points: &Rc<Vec<u64>>,
    describe: bool,
) -> Stream<'s, Cycle, Batch> {
    let worker = analyses.scope().worker().index();
    let settings = Rc::clone(settings);
    let places: Vec<Place> = points.iter().map(|&p| settings.place(p as usize)).collect();
    let mut builder = OperatorBuilder::new("Hybrid".to_owned(), analyses.scope());
    let mut analyses = builder.new_input(analyses, Pipeline);
    let mut backgrounds = builder.new_input(backgrounds, Pipeline);
    let route = Exchange::new(|(to, _): &(u64, Verdict)| *to);
    let mut verdicts = builder.new_input(verdicts, route);
    let (output, stream) = builder.new_output::<Batch>();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(output);
    builder.build(move |caps| {
        drop(caps);
        let mut due: BTreeMap<(u64, u64), (Capability<Cycle>, Shard)> = BTreeMap::new();
        let mut held: BTreeMap<(u64, u64), Shard> = BTreeMap::new();
        let mut news: BTreeMap<(u64, u64), Vec<Verdict>> = BTreeMap::new();
        let mut accepted = Accepted::new();
        move |frontiers| {
            analyses.for_each(|cap, batch| {
                for time in cap.stamp().elements() {
                    for shard in batch.shards.drain(..) {
                        due.insert((time.known, time.valid), (cap.delayed(time, 0), shard));
                    }
                }
            });
            backgrounds.for_each(|cap, batch| {
                for time in cap.stamp().elements() {
                    for shard in batch.shards.drain(..) {
                        held.insert((time.known, time.valid), shard);
                    }
                }
            });
            verdicts.for_each(|cap, data| {
                for time in cap.stamp().elements() {
                    let slot = news.entry((time.known, time.valid)).or_default();
                    slot.extend(data.drain(..).map(|(_, v)| v));
                }
            });
            while let Some(entry) = due.first_entry() {
                let (known, valid) = *entry.key();
                let now = Cycle::new(valid, known);
                if frontiers[1].less_equal(&now) || frontiers[2].less_equal(&now) {
                    break;
                }
                let (cap, analysis) = entry.remove();
                accepted.retain(|&v, _| v >= settings.first_open(known));
                held.retain(|&(k, v), _| (k, v) >= (known, valid));
                let past = news.split_off(&(known + 1, 0));
                for ((k, v), verdicts) in std::mem::replace(&mut news, past) {
                    if v == valid {
                        take(accepted.entry(v).or_default(), verdicts, &settings);
                    } else {
                        news.insert((k, v), verdicts);
                    }
                }
                let Some(background) = held.remove(&(known, valid)) else {
                    continue;
                };
                let near: Vec<(Place, f64)> = accepted
                    .get(&valid)
                    .into_iter()
                    .flatten()
                    .map(|(_, d)| *d)
                    .collect();
                let shard = blend(&settings, &places, &analysis, &background, &near, describe);
                output
                    .activate()
                    .session(&cap)
                    .give(shard.addressed(worker, worker));
            }
        }
    });
    stream
}

/// Applies verdicts of one time. Takings first: both may be of one report.
fn take(
    accepted: &mut BTreeMap<Report, (Place, f64)>,
    mut verdicts: Vec<Verdict>,
    settings: &Settings,
) {
    verdicts.sort_by_key(|v| v.stands);
    for v in verdicts {
        if v.stands && v.fault.is_none() {
            let place = settings.place_of(&v.report);
            accepted.insert(v.report, (place, v.departure));
        } else {
            accepted.remove(&v.report);
        }
    }
}

fn blend(
    settings: &Settings,
    places: &[Place],
    analysis: &Shard,
    background: &Shard,
    near: &[(Place, f64)],
    describe: bool,
) -> Shard {
    let n = settings.members;
    let (alpha, krige) = (settings.hybrid.weight, &settings.hybrid.krige);
    let width = if describe { n + 1 } else { n };
    let mut out = Vec::with_capacity(places.len() * width);
    let rows = analysis.elements::<f64>().chunks_exact(n);
    let before = background.elements::<f64>().chunks_exact(n);
    for ((place, members), before) in places.iter().zip(rows).zip(before) {
        let mean = before.iter().sum::<f64>() / n as f64;
        let shift = if alpha > 0.0 {
            let increment = krige
                .estimate(place, near)
                .unwrap_or_else(|e| panic!("Hybrid: {e}"));
            let ensemble = members.iter().sum::<f64>() / n as f64;
            alpha * (mean + increment - ensemble)
        } else {
            0.0
        };
        out.extend(members.iter().map(|x| x + shift));
        if describe {
            out.push(mean);
        }
    }
    let shape = if describe {
        vec![places.len(), width]
    } else {
        analysis.shape.clone()
    };
    Shard::new(analysis.key, shape, out.into())
}
