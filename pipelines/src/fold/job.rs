//! The dataflow of `fold` on one worker.
//!
//! ```text
//! Samples ──► training loop ─┬─► reports ──► pace of the samples
//!                            └─► versions ─┬─► Select ─┬─► cross-entropy of the held-out alignment
//!                                          │           └─► recovery of its masked residues
//!                                          └─► Select ──► whole parameters of the last
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use advect_engine::fabric::Context;
use advect_engine::graph::Streams;
use advect_engine::{EngineError, Shard, Tick};
use advect_operators::training::{Evaluation, Report, Trainable, select};
use timely::dataflow::operators::{Inspect, Probe};
use timely::dataflow::{ProbeHandle, Scope};
use timely::worker::Worker;

use super::alignment::Alignments;
use super::load::{Cuts, Places};
use super::sample::Sample;
use super::settings::Settings;
use crate::checkpoints;
use crate::pipeline::Stop;
use crate::training::batches;
use crate::training::whole::{Whole, keep_whole};
use crate::training::{Begin, Job, Learning, Origin, Told, Training, learn};

/// The seed of the samples that validate, the same for every run.
const VALIDATION: u64 = 0x666f_6c64;

/// What every worker of a process shares.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) alignments: Alignments,
    pub(crate) trainable: Trainable,
    /// The same model when nothing is left out, if something is left out while it learns.
    pub(crate) evaluated: Option<Trainable>,
    /// What counts the letters that are recovered.
    pub(crate) recovery: Trainable,
    pub(crate) stop: Stop,
    pub(crate) origin: Origin,
}

impl Job for Shared {
    const NAME: &'static str = "fold";

    fn training(&self) -> &Training {
        &self.settings.training
    }

    fn trainable(&self) -> &Trainable {
        &self.trainable
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn stop(&self) -> &Stop {
        &self.stop
    }

    fn model(&self) -> &dyn Debug {
        &self.settings.model
    }
}

impl Shared {
    /// The samples that validate: all their targets are masked.
    pub(crate) fn validation(&self) -> Vec<Sample> {
        let (settings, held_out) = (&self.settings, &self.alignments.held_out);
        let (extents, masking) = (settings.extents(), settings.masking.plain());
        let sample = |n| Sample::draw(held_out, extents, masking, VALIDATION, n);
        (0..settings.validation.samples as u64)
            .map(sample)
            .collect()
    }
}

/// What is told as it happens, on every worker alike.
pub(crate) enum Event {
    /// A step was taken.
    Step(Report),
    /// The cross-entropy of a version on the held-out alignment.
    Validated(Evaluation),
    /// Its recovery, in the place of a loss.
    Recovered(Evaluation),
}

/// Runs the job on this worker; gives the whole parameters of the last version, if it was reached.
///
/// # Panics
/// If the graph cannot be wired, or what it begins from does not fit: others may wait for this worker,
/// and the fabric ends the job on all of them with the reason.
pub(crate) fn run(
    worker: &mut Worker,
    context: &Context,
    shared: &Arc<Shared>,
    heard: Told<Event>,
) -> BTreeMap<String, Shard> {
    let probe = ProbeHandle::new();
    let whole = Whole::default();
    let heard: Heard = Rc::new(RefCell::new(heard));
    let wired = worker.dataflow::<Tick, _, _>(|scope| wire(scope, shared, &heard, &whole, &probe));
    if let Err(e) = wired {
        panic!("{e}");
    }
    context.drive(worker, || !probe.done());
    whole.take()
}

type Heard = Rc<RefCell<dyn FnMut(Event)>>;

fn wire<'s>(
    scope: Scope<'s, Tick>,
    shared: &Arc<Shared>,
    heard: &Heard,
    whole: &Whole,
    probe: &ProbeHandle<Tick>,
) -> Result<(), EngineError> {
    let (settings, trainable) = (&shared.settings, &shared.trainable);
    let (mesh, worker) = (trainable.graph.mesh(), scope.index());
    let learning = Learning::of(&**shared);

    let cuts = Cuts::new(&trainable.graph, worker);
    let names: Vec<String> = cuts.names().into_iter().map(str::to_owned).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let own = Arc::clone(shared);
    let inputs = batches::wire(scope, "Samples", &names, learning.steps(), move |step| {
        let train = &own.alignments.train;
        let pieces = |places: &Places| cuts.pieces(places, train, &own.settings);
        training(&own, step).iter().map(pieces).collect()
    });
    let begin = Begin {
        start: (shared.origin.start.as_ref()).map(|from| checkpoints::start(from, mesh, worker)),
        ..Begin::default()
    };
    let told = Rc::clone(heard);
    let step = move |report: &Report| (told.borrow_mut())(Event::Step(*report));
    let learned = learn(scope, shared, &learning, inputs, begin, (step, probe))?;

    let validating = Arc::clone(shared);
    let chosen = Rc::new(learning.chosen(move |step| validating.settings.validates(step)));
    let samples = Rc::new(batched(shared));
    let measured = shared.evaluated.as_ref().unwrap_or(trainable);
    type Kind = fn(Evaluation) -> Event;
    let graphs: [(&str, &Trainable, Kind); 2] = [
        ("Validation samples", measured, Event::Validated),
        ("Recovery samples", &shared.recovery, Event::Recovered),
    ];
    for (name, measured, kind) in graphs {
        let cuts = Cuts::new(&measured.graph, worker);
        let names: Vec<String> = cuts.names().into_iter().map(str::to_owned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (own, samples, when) = (Arc::clone(shared), Rc::clone(&samples), Rc::clone(&chosen));
        let inputs = batches::wire(scope, name, &names, learning.versions(), move |step| {
            let held_out = &own.alignments.held_out;
            let pieces = |places: &Places| cuts.pieces(places, held_out, &own.settings);
            match when(step) {
                true => samples.iter().map(pieces).collect(),
                false => Vec::new(),
            }
        });
        let when = Rc::clone(&chosen);
        let versions = select(&learned, move |step| when(step));
        let in_flight = Some(settings.training.in_flight(worker));
        let found = measured.evaluate(used(measured, versions), inputs, in_flight)?;
        let told = Rc::clone(heard);
        let seen = found.inspect(move |found| (told.borrow_mut())(kind(*found)));
        seen.probe_with(probe);
    }
    let steps = settings.training.steps();
    let last = learning.chosen(move |step| step == steps);
    let last = Rc::new(last);
    let versions = select(&learned, move |step| last(step));
    keep_whole(trainable, versions, whole, probe)
}

/// Of all parameters those that a graph has: what counts letters has no distances.
fn used<'s>(measured: &Trainable, versions: Streams<'s, Tick>) -> Streams<'s, Tick> {
    let known: BTreeSet<&str> = measured.graph.parameters().map(|(name, _)| name).collect();
    let all = versions.into_iter();
    all.filter(|(name, _)| known.contains(name.as_str()))
        .collect()
}

/// The micro-batches of a step of training.
fn training(shared: &Shared, step: u64) -> Vec<Places> {
    let (settings, train) = (&shared.settings, &shared.alignments.train);
    let (batching, first) = (settings.training.batching, shared.first_sample(step));
    let (extents, masking, seed) = (
        settings.extents(),
        settings.masking,
        settings.training.recipe.seed,
    );
    let sample = |n: usize| Sample::draw(train, extents, masking, seed, first + n as u64);
    let micro = |j: usize| batching.places(j).map(|place| place.map(sample)).collect();
    (0..batching.accumulation()).map(micro).collect()
}

/// The samples that validate as micro-batches; the last is filled up with none.
fn batched(shared: &Shared) -> Vec<Places> {
    let moment = shared.settings.training.batching.moment();
    let samples = shared.validation();
    let filled = |chunk: &[Sample]| {
        let mut chunk: Places = chunk.iter().cloned().map(Some).collect();
        chunk.resize(moment, None);
        chunk
    };
    samples.chunks(moment).map(filled).collect()
}
