//! Backgrounds: the ensemble that enters a cycle, and where the loop over cycles begins.
//!
//! At each `known` the loop starts at the first cycle that can still change, from the background
//! that was stored for it, and goes on to the current cycle around the feedback edge.

use std::collections::BTreeMap;
use std::rc::Rc;

use advect_engine::{Batch, Cycle, Data, Shard};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::{Stream, StreamVec};

use super::bands::Bands;
use super::settings::{Predictor, Settings};

type Batches = CapacityContainerBuilder<Batch>;

/// Gives the background of each open cycle: from the predictor for the first, from `fed` (the forecasts
/// that come around the loop) for the others. `ticks` holds one record per worker at
/// (first open cycle, known) for every `known`.
pub fn background<'s>(
    ticks: StreamVec<'s, Cycle, ()>,
    fed: Stream<'s, Cycle, Batch>,
    settings: &Rc<Settings>,
    predictor: &Rc<dyn Predictor>,
    bands: &Bands,
) -> Stream<'s, Cycle, Batch> {
    let worker = ticks.scope().worker().index();
    let rows = bands.rows(worker);
    let shape = vec![rows.len(), settings.grid.columns(), settings.members];
    let (settings, predictor) = (Rc::clone(settings), Rc::clone(predictor));
    ticks.binary_frontier::<_, Batches, _, _, _, _>(
        fed,
        Pipeline,
        Pipeline,
        "Background",
        move |_, _| {
            let mut stored: BTreeMap<u64, Data> = BTreeMap::new();
            let mut starts: BTreeMap<(u64, u64), Capability<Cycle>> = BTreeMap::new();
            move |(ticks, ticks_frontier), (fed, fed_frontier), output| {
                ticks.for_each(|cap, data| {
                    data.clear();
                    for time in cap.stamp().elements() {
                        starts.insert((time.known, time.valid), cap.delayed(time, 0));
                    }
                });
                fed.for_each(|cap, batch| {
                    for time in cap.stamp().elements() {
                        for shard in batch.shards.drain(..) {
                            stored.insert(time.valid, shard.data().clone());
                            if time.valid <= time.known && time.valid < settings.cycles {
                                let cap = cap.delayed(time, 0);
                                output.session(&cap).give(shard);
                            }
                        }
                    }
                });
                while let Some(entry) = starts.first_entry() {
                    let (known, valid) = *entry.key();
                    let now = Cycle::new(valid, known);
                    let open = ticks_frontier.less_equal(&now) || fed_frontier.less_equal(&now);
                    // an earlier `known` must have left its last word on this cycle
                    if open || (valid > settings.begin && !stored.contains_key(&valid)) {
                        break;
                    }
                    let cap = entry.remove();
                    stored.retain(|&v, _| v >= settings.first_open(known));
                    let data = stored
                        .entry(valid)
                        .or_insert_with(|| predictor.start(rows.clone()).into())
                        .clone();
                    let shard = Shard::new(valid, shape.clone(), data).addressed(worker, worker);
                    output.session(&cap).give(shard);
                }
            }
        },
    )
}

/// The background of the next cycle from each analysis; the feedback edge moves it there.
pub fn forecast<'s>(
    analyses: Stream<'s, Cycle, Batch>,
    predictor: &Rc<dyn Predictor>,
    bands: &Bands,
) -> Stream<'s, Cycle, Batch> {
    let worker = analyses.scope().worker().index();
    let rows = bands.rows(worker);
    let predictor = Rc::clone(predictor);
    analyses.unary::<Batches, _, _, _>(Pipeline, "Forecast", move |_, _| {
        move |input, output| {
            input.for_each(|cap, batch| {
                for time in cap.stamp().elements() {
                    let mut session = output.session(&cap);
                    for shard in batch.shards.drain(..) {
                        let to = time.valid + 1;
                        let next = predictor.next(to, rows.clone(), shard.elements::<f64>());
                        let shard = Shard::new(to, shard.shape.clone(), next.into());
                        session.give(shard.addressed(worker, worker));
                    }
                }
            });
        }
    })
}
