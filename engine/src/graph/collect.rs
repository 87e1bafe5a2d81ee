//! Sums of cotangents: what meets at a fan-out, and what a parameter gathers over its moments.

use std::collections::BTreeMap;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

use crate::graph::{Moment, Spec};
use crate::relayout::Batches;
use crate::shard::{Batch, Shard};

/// Where a part stands in the order of addition: moment, key, use.
type Rank<T> = (T, u64, usize);

/// The parts of one sum.
struct Open<T: Moment> {
    /// At the latest moment that gave a part: every worker sees the same moments, so that the sum
    /// leaves at the same time everywhere.
    capability: Capability<T>,
    sum: Option<Shard>,
    waiting: BTreeMap<Rank<T>, Shard>,
    /// Parts already in the sum.
    added: usize,
}

/// Adds the cotangents of one value, in the order (moment, key, use from the last on) whatever order they come in.
///
/// Sums of a moment leave as soon as every use has given its part; a part that has not come when
/// the frontier passes is zero. Sums of a version (`held`) leave when the frontier has passed it.
/// Both are folded before that as far as the order allows.
pub(crate) fn sum<'s, T: Moment>(
    name: &str,
    uses: Vec<Stream<'s, T, Batch>>,
    spec: Spec,
    held: bool,
) -> Stream<'s, T, Batch> {
    let scope = uses[0].scope();
    let mut builder = OperatorBuilder::new(format!("Sum of {name}"), scope);
    let count = uses.len();
    let mut inputs: Vec<_> = uses
        .into_iter()
        .map(|stream| builder.new_input(stream, Pipeline))
        .collect();
    let (output, sums) = builder.new_output::<Batch>();
    let mut output = OutputBuilder::<_, Batches>::from(output);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut open: BTreeMap<(T, u64), Open<T>> = BTreeMap::new();
        move |frontiers: &[MutableAntichain<T>]| {
            for (port, input) in inputs.iter_mut().enumerate() {
                input.for_each(|cap, batch| {
                    let Some(time) = cap.stamp().elements().first().cloned() else {
                        return;
                    };
                    for shard in batch.shards.drain(..) {
                        let slot = if held {
                            (time.version(), 0)
                        } else {
                            (time.clone(), shard.key)
                        };
                        let entry = open.entry(slot).or_insert_with(|| Open {
                            capability: cap.delayed(&time, 0),
                            sum: None,
                            waiting: BTreeMap::new(),
                            added: 0,
                        });
                        if time > *entry.capability.time() {
                            entry.capability = cap.delayed(&time, 0);
                        }
                        entry.waiting.insert((time.clone(), shard.key, port), shard);
                    }
                });
            }
            let closed = |time: &T| frontiers.iter().all(|f| !f.less_equal(time));
            let mut done = Vec::new();
            for (slot, entry) in &mut open {
                let complete = if held {
                    closed(&slot.0.last())
                } else {
                    entry.waiting.len() + entry.added == count || closed(&slot.0)
                };
                while let Some(first) = entry.waiting.first_entry() {
                    let (time, _, port) = first.key();
                    let next = complete
                        || match held {
                            true => closed(time),
                            false => *port == entry.added,
                        };
                    if !next {
                        break;
                    }
                    let part = first.remove();
                    entry.added += 1;
                    entry.sum = Some(match entry.sum.take() {
                        Some(sum) => spec.add(sum, part),
                        None => part,
                    });
                }
                if complete {
                    done.push(slot.clone());
                }
            }
            let mut out = output.activate();
            for slot in done {
                if let Some(Open {
                    capability,
                    sum: Some(mut sum),
                    ..
                }) = open.remove(&slot)
                {
                    sum.key = slot.1;
                    out.session(&capability).give(sum);
                }
            }
        }
    });
    sums
}
