//! Delivery of messages in a shuffled order, to test that the order does not matter.

use std::rc::Rc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;

use crate::graph::Moment;
use crate::relayout::Batches;
use crate::shard::{Batch, Shard};

/// In which order the messages of an edge are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// As the channels bring them.
    #[default]
    AsTheyCome,
    /// Held back for a random number of turns and in a random order, on every edge. The seed
    /// chooses the order; each worker and edge draws its own.
    Shuffled(u64),
}

impl Delivery {
    /// The stream as it is delivered to the edge `edge`.
    pub(crate) fn deliver<'s, T: Moment>(
        self,
        stream: Stream<'s, T, Batch>,
        edge: u64,
    ) -> Stream<'s, T, Batch> {
        let Delivery::Shuffled(seed) = self else {
            return stream;
        };
        let scope = stream.scope();
        let worker = scope.index() as u64;
        stream.unary::<Batches, _, _, _>(Pipeline, "Shuffle", move |_, info| {
            let again = scope.activator_for(Rc::clone(&info.address));
            let mut random = ChaCha8Rng::seed_from_u64(seed ^ worker << 48 ^ edge.rotate_left(17));
            let mut waiting = Vec::new();
            move |input, output| {
                input.for_each(|cap, batch| {
                    let Some(time) = cap.stamp().elements().first().cloned() else {
                        return;
                    };
                    for shard in batch.shards.drain(..) {
                        waiting.push((cap.delayed(&time, 0), shard));
                    }
                });
                if !waiting.is_empty() {
                    if random.random_bool(0.5) {
                        let (cap, shard): (_, Shard) =
                            waiting.swap_remove(random.random_range(0..waiting.len()));
                        output.session(&cap).give(shard);
                    }
                    again.activate();
                }
            }
        })
    }
}
