//! The edge of parameter versions: gradients and totals of a step in, the parameters of the next out.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use advect_engine::graph::Moment;
use advect_engine::{Batch, DType, Data, EngineError, Mesh, Result, Shard, Spec, Tick};
use serde::Serialize;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Stream, StreamVec};
use timely::progress::frontier::MutableAntichain;

use super::method::Stride;
use super::recipe::AVERAGE;
use super::tally::{self, COUNT, STOP};
use super::{Held, Parameter, Recipe, Snapshot, Start};
use crate::kernels::wide;
use crate::network::real::{Real, as_real};

/// What a step was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Report {
    /// The step, from 0.
    pub step: u64,
    /// Mean loss over the targets of the step, before it.
    pub loss: f64,
    /// What of it is told on its own, if the graph has an output `share`.
    pub share: Option<f64>,
    /// Number of targets.
    pub targets: u64,
    /// Norm of the gradient of the mean loss, before it was clipped.
    pub norm: f64,
    /// The learning rate.
    pub rate: f64,
    /// Whether a worker wants to stop.
    pub stop: bool,
}

/// A parameter as one worker holds it.
#[derive(Debug, Clone)]
struct Piece {
    parameter: Parameter,
    spec: Spec,
    shape: Vec<usize>,
    weights: Data,
    state: Vec<Data>,
}

/// The parameters of one worker and the state of their optimizer.
#[derive(Debug, Clone)]
pub struct Weights {
    pieces: Rc<RefCell<Vec<Piece>>>,
}

impl Weights {
    /// First values and no past, or those of `start`.
    pub(crate) fn first(
        parameters: &[Parameter],
        specs: &[Spec],
        recipe: &Recipe,
        mesh: &Mesh,
        worker: usize,
        start: Option<&Start>,
    ) -> Result<Self> {
        let pieces = parameters.iter().zip(specs).map(|(parameter, spec)| {
            let first = || {
                parameter
                    .initial
                    .piece(recipe.seed, &parameter.name, spec, mesh, worker)
            };
            let shape = spec.local_shape(mesh, worker);
            let len = shape.iter().product();
            let read = |start: &Start, slot| (start.read)(&parameter.name, slot, spec);
            let weights = match start {
                Some(start) => read(start, None)?,
                None => first().into_data(),
            };
            let state = |slot: &'static str| match start {
                Some(start) if start.steps > 0 => read(start, Some(slot)),
                _ if slot == AVERAGE => Ok(weights.clone()),
                _ => Ok(Data::zeros(spec.dtype, len)),
            };
            let state = recipe
                .slots()
                .into_iter()
                .map(state)
                .collect::<Result<_>>()?;
            Ok(Piece {
                parameter: parameter.clone(),
                spec: spec.clone(),
                weights,
                state,
                shape,
            })
        });
        Ok(Weights {
            pieces: Rc::new(RefCell::new(pieces.collect::<Result<_>>()?)),
        })
    }

    /// The pieces, with the names of their parameters, in the layouts in which they are stored.
    pub fn pieces(&self) -> Vec<(String, Shard)> {
        let pieces = self.pieces.borrow();
        let named = pieces.iter().map(|piece| {
            let shard = Shard::new(0, piece.shape.clone(), piece.weights.clone());
            (piece.parameter.name.clone(), shard)
        });
        named.collect()
    }

    /// Everything that training goes on from, without a copy: a step that follows makes its own.
    fn held(&self, recipe: &Recipe) -> Vec<Held> {
        let held = |piece: &Piece| -> Vec<Held> {
            let of = |slot, data: &Data| Held {
                name: piece.parameter.name.clone(),
                slot,
                spec: piece.spec.clone(),
                data: data.clone(),
            };
            let state = recipe.slots().into_iter().zip(&piece.state);
            let state = state.map(|(slot, data)| of(Some(slot), data));
            std::iter::once(of(None, &piece.weights))
                .chain(state)
                .collect()
        };
        self.pieces.borrow().iter().flat_map(held).collect()
    }

    /// The pieces as messages, keyed by their place; then their running means, if there are any.
    pub(crate) fn shards(&self, recipe: &Recipe) -> Vec<Shard> {
        let pieces: Ref<'_, Vec<Piece>> = self.pieces.borrow();
        let means = pieces.iter().filter(|_| recipe.average.is_some());
        let means = means.filter_map(|piece| Some((piece, piece.state.last()?)));
        let all = pieces.iter().map(|piece| (piece, &piece.weights));
        let all = (0..).zip(all.chain(means));
        all.map(|(key, (piece, data))| Shard::new(key, piece.shape.clone(), data.clone()))
            .collect()
    }

    /// Takes a step with the summed gradients, whose totals are `totals`.
    fn step(
        &self,
        recipe: &Recipe,
        step: u64,
        (totals, shares): (&[f64], bool),
        gradients: &BTreeMap<u64, Shard>,
    ) -> std::result::Result<Report, String> {
        let mut pieces = self.pieces.borrow_mut();
        let count = totals[COUNT];
        if count <= 0.0 {
            return Err("no target in all its micro-batches; give at least one".to_owned());
        }
        let loss = tally::loss(totals);
        let dtype = pieces.first().map(|piece| piece.spec.dtype);
        if !loss.is_finite() {
            return Err(format!(
                "the loss is {loss}; lower the learning rate, or look for such numbers in the inputs{}",
                dtype.map_or("", large)
            ));
        }
        let squares = &tally::squares(totals);
        if let Some(bad) = squares.iter().position(|s| !s.is_finite()) {
            return Err(format!(
                "the gradient of '{}' is not finite; lower the learning rate, or look for such numbers \
                 in the inputs{}",
                pieces[bad].parameter.name,
                large(pieces[bad].spec.dtype)
            ));
        }
        let norm = squares.iter().sum::<f64>().sqrt() / count;
        let shorten = recipe.clip.map_or(1.0, |clip| (clip / norm).min(1.0));
        let report = Report {
            step,
            loss: loss / count,
            share: shares.then(|| tally::share(totals) / count),
            targets: count as u64,
            norm,
            rate: recipe.schedule.rate(step),
            stop: totals[STOP] > 0.0,
        };
        for (piece, gradient) in pieces.iter_mut().zip(gradients.values()) {
            let stride = Stride {
                rate: report.rate,
                step,
                scale: shorten / count,
                decay: if piece.parameter.decays {
                    recipe.decay
                } else {
                    0.0
                },
            };
            let taken = as_real!(gradient.dtype(), T => piece.step::<T>(recipe, stride, gradient));
            taken.unwrap_or_default();
        }
        Ok(report)
    }
}

impl Piece {
    fn step<T: Real>(&mut self, recipe: &Recipe, stride: Stride, gradient: &Shard) {
        let Some(weights) = self.weights.get_mut::<T>() else {
            return;
        };
        let taken = self.state.iter_mut().filter_map(|slot| slot.get_mut::<T>());
        let mut state: Vec<Vec<T>> = taken.map(std::mem::take).collect();
        let gradient = gradient.elements::<T>();
        let own = recipe.method.slots().len();
        recipe
            .method
            .step(stride, weights, &mut state[..own], gradient);
        if let (Some(stays), Some(mean)) = (recipe.average, state.get_mut(own)) {
            // early means forget faster, as there is little to remember
            let n = stride.step as f64;
            let stays = stays.min((1.0 + n) / (10.0 + n));
            average(T::of(stays), T::of(1.0 - stays), weights, mean);
        }
        self.state = state.into_iter().map(T::data).collect();
    }
}

wide! {
    /// Moves running means towards weights.
    fn average<T: Real>(stays: T, comes: T, weights: &[T], mean: &mut [T]) {
        for (mean, &w) in mean.iter_mut().zip(weights) {
            *mean = stays * *mean + comes * w;
        }
    }
}

/// Gradients and totals of a version that have come so far.
#[derive(Default)]
struct Open {
    capabilities: Option<[Capability<Tick>; 3]>,
    totals: Vec<f64>,
    gradients: BTreeMap<u64, Shard>,
}

/// What an update gives.
pub(crate) struct Updated<'s> {
    /// The parameters of the next version, keyed as the gradients.
    pub(crate) versions: Stream<'s, Tick, Batch>,
    /// What the step was, the same on every worker.
    pub(crate) reports: StreamVec<'s, Tick, Report>,
    /// What this worker holds after the steps that were chosen.
    pub(crate) snapshots: StreamVec<'s, Tick, Snapshot>,
}

/// Steps `weights` with every version of `gradients` (keyed by parameter) and `totals`, which may have a share of the
/// loss; gives a snapshot after the steps that `saves` says.
pub(crate) fn update<'s>(
    gradients: Stream<'s, Tick, Batch>,
    (totals, shares): (Stream<'s, Tick, Batch>, bool),
    weights: &Weights,
    recipe: Recipe,
    saves: Rc<dyn Fn(&Report) -> bool>,
) -> Updated<'s> {
    let scope = gradients.scope();
    let worker = scope.index();
    let weights = weights.clone();
    let mut builder = OperatorBuilder::new("Update".to_owned(), scope);
    let mut gradients = builder.new_input(gradients, Pipeline);
    let mut totals = builder.new_input(totals, Pipeline);
    let (next, versions) = builder.new_output::<Batch>();
    let mut next = OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(next);
    let (report, reports) = builder.new_output::<Vec<Report>>();
    let mut report = OutputBuilder::<_, CapacityContainerBuilder<Vec<Report>>>::from(report);
    let (snapshot, snapshots) = builder.new_output::<Vec<Snapshot>>();
    let mut snapshot = OutputBuilder::<_, CapacityContainerBuilder<Vec<Snapshot>>>::from(snapshot);
    builder.build(move |capabilities| {
        drop(capabilities);
        let count = weights.pieces.borrow().len();
        let mut open: BTreeMap<Tick, Open> = BTreeMap::new();
        move |_: &[MutableAntichain<Tick>]| {
            gradients.for_each(|cap, batch| {
                if let Some(time) = cap.stamp().elements().first() {
                    let entry = open.entry(time.version()).or_default();
                    let keyed = batch.shards.drain(..).map(|shard| (shard.key, shard));
                    entry.gradients.extend(keyed);
                }
            });
            totals.for_each(|cap, batch| {
                if let Some(time) = cap.stamp().elements().first() {
                    let entry = open.entry(time.version()).or_default();
                    entry.capabilities = Some([0, 1, 2].map(|port| cap.delayed(time, port)));
                    for shard in batch.shards.drain(..) {
                        entry.totals = shard.elements::<f64>().to_vec();
                    }
                }
            });
            while let Some(entry) = open.first_entry() {
                let Open {
                    capabilities: Some(caps),
                    totals,
                    gradients,
                } = entry.get()
                else {
                    break;
                };
                if gradients.len() < count {
                    break;
                }
                let step = entry.key().step;
                let made = match weights.step(&recipe, step, (totals, shares), gradients) {
                    Ok(made) => made,
                    Err(why) => panic!("{}", refused(worker, step, why)),
                };
                report.activate().session(&caps[1]).give(made);
                if saves(&made) {
                    let taken = Snapshot {
                        steps: step + 1,
                        held: Rc::new(weights.held(&recipe)),
                    };
                    snapshot.activate().session(&caps[2]).give(taken);
                }
                let mut next = next.activate();
                let mut session = next.session(&caps[0]);
                weights
                    .shards(&recipe)
                    .into_iter()
                    .for_each(|shard| session.give(shard));
                drop(session);
                entry.remove();
            }
        }
    });
    Updated {
        versions,
        reports,
        snapshots,
    }
}

/// What else makes a number of this type not finite.
fn large(dtype: DType) -> &'static str {
    match dtype {
        DType::Canonical => {
            ", or for numbers that are large: canonical terms are at most 2^17 and sums less than 2^19; take \
             fewer samples a micro-batch"
        }
        _ => "",
    }
}

/// Why a step cannot be taken: the job ends with it.
fn refused(worker: usize, step: u64, why: String) -> EngineError {
    EngineError::Operator {
        operator: format!("Update on worker {worker} at step {step}"),
        why,
    }
}
