//! The dataflow of `fold` on one worker.
//!
//! ```text
//! Samples ──► training loop ─┬─► reports ──► pace of the samples
//!                            └─► versions ──► Select ─┬─► cross-entropy of the held-out alignment
//!                                                     └─► recovery of its masked residues
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use advect_connectors::checkpoint::{Checkpoint, Progress};
use advect_engine::fabric::Context;
use advect_engine::graph::Streams;
use advect_engine::source::Pace;
use advect_engine::{EngineError, Tick};
use advect_operators::training::{Control, Evaluation, Report, Trainable, select};
use timely::dataflow::operators::{Inspect, Probe};
use timely::dataflow::{ProbeHandle, Scope};
use timely::worker::Worker;

use super::alignment::Alignments;
use super::load::{Cuts, Places};
use super::sample::Sample;
use super::settings::Settings;
use crate::batches::{self, Steps};
use crate::checkpoints;
use crate::pipeline::Stop;

/// Steps whose batches are there before the step before them is done.
const AHEAD: u64 = 1;
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
    /// What to begin from.
    pub(crate) start: Option<Arc<Checkpoint>>,
    /// Where checkpoints are written.
    pub(crate) checkpoints: PathBuf,
}

impl Shared {
    /// How far training had come when the run began.
    pub(crate) fn begun(&self) -> (u64, u64) {
        let start = self.start.as_ref().map(|c| c.progress());
        start.map_or((0, 0), |progress| (progress.step, progress.sample))
    }

    /// The first sample of a step.
    fn first_sample(&self, step: u64) -> u64 {
        let (steps, samples) = self.begun();
        samples + (step - steps) * self.settings.batching.step() as u64
    }

    /// What a checkpoint after `steps` steps says of itself.
    fn progress(&self, steps: u64) -> Progress {
        let (settings, recipe) = (&self.settings, &self.settings.recipe);
        let job = [
            ("pipeline", "fold".to_owned()),
            ("mesh", settings.strategy.to_string()),
            ("optimizer", format!("{:?}", recipe.method)),
            ("model", format!("{:?}", settings.model)),
        ];
        Progress {
            step: steps,
            sample: self.first_sample(steps),
            seed: recipe.seed,
            job: job.map(|(name, what)| (name.to_owned(), what)).into(),
        }
    }

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

/// Runs the job on this worker.
///
/// # Panics
/// If the graph cannot be wired, or what it begins from does not fit: others may wait for this worker,
/// and the fabric ends the job on all of them with the reason.
pub(crate) fn run(
    worker: &mut Worker,
    context: &Context,
    shared: &Arc<Shared>,
    heard: impl FnMut(Event) + 'static,
) {
    let probe = ProbeHandle::new();
    let heard: Heard = Rc::new(RefCell::new(heard));
    let wired = worker.dataflow::<Tick, _, _>(|scope| wire(scope, shared, &heard, &probe));
    if let Err(e) = wired {
        panic!("{e}");
    }
    context.drive(worker, || !probe.done());
}

type Heard = Rc<RefCell<dyn FnMut(Event)>>;

fn wire<'s>(
    scope: Scope<'s, Tick>,
    shared: &Arc<Shared>,
    heard: &Heard,
    probe: &ProbeHandle<Tick>,
) -> Result<(), EngineError> {
    let (settings, trainable) = (&shared.settings, &shared.trainable);
    let (steps, worker) = (settings.recipe.schedule.steps, scope.index());
    let mesh = trainable.graph.mesh();
    let end = Rc::new(Cell::new(steps));
    let pace: Pace<Tick> = Pace::new(AHEAD, |time| time.step);
    let (begin, _) = shared.begun();
    let at = |end: &Rc<Cell<u64>>| Steps {
        begin,
        end: Rc::clone(end),
        pace: pace.clone(),
    };

    let cuts = Cuts::new(&trainable.graph, worker);
    let names: Vec<String> = cuts.names().into_iter().map(str::to_owned).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let own = Arc::clone(shared);
    let inputs = batches::wire(scope, "Samples", &names, at(&end), move |step| {
        let train = &own.alignments.train;
        let pieces = |places: &Places| cuts.pieces(places, train, &own.settings);
        training(&own, step).iter().map(pieces).collect()
    });
    let stop = shared.stop.clone();
    let in_flight = Some(settings.strategy.in_flight(worker, settings.in_flight));
    let saving = Arc::clone(shared);
    let control = Control {
        in_flight,
        deferred: None,
        stop: Rc::new(move || stop.is_set()),
        saves: Rc::new(move |report| {
            let settings = &saving.settings;
            settings.saves(report.step + 1) || (report.stop && settings.checkpoint.every > 0)
        }),
        start: (shared.start.as_ref()).map(|from| checkpoints::start(from, mesh, worker)),
    };
    let trained = trainable.wire(scope, inputs, &settings.recipe, control)?;
    let learned = trained.learned().clone();
    let said = Arc::clone(shared);
    let (place, keep) = (&shared.checkpoints, settings.checkpoint.keep);
    checkpoints::write(trained.snapshots, mesh, place, keep, move |steps| {
        said.progress(steps)
    })
    .probe_with(probe);
    let (told, last) = (Rc::clone(heard), Rc::clone(&end));
    let reports = trained.reports.inspect(move |report: &Report| {
        if report.stop {
            // all that the pace has let out on any worker by now
            last.set(last.get().min(report.step + AHEAD + 1));
        }
        (told.borrow_mut())(Event::Step(*report));
    });
    pace.follow(reports).probe_with(probe);

    let (validating, reached) = (Arc::clone(shared), Rc::clone(&end));
    // a run that is stopped is not validated any more
    let chosen =
        Rc::new(move |step: u64| validating.settings.validates(step) && reached.get() == steps);
    let every = Rc::new(Cell::new(steps + 1));
    let samples = Rc::new(batched(shared));
    let measured = shared.evaluated.as_ref().unwrap_or(trainable);
    type Told = fn(Evaluation) -> Event;
    let graphs: [(&str, &Trainable, Told); 2] = [
        ("Validation samples", measured, Event::Validated),
        ("Recovery samples", &shared.recovery, Event::Recovered),
    ];
    for (name, measured, kind) in graphs {
        let cuts = Cuts::new(&measured.graph, worker);
        let names: Vec<String> = cuts.names().into_iter().map(str::to_owned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (own, samples, when) = (Arc::clone(shared), Rc::clone(&samples), Rc::clone(&chosen));
        let inputs = batches::wire(scope, name, &names, at(&every), move |step| {
            let held_out = &own.alignments.held_out;
            let pieces = |places: &Places| cuts.pieces(places, held_out, &own.settings);
            match when(step) {
                true => samples.iter().map(pieces).collect(),
                false => Vec::new(),
            }
        });
        let when = Rc::clone(&chosen);
        let versions = select(&learned, move |step| when(step));
        let found = measured.evaluate(used(measured, versions), inputs, in_flight)?;
        let told = Rc::clone(heard);
        let seen = found.inspect(move |found| (told.borrow_mut())(kind(*found)));
        seen.probe_with(probe);
    }
    Ok(())
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
    let (batching, first) = (settings.batching, shared.first_sample(step));
    let (extents, masking, seed) = (settings.extents(), settings.masking, settings.recipe.seed);
    let sample = |n: usize| Sample::draw(train, extents, masking, seed, first + n as u64);
    let micro = |j: usize| batching.places(j).map(|place| place.map(sample)).collect();
    (0..batching.accumulation()).map(micro).collect()
}

/// The samples that validate as micro-batches; the last is filled up with none.
fn batched(shared: &Shared) -> Vec<Places> {
    let moment = shared.settings.batching.moment();
    let samples = shared.validation();
    let filled = |chunk: &[Sample]| {
        let mut chunk: Places = chunk.iter().cloned().map(Some).collect();
        chunk.resize(moment, None);
        chunk
    };
    samples.chunks(moment).map(filled).collect()
}
