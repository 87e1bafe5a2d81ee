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

/// Where tensors wait.
pub(crate) trait Store: 'static {
    /// One that waits.
    type Kept;
    /// Takes a tensor in.
    fn put(&mut self, shard: Shard) -> Self::Kept;
    /// A tensor that waits, which goes on waiting.
    fn get(&mut self, kept: &Self::Kept) -> Shard;
    /// Lets it go.
    fn free(&mut self, kept: Self::Kept);
}

/// Tensors in memory; those of a moment are counted.
struct Memory(Option<Rc<Kept>>);

impl Store for Memory {
    type Kept = (Shard, Option<Held>);

    fn put(&mut self, shard: Shard) -> Self::Kept {
        let held = self.0.as_ref().map(|kept| kept.hold(shard.bytes_len()));
        (shard, held)
    }

    fn get(&mut self, kept: &Self::Kept) -> Shard {
        kept.0.clone()
    }

    fn free(&mut self, kept: Self::Kept) {
        drop(kept);
    }
}

/// Gives the tensor of `values` at each moment and key at which something comes in `when`: that of its
/// version, if it comes once a version, or that of the moment, which is counted as kept until then.
pub(crate) fn gate<'s, T: Moment>(
    name: &str,
    values: Port<'s, T>,
    when: Stream<'s, T, Batch>,
    kept: Rc<Kept>,
) -> Stream<'s, T, Batch> {
    let store = Memory((!values.held).then_some(kept));
    gate_in(format!("Gate of {name}"), values, when, store)
}

/// [`gate`] of tensors that wait elsewhere, as an operator called `name`.
pub(crate) fn gate_in<'s, T: Moment, S: Store>(
    name: String,
    values: Port<'s, T>,
    when: Stream<'s, T, Batch>,
    mut store: S,
) -> Stream<'s, T, Batch> {
    let held = values.held;
    let called = name.clone();
    let mut builder = OperatorBuilder::new(name, when.scope());
    let mut values = builder.new_input(values.stream, Pipeline);
    let mut when = builder.new_input(when, Pipeline);
    let (output, given) = builder.new_output::<Batch>();
    let mut output = OutputBuilder::<_, Batches>::from(output);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut here: BTreeMap<(T, u64), S::Kept> = BTreeMap::new();
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
                    let at = slot(&time, shard.key);
                    if let Some(before) = here.insert(at, store.put(shard)) {
                        store.free(before);
                    }
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
                let Some(kept) = here.get(&from) else {
                    let last = if held { time.last() } else { time.clone() };
                    assert!(
                        frontiers[0].less_equal(&last),
                        "{called} at {:?}: what it gives never came; feed it at every moment and version",
                        time.coordinates()
                    );
                    return true;
                };
                let mut shard = store.get(kept);
                if !held && let Some(kept) = here.remove(&from) {
                    store.free(kept);
                }
                shard.key = *key;
                out.session(cap).give(shard);
                false
            });
            let passed = here.extract_if(.., |(time, _), _| {
                let last = if held { time.last() } else { time.clone() };
                let asked = asked.keys().any(|(t, _)| t.version() == time.version());
                !asked && !frontiers[1].less_equal(&last)
            });
            passed.for_each(|(_, kept)| store.free(kept));
        }
    });
    given
}
