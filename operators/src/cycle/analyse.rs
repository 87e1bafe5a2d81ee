//! Local analyses: one ensemble transform a cell, from the sums that differential dataflow holds.
//!
//! The sums live in an arrangement keyed by (cycle, cell). When sums or background of a cycle change,
//! only the cells with other sums or other background bits are analysed again.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use advect_engine::{Batch, Cycle, Shard};
use differential_dataflow::difference::{Monoid, Semigroup};
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::implementations::{KeyBatcher, KeySpine};
use differential_dataflow::trace::{Cursor, Navigable, TraceReader};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::{Stream, StreamVec};
use timely::order::PartialOrder;
use timely::progress::Antichain;

use super::contribute::{CellKey, SumsUpdate};
use super::points::Points;
use super::settings::Settings;
use super::sums::Sums;
use crate::assimilation::weights;

/// The arrangement of local sums.
type SumsTrace = TraceAgent<KeySpine<CellKey, Cycle, Sums>>;

/// How many cells were analysed, for whoever asks.
#[derive(Debug, Clone, Default)]
pub struct Work {
    cells: Rc<Cell<u64>>,
}

impl Work {
    /// Cells analysed by this worker so far.
    pub fn cells(&self) -> u64 {
        self.cells.get()
    }
}

/// Gathers the updates of local sums at the worker of their point.
pub fn arrange<'s>(
    sums: StreamVec<'s, Cycle, SumsUpdate>,
    points: &Points,
) -> Arranged<'s, SumsTrace> {
    let points = points.clone();
    let route = Exchange::new(move |(((_, point), ()), _, _): &SumsUpdate| {
        points.home(*point as usize) as u64
    });
    arrange_core::<_, _, KeyBatcher<_, _, _>, _>(sums, route, "LocalSums", KeyBatcher::new)
}

/// State of one cycle on one worker.
#[derive(Default)]
struct Open {
    background: Vec<f64>,
    analysis: Vec<f64>,
}

/// Gives the analysis ensemble for each background, `[..., N]` with one row for every point of
/// `points`, in order.
///
/// # Panics
/// If sums are not finite: they are integers, so this is a bug.
pub fn analyse<'s>(
    sums: Arranged<'s, SumsTrace>,
    backgrounds: Stream<'s, Cycle, Batch>,
    settings: &Rc<Settings>,
    points: Rc<Vec<u64>>,
    work: &Work,
) -> Stream<'s, Cycle, Batch> {
    let mut trace = sums.trace.clone();
    let touched = sums.as_container(|span| {
        let mut keys: Vec<(CellKey, Cycle)> = Vec::new();
        if let Some(batch) = span.inner.as_ref() {
            let mut cursor = batch.cursor();
            while let Some(key) = cursor.get_key(batch).copied() {
                cursor.map_times(batch, |time, _| keys.push((key, *time)));
                cursor.step_key(batch);
            }
        }
        Some(keys)
    });
    let worker = backgrounds.scope().worker().index();
    let mine: BTreeSet<u64> = points.iter().copied().collect();
    let (settings, work) = (Rc::clone(settings), work.clone());
    type Batches = CapacityContainerBuilder<Batch>;
    touched.inner.binary_frontier::<_, Batches, _, _, _, _>(
        backgrounds,
        Pipeline,
        Pipeline,
        "Analyse",
        move |_, _| {
            let mut open: BTreeMap<u64, Open> = BTreeMap::new();
            let mut dirty: BTreeMap<u64, BTreeSet<(Cycle, u64)>> = BTreeMap::new();
            let mut due: BTreeMap<(u64, u64), (Capability<Cycle>, Shard)> = BTreeMap::new();
            move |(touched, touched_frontier), (backgrounds, _), output| {
                touched.for_each(|_, keys| {
                    for ((cycle, point), time) in keys.drain(..) {
                        if mine.contains(&point) {
                            dirty.entry(cycle).or_default().insert((time, point));
                        }
                    }
                });
                backgrounds.for_each(|cap, batch| {
                    for time in cap.stamp().elements() {
                        for shard in batch.shards.drain(..) {
                            due.insert((time.known, time.valid), (cap.delayed(time, 0), shard));
                        }
                    }
                });
                while let Some(entry) = due.first_entry() {
                    let (known, valid) = *entry.key();
                    let now = Cycle::new(valid, known);
                    if touched_frontier.less_equal(&now) {
                        break;
                    }
                    let (cap, shard) = entry.remove();
                    let closed = settings.first_open(known);
                    open.retain(|&v, _| v >= closed);
                    dirty.retain(|&v, _| v >= closed);
                    let news = dirty.entry(valid).or_default();
                    let cells: BTreeSet<u64> = news
                        .iter()
                        .filter(|(t, _)| t.less_equal(&now))
                        .map(|c| c.1)
                        .collect();
                    news.retain(|(t, _)| !t.less_equal(&now));
                    let state = open.entry(valid).or_default();
                    let lookup = |cell: u64| sums_at(&mut trace, (valid, cell), &now);
                    state.revise(&settings, &points, shard.elements(), &cells, lookup, &work);
                    let data = state.analysis.clone().into();
                    let analysis = Shard::new(valid, shard.shape.clone(), data);
                    output
                        .session(&cap)
                        .give(analysis.addressed(worker, worker));
                }
                trace.set_logical_compaction(touched_frontier.frontier());
                trace.set_physical_compaction(touched_frontier.frontier());
            }
        },
    )
}

impl Open {
    fn revise(
        &mut self,
        settings: &Settings,
        points: &[u64],
        background: &[f64],
        touched: &BTreeSet<u64>,
        mut lookup: impl FnMut(u64) -> Sums,
        work: &Work,
    ) {
        let n = settings.members;
        let anew = self.background.len() != background.len();
        if anew {
            self.background = background.to_vec();
            self.analysis = background.to_vec();
        }
        let mut anomalies = vec![0.0; n];
        let mut analysed = vec![0.0; n];
        for (local, (members, &cell)) in background.chunks_exact(n).zip(points).enumerate() {
            let place = local * n..(local + 1) * n;
            let same = self.background[place.clone()] == *members;
            if !anew && same && !touched.contains(&cell) {
                continue;
            }
            let sums = lookup(cell);
            let mean = members.iter().sum::<f64>() / n as f64;
            for (a, x) in anomalies.iter_mut().zip(members) {
                *a = x - mean;
            }
            let information = sums
                .information(n)
                .unwrap_or_else(|e| panic!("Analyse: {e}"));
            let local = weights(&information, &settings.inflation)
                .unwrap_or_else(|e| panic!("Analyse, cell {cell}: {e}"));
            let moved = local.apply(mean, &anomalies, &mut analysed);
            settings.inflation.relax(&anomalies, &mut analysed);
            for (slot, a) in self.analysis[place.clone()].iter_mut().zip(&analysed) {
                *slot = moved + a;
            }
            self.background[place].copy_from_slice(members);
            work.cells.set(work.cells.get() + 1);
        }
    }
}

/// The sums of a cell as of a time.
fn sums_at(trace: &mut SumsTrace, key: CellKey, now: &Cycle) -> Sums {
    let mut total = Sums::zero();
    let mut upper = Antichain::new();
    trace.read_upper(&mut upper);
    let Some(batches) = trace.batches_through(upper.borrow()) else {
        return total;
    };
    let (mut cursor, storage) = cursor_list(batches);
    cursor.seek_key(&storage, &key);
    if cursor.get_key(&storage) == Some(&key) {
        cursor.map_times(&storage, |time, sums| {
            if time.less_equal(now) {
                total.plus_equals(sums);
            }
        });
    }
    total
}
