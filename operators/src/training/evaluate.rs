//! The loss of chosen versions on other data, and the versions themselves.

use std::rc::Rc;

use advect_engine::graph::{Streams, Wiring};
use advect_engine::{Batch, Layout, Result, Tick, relayout};
use serde::Serialize;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::{Stream, StreamVec};

use super::Trainable;
use super::tally::{self, COUNT};

/// The loss of a version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// Steps that had been taken.
    pub step: u64,
    /// Mean loss over the targets.
    pub loss: f64,
    /// Number of targets.
    pub targets: u64,
}

impl Trainable {
    /// The loss of the versions in `parameters` on `inputs`, which come at the steps of these versions:
    /// the graph without its adjoint, so that nothing is kept.
    ///
    /// # Errors
    /// As [`Graph::wire`](advect_engine::Graph::wire).
    pub fn evaluate<'s>(
        &self,
        parameters: Streams<'s, Tick>,
        inputs: Streams<'s, Tick>,
        in_flight: Option<usize>,
    ) -> Result<StreamVec<'s, Tick, Evaluation>> {
        let mesh = self.graph.mesh();
        let mut feeds = inputs;
        feeds.extend(parameters);
        let wiring = Wiring {
            in_flight,
            ..Wiring::default()
        };
        let outputs = self.graph.wire_with(feeds, wiring)?.outputs();
        let sources = self.measured(&outputs)?;
        let totals = tally::totals(mesh, sources, Rc::new(|| false))?;
        Ok(
            totals.unary::<CapacityContainerBuilder<Vec<Evaluation>>, _, _, _>(
                Pipeline,
                "Evaluation",
                move |_, _| {
                    move |input, output| {
                        input.for_each(|cap, batch| {
                            let step = cap.stamp().elements().first().map_or(0, |time| time.step);
                            for shard in batch.shards.drain(..) {
                                let totals = shard.elements::<f64>();
                                output.session(&cap).give(Evaluation {
                                    step,
                                    loss: tally::loss(totals) / totals[COUNT],
                                    targets: totals[COUNT] as u64,
                                });
                            }
                        });
                    }
                },
            ),
        )
    }

    /// Every parameter whole on every worker, from streams in the layouts in which they are stored.
    ///
    /// # Errors
    /// As [`Graph::parameter`](advect_engine::Graph::parameter).
    pub fn gather<'s>(&self, parameters: Streams<'s, Tick>) -> Result<Streams<'s, Tick>> {
        let mesh = self.graph.mesh();
        let whole = |(name, stream): (String, Stream<'s, Tick, Batch>)| {
            let spec = self.stored(&name)?;
            let gathered = spec.relayout(mesh, &Layout::same(mesh))?;
            Ok((name, relayout(stream, &gathered)))
        };
        parameters.into_iter().map(whole).collect()
    }
}

/// The versions of the steps that `chosen` says.
pub fn select<'s>(
    parameters: &Streams<'s, Tick>,
    chosen: impl Fn(u64) -> bool + Clone + 'static,
) -> Streams<'s, Tick> {
    let one = |stream: &Stream<'s, Tick, Batch>| {
        let chosen = chosen.clone();
        stream
            .clone()
            .unary::<CapacityContainerBuilder<Batch>, _, _, _>(Pipeline, "Select", move |_, _| {
                move |input, output| {
                    input.for_each(|cap, batch| {
                        let step = cap.stamp().elements().first().map(|time| time.step);
                        if step.is_some_and(&chosen) {
                            output.session(&cap).give_container(batch);
                        }
                    });
                }
            })
    };
    parameters
        .iter()
        .map(|(name, stream)| (name.clone(), one(stream)))
        .collect()
}
