//! Tensors that are given when others come.

use std::collections::BTreeMap;
use std::rc::Rc;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

use crate::graph::Moment;
use crate::graph::forward::Port;
use crate::graph::kept::{Held, Kept};
use crate::relayout::Batches;
use crate::shard::{Batch, Shard};

/// Gives the tensor of `values` at each moment and key at which something comes in `when`: that of its
/// version, if it comes once a version, or that of the moment, which is counted as kept until then.
pub(crate) fn gate<'s, T: Moment>(
    name: &str,
    values: Port<'s, T>,
    when: Stream<'s, T, Batch>,
    kept: Rc<Kept>,
) -> Stream<'s, T, Batch> {
    let held = values.held;
    let mut builder = OperatorBuilder::new(format!("Gate of {name}"), when.scope());
    let mut values = builder.new_input(values.stream, Pipeline);
    let mut when = builder.new_input(when, Pipeline);
    let (output, given) = builder.new_output::<Batch>();
    let mut output = OutputBuilder::<_, Batches>::from(output);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut here: BTreeMap<(T, u64), (Shard, Option<Held>)> = BTreeMap::new();
        let mut asked: BTreeMap<(T, u64), Capability<T>> = BTreeMap::new();
        let slot = move |time: &T, key: u64| match held {
            true => (time.version(), 0),
            false => (time.clone(), key),
        };
        move |frontiers: &[MutableAntichain<T>]| {
            values.for_each(|cap, batch| {
                let Some(time) = cap.stamp().elements().first().cloned() else {
                    return;
                };
                for shard in batch.shards.drain(..) {
                    let waits = (!held).then(|| kept.hold(shard.bytes_len()));
                    here.insert(slot(&time, shard.key), (shard, waits));
                }
            });
            when.for_each(|cap, batch| {
                let Some(time) = cap.stamp().elements().first().cloned() else {
                    return;
                };
                for shard in batch.shards.drain(..) {
                    asked.insert((time.clone(), shard.key), cap.delayed(&time, 0));
                }
            });
            let mut out = output.activate();
            asked.retain(|(time, key), cap| {
                let from = slot(time, *key);
                let found = match held {
                    true => here.get(&from).map(|(shard, _)| shard.clone()),
                    false => here.remove(&from).map(|(shard, _)| shard),
                };
                let Some(mut shard) = found else { return true };
                shard.key = *key;
                out.session(cap).give(shard);
                false
            });
            here.retain(|(time, _), _| {
                let last = if held { time.last() } else { time.clone() };
                let asked = asked.keys().any(|(t, _)| t.version() == time.version());
                asked || frontiers[1].less_equal(&last)
            });
        }
    });
    given
}
