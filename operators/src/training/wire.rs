//! A training loop as a dataflow.

use std::collections::BTreeMap;
use std::rc::Rc;

use advect_engine::graph::{Kept, Spec, Streams, Wiring};
use advect_engine::source::tensors;
use advect_engine::{Batch, Data, EngineError, Mesh, Placement, Relayout, Result, Tick, relayout};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::{Concat, Concatenate, ConnectLoop, Feedback};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::{Scope, Stream, StreamVec};

use super::tally::{self, COUNT, LOSS, SHARE, Source};
use super::update::{Report, Weights, update};
use super::{Recipe, Snapshot, Start, Trainable};
use crate::network::real::{Real, as_real};

/// The builder of batches.
type Batches = CapacityContainerBuilder<Batch>;

/// What steers a training loop from outside.
#[derive(Clone)]
pub struct Control {
    /// The most micro-batches that a worker has in work at once; then inputs come in their order.
    pub in_flight: Option<usize>,
    /// Makes cotangents of parameters when a worker has nothing else to do, with so many micro-batches in
    /// work or waiting for that at most ([`Wiring::deferred`]).
    pub deferred: Option<usize>,
    /// Asked on every worker when a step is complete; its report says on all of them whether any
    /// worker wants to stop.
    pub stop: Rc<dyn Fn() -> bool>,
    /// After which steps a snapshot is given.
    pub saves: Rc<dyn Fn(&Report) -> bool>,
    /// Where to go on; `None` begins with first values.
    pub start: Option<Start>,
}

impl Default for Control {
    fn default() -> Self {
        Control {
            in_flight: None,
            deferred: None,
            stop: Rc::new(|| false),
            saves: Rc::new(|_| false),
            start: None,
        }
    }
}

/// A training loop that has been wired.
pub struct Trained<'s> {
    /// What every step was, at its last micro-batch, the same on every worker.
    pub reports: StreamVec<'s, Tick, Report>,
    /// What this worker holds after the steps that were chosen.
    pub snapshots: StreamVec<'s, Tick, Snapshot>,
    /// Parameters by name, once a version, in the layouts in which they are stored.
    pub parameters: Streams<'s, Tick>,
    /// Their running means over the steps, if the recipe takes any (Polyak and Juditsky 1992; exponential).
    pub averages: Option<Streams<'s, Tick>>,
    /// What this worker holds of them, after the last step that has been taken.
    pub weights: Weights,
    /// What waits on this worker for cotangents.
    pub kept: Rc<Kept>,
}

impl<'s> Trained<'s> {
    /// What was learned, to be measured and kept: the running means if there are any, or the parameters.
    pub fn learned(&self) -> &Streams<'s, Tick> {
        self.averages.as_ref().unwrap_or(&self.parameters)
    }
}

impl Trainable {
    /// Wires the loop: `inputs` gives this worker's pieces of every input of the graph at every
    /// (step, micro-batch), step after step from 0 or where it starts. A step is taken when all inputs have left it.
    ///
    /// # Errors
    /// As [`Graph::wire`](advect_engine::Graph::wire) and
    /// [`Graph::backward`](advect_engine::Graph::backward): a parameter whose gradient is cut is an
    /// error. [`EngineError::Layout`] if a parameter is stored in partial sums or halos. What reading
    /// the start says.
    pub fn wire<'s>(
        &self,
        scope: Scope<'s, Tick>,
        inputs: Streams<'s, Tick>,
        recipe: &Recipe,
        control: Control,
    ) -> Result<Trained<'s>> {
        let (mesh, worker) = (self.graph.mesh(), scope.index());
        let specs = self.all_stored()?;
        let start = control.start.as_ref();
        let weights = Weights::first(&self.parameters, &specs, recipe, mesh, worker, start)?;
        let (handle, later) = scope.feedback::<Batch>(Tick::new(1, 0));
        let begin = Tick::new(start.map_or(0, |start| start.steps), 0);
        let first = weights
            .shards(recipe)
            .into_iter()
            .map(|shard| (begin, shard));
        let first = tensors(scope, "First values", first.collect());
        let versions = first.concat(later);
        let names = self.parameters.iter().map(|p| p.name.clone());
        let copies = if recipe.average.is_some() { 2 } else { 1 };
        let mut sorted = sort(versions, copies * specs.len());
        let means = sorted.split_off(specs.len());
        let averages = (recipe.average).map(|_| names.clone().zip(means).collect());
        let parameters: Streams<'s, Tick> = names.zip(sorted).collect();
        let mut feeds = inputs;
        feeds.extend(parameters.iter().map(|(name, s)| (name.clone(), s.clone())));
        let wiring = Wiring {
            in_flight: control.in_flight,
            deferred: control.deferred,
            ..Wiring::default()
        };
        let wired = self.graph.wire_with(feeds, wiring)?;

        let outputs = wired.outputs();
        let (loss, spec) = self.output(&outputs, "loss")?;
        let seeds = seeds(loss, spec.dual()?, mesh)?;
        let asked: Vec<&str> = self.parameters.iter().map(|p| p.name.as_str()).collect();
        let seeds = BTreeMap::from([("loss".to_owned(), seeds)]);
        let mut cotangents = self.graph.backward(&wired, seeds, &asked)?;

        let mut sources = self.measured(&outputs)?;
        let mut gradients = Vec::new();
        for (i, (parameter, spec)) in self.parameters.iter().zip(specs).enumerate() {
            let cotangent = cotangents.remove(&parameter.name);
            let cotangent = cotangent.ok_or_else(|| missing(&parameter.name))?;
            let gradient = relayout(cotangent, &reduction(mesh, &spec)?);
            gradients.push(keyed(gradient.clone(), i as u64));
            sources.push(Source {
                stream: gradient,
                spec,
                slot: tally::squares_of(i),
            });
        }
        let totals = tally::totals(mesh, sources, control.stop)?;
        let gradients = scope.concatenate(gradients);
        let shares = self.shares();
        let updated = update(
            gradients,
            (totals, shares),
            &weights,
            recipe.clone(),
            control.saves,
        );
        updated.versions.connect_loop(handle);
        Ok(Trained {
            reports: updated.reports,
            snapshots: updated.snapshots,
            parameters,
            averages,
            weights,
            kept: wired.kept(),
        })
    }

    /// Bytes that `worker` sends for the gradients of one step, beyond
    /// [`Graph::bytes_sent_back`](advect_engine::Graph::bytes_sent_back): from sums of the graph to
    /// the layouts in which the parameters are stored.
    ///
    /// # Errors
    /// As [`wire`](Self::wire).
    pub fn gradient_bytes_sent(&self, worker: usize) -> Result<usize> {
        let mesh = self.graph.mesh();
        let sent = |spec: &Spec| Ok(reduction(mesh, spec)?.bytes_sent(worker));
        self.all_stored()?.iter().map(sent).sum()
    }

    /// The parameters as they are stored.
    fn all_stored(&self) -> Result<Vec<Spec>> {
        let known = self.graph.parameters().count();
        if known != self.parameters.len() {
            return Err(EngineError::Operator {
                operator: "Trainable".to_owned(),
                why: format!(
                    "the graph has {known} parameters and {} have first values; give each its own",
                    self.parameters.len()
                ),
            });
        }
        self.parameters
            .iter()
            .map(|p| self.stored(&p.name))
            .collect()
    }

    /// A parameter as it is stored.
    pub(super) fn stored(&self, name: &str) -> Result<Spec> {
        let found = self.graph.parameters().find(|(n, _)| *n == name);
        let (_, value) = found.ok_or_else(|| missing(name))?;
        let spec = self.graph.spec(value).clone();
        let stored = |p: &Placement| {
            matches!(
                p,
                Placement::Same | Placement::Split { .. } | Placement::At { .. }
            )
        };
        if spec.layout.axes.iter().all(stored) {
            return Ok(spec);
        }
        Err(EngineError::Layout {
            layout: spec.layout.to_string(),
            why: format!("'{name}' is stored cut or whole; relayout it to where it is used"),
        })
    }

    /// Whether a share of the loss is told on its own.
    pub(super) fn shares(&self) -> bool {
        self.graph.outputs().any(|(name, _)| name == "share")
    }

    /// What is added up of every micro-batch: loss, number of targets, and a share of the loss if there is one.
    pub(super) fn measured<'s>(&self, outputs: &Streams<'s, Tick>) -> Result<Vec<Source<'s>>> {
        let source = |(slot, name)| {
            let (stream, spec) = self.output(outputs, name)?;
            Ok(Source { stream, spec, slot })
        };
        let share = self.shares().then_some((SHARE, "share"));
        [(LOSS, "loss"), (COUNT, "count")]
            .into_iter()
            .chain(share)
            .map(source)
            .collect()
    }

    /// The stream of an output among `outputs`, and what it is.
    fn output<'s>(
        &self,
        outputs: &Streams<'s, Tick>,
        name: &str,
    ) -> Result<(Stream<'s, Tick, Batch>, Spec)> {
        let found = self.graph.outputs().find(|(n, _)| *n == name);
        let (found, stream) = found.zip(outputs.get(name)).ok_or_else(|| missing(name))?;
        Ok((stream.clone(), self.graph.spec(found.1).clone()))
    }
}

/// The move of a gradient from what the adjoint gives to where its parameter is stored.
fn reduction(mesh: &Mesh, spec: &Spec) -> Result<Relayout> {
    spec.dual()?.relayout(mesh, &spec.layout)
}

fn missing(name: &str) -> EngineError {
    EngineError::Operator {
        operator: "Trainable".to_owned(),
        why: format!("the graph has no '{name}'; a loop needs outputs 'loss' and 'count'"),
    }
}

/// One stream for each key.
fn sort<'s>(stream: Stream<'s, Tick, Batch>, keys: usize) -> Vec<Stream<'s, Tick, Batch>> {
    let mut builder = OperatorBuilder::new("Version".to_owned(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    let (mut outputs, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..keys {
        let (output, stream) = builder.new_output::<Batch>();
        outputs.push(OutputBuilder::<_, Batches>::from(output));
        streams.push(stream);
    }
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            input.for_each(|cap, batch| {
                let Some(time) = cap.stamp().elements().first() else {
                    return;
                };
                for mut shard in batch.shards.drain(..) {
                    let port = std::mem::take(&mut shard.key) as usize;
                    let cap = cap.delayed(time, port);
                    outputs[port].activate().session(&cap).give(shard);
                }
            });
        }
    });
    streams
}

/// The same tensors under another key.
fn keyed<'s>(stream: Stream<'s, Tick, Batch>, key: u64) -> Stream<'s, Tick, Batch> {
    stream.unary::<Batches, _, _, _>(Pipeline, "Key", move |_, _| {
        move |input, output| {
            input.for_each(|cap, batch| {
                let shards = batch.shards.drain(..).map(|mut shard| {
                    shard.key = key;
                    shard
                });
                output.session(&cap).give_iterator(shards);
            });
        }
    })
}

/// A cotangent of 1 for every loss: this worker's piece of it.
fn seeds<'s>(
    losses: Stream<'s, Tick, Batch>,
    dual: Spec,
    mesh: &Mesh,
) -> Result<Stream<'s, Tick, Batch>> {
    let one = as_real!(dual.dtype, T => T::data(vec![T::of(1.0)]));
    let one = one.unwrap_or_else(|| Data::zeros(dual.dtype, 1));
    let seed = dual.cut(mesh, 0, &one)?.swap_remove(losses.scope().index());
    Ok(
        losses.unary::<Batches, _, _, _>(Pipeline, "Seed", move |_, _| {
            move |input, output| {
                input.for_each(|cap, batch| {
                    let seeds = batch.shards.drain(..).map(|loss| {
                        let mut seed = seed.clone();
                        seed.key = loss.key;
                        seed
                    });
                    output.session(&cap).give_iterator(seeds);
                });
            }
        }),
    )
}
