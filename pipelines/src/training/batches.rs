//! Batches as streams: each worker makes its own pieces, and nothing is sent.

use std::cell::Cell;
use std::rc::Rc;

use advect_engine::graph::Streams;
use advect_engine::source::Pace;
use advect_engine::{Batch, Shard, Tick};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// When batches are made.
pub(crate) struct Steps {
    /// The first step.
    pub(crate) begin: u64,
    /// No step from this one on.
    pub(crate) end: Rc<Cell<u64>>,
    /// Which steps may be made by now.
    pub(crate) pace: Pace<Tick>,
}

/// Streams of these names, step after step. `make` gives the micro-batches of a step, none if it has none, each
/// with this worker's piece for every name in their order.
pub(crate) fn wire<'s>(
    scope: Scope<'s, Tick>,
    operator: &str,
    names: &[&str],
    steps: Steps,
    mut make: impl FnMut(u64) -> Vec<Vec<Shard>> + 'static,
) -> Streams<'s, Tick> {
    let mut builder = OperatorBuilder::new(operator.to_owned(), scope);
    let wake = scope.activator_for(builder.operator_info().address);
    let (mut outputs, mut streams) = (Vec::new(), Streams::new());
    for name in names {
        let (output, stream) = builder.new_output::<Batch>();
        outputs.push(OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(
            output,
        ));
        streams.insert((*name).to_owned(), stream);
    }
    let Steps { begin, end, pace } = steps;
    builder.build(move |capabilities| {
        wake.activate();
        let mut now = Some(capabilities);
        let mut step = begin;
        for cap in now.iter_mut().flatten() {
            cap.downgrade(&Tick::new(step, 0));
        }
        move |_| {
            while let Some(capabilities) = &mut now {
                if step >= end.get() {
                    now = None;
                    break;
                }
                if !pace.ready(&Tick::new(step, 0), &wake) {
                    break;
                }
                for (micro, pieces) in (0..).zip(make(step)) {
                    let time = Tick::new(step, micro);
                    let places = outputs.iter_mut().zip(capabilities.iter());
                    for (piece, (output, cap)) in pieces.into_iter().zip(places) {
                        output.activate().session(&cap.delayed(&time)).give(piece);
                    }
                }
                step += 1;
                for cap in capabilities.iter_mut() {
                    cap.downgrade(&Tick::new(step, 0));
                }
            }
        }
    });
    streams
}
