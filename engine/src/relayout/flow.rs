//! Relayouts as dataflow: cut, exchange by receiver, assemble when the last part has come.

use std::collections::BTreeMap;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;
use timely::progress::Timestamp;

use crate::observe;
use crate::relayout::{Relayout, Step};
use crate::shard::payload::Payload;
use crate::shard::{Batch, Shard};

/// Builder of batches, as timely's operators want it.
pub(crate) type Batches = CapacityContainerBuilder<Batch>;

/// The parts of a tensor that have come so far, by sender, and the right to send it on.
type Collected<T> = (Capability<T>, Vec<(usize, Payload)>);

/// What is told of every tensor that has come.
pub(crate) type Arrivals<T> = Rc<dyn Fn(&T, u64)>;

/// Moves every tensor of a stream from the start of `plan` to its end.
///
/// Each worker gives one shard of the starting layout per time and key, and gets one of the final
/// layout. Parts are counted, not waited for by a frontier, and folded in the order of their
/// senders, so that the result has the same bits whatever order they arrive in.
pub fn relayout<'s, T: Timestamp>(
    stream: Stream<'s, T, Batch>,
    plan: &Relayout,
) -> Stream<'s, T, Batch> {
    relayout_watched(stream, plan, None)
}

/// [`relayout`] that tells of what has come.
pub(crate) fn relayout_watched<'s, T: Timestamp>(
    stream: Stream<'s, T, Batch>,
    plan: &Relayout,
    arrivals: Option<Arrivals<T>>,
) -> Stream<'s, T, Batch> {
    let worker = stream.scope().worker().index();
    let steps = plan.steps(worker);
    let last = steps.len().saturating_sub(1);
    let steps = steps.into_iter().zip(plan.names()).enumerate();
    steps.fold(stream, |stream, (i, (step, name))| {
        let arrivals = arrivals.clone().filter(|_| i == last);
        take_step(stream, worker, step, &name, arrivals)
    })
}

fn take_step<'s, T: Timestamp>(
    stream: Stream<'s, T, Batch>,
    worker: usize,
    step: Step,
    name: &str,
    arrivals: Option<Arrivals<T>>,
) -> Stream<'s, T, Batch> {
    let step = Rc::new(step);
    let cutter = Rc::clone(&step);
    let cut = format!("Relayout {name}: cut");
    let parts = stream.unary::<Batches, _, _, _>(Pipeline, &cut, move |_, info| {
        observe::planned(info.global_id, cutter.bytes_sent());
        move |input, output| {
            let mut bytes = 0;
            input.for_each(|cap, batch| {
                let mut session = output.session(&cap);
                for shard in batch.shards.drain(..) {
                    for (to, part) in cutter.cut(&shard) {
                        if to != worker {
                            bytes += part.len() * part.dtype().size();
                        }
                        let part = Shard::of_payload(shard.key, vec![part.len()], part);
                        session.give(part.addressed(worker, to));
                    }
                }
            });
            observe::sent(bytes);
        }
    });
    let route = ExchangeCore::<Batches, _>::new(|s: &Shard| u64::from(s.to));
    let assemble = format!("Relayout {name}: assemble");
    parts.unary_frontier::<Batches, _, _, _>(route, &assemble, move |_, _| {
        let mut open: BTreeMap<(T, u64), Collected<T>> = BTreeMap::new();
        move |(input, _), output| {
            input.for_each(|cap, batch| {
                for time in cap.stamp().elements() {
                    for shard in batch.shards.drain(..) {
                        let slot = open
                            .entry((time.clone(), shard.key))
                            .or_insert_with(|| (cap.delayed(time, 0), Vec::new()));
                        slot.1.push((shard.from as usize, shard.into_payload()));
                    }
                }
            });
            let done: Vec<(T, u64)> = open
                .iter()
                .filter(|(_, (_, parts))| parts.len() == step.parts())
                .map(|(at, _)| at.clone())
                .collect();
            for at in done {
                if let Some((cap, parts)) = open.remove(&at) {
                    let shape = step.shape_out().to_vec();
                    let whole = Shard::of_payload(at.1, shape, step.assemble(parts));
                    output.session(&cap).give(whole.addressed(worker, worker));
                    if let Some(arrivals) = &arrivals {
                        arrivals(&at.0, at.1);
                    }
                }
            }
        }
    })
}
