//! The dataflow of `language` on one worker.
//!
//! ```text
//! Windows ──► training loop ─┬─► reports ──► pace of the windows
//!                            └─► versions ─┬─► Select ──► validation
//!                                          └─► Select ──► test, whole parameters
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use advect_connectors::checkpoint::{Checkpoint, Progress};
use advect_engine::fabric::Context;
use advect_engine::source::Pace;
use advect_engine::{EngineError, Shard, Tick};
use advect_operators::training::{Control, Evaluation, Report, Trainable, select};
use timely::dataflow::operators::{Inspect, Probe};
use timely::dataflow::{ProbeHandle, Scope};
use timely::worker::Worker;

use super::corpus::Corpus;
use super::load::{Loader, Starts};
use super::settings::Settings;
use super::weights::{self, Weights};
use super::windows::Windows;
use crate::checkpoints;
use crate::pipeline::Stop;

/// Steps whose batches are there before the step before them is done.
const AHEAD: u64 = 1;

/// What every worker of a process shares.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) corpus: Corpus,
    pub(crate) trainable: Trainable,
    /// The same model when nothing is left out, if something is left out while it learns.
    pub(crate) evaluated: Option<Trainable>,
    pub(crate) stop: Stop,
    /// What to begin from.
    pub(crate) start: Option<Arc<Checkpoint>>,
    /// The weights to begin from, if there is no checkpoint.
    pub(crate) weights: Option<Arc<Weights>>,
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
            ("pipeline", "language".to_owned()),
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
}

/// What is told as it happens, on every worker alike.
pub(crate) enum Event {
    /// A step was taken.
    Step(Report),
    /// A version was validated.
    Validated(Evaluation),
    /// The last version was tested.
    Tested(Evaluation),
}

/// The text for a loader.
struct Text(Arc<Shared>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0.corpus.tokens
    }
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
    heard: impl FnMut(Event) + 'static,
) -> BTreeMap<String, Shard> {
    let probe = ProbeHandle::new();
    let whole: Rc<RefCell<BTreeMap<String, Shard>>> = Rc::default();
    let heard: Heard = Rc::new(RefCell::new(heard));
    let wired = worker.dataflow::<Tick, _, _>(|scope| wire(scope, shared, &heard, &whole, &probe));
    if let Err(e) = wired {
        panic!("{e}");
    }
    context.drive(worker, || !probe.done());
    whole.take()
}

type Heard = Rc<RefCell<dyn FnMut(Event)>>;
/// Which versions, by the steps taken before them.
type Chosen = Rc<dyn Fn(u64) -> bool>;

fn wire<'s>(
    scope: Scope<'s, Tick>,
    shared: &Arc<Shared>,
    heard: &Heard,
    whole: &Rc<RefCell<BTreeMap<String, Shard>>>,
    probe: &ProbeHandle<Tick>,
) -> Result<(), EngineError> {
    let (settings, trainable) = (&shared.settings, &shared.trainable);
    let steps = settings.recipe.schedule.steps;
    let text: Rc<dyn AsRef<[u8]>> = Rc::new(Text(Arc::clone(shared)));
    let end = Rc::new(Cell::new(steps));
    let pace: Pace<Tick> = Pace::new(AHEAD, |time| time.step);
    let (begin, _) = shared.begun();
    let load = |name: &str, end: &Rc<Cell<u64>>, samples: Box<dyn FnMut(u64) -> Vec<Starts>>| {
        let (text, end) = (Rc::clone(&text), Rc::clone(end));
        let loader = Loader {
            text,
            samples,
            begin,
            end,
        };
        loader.wire(scope, name, &trainable.graph, &pace)
    };

    let inputs = load("Windows", &end, Box::new(training(shared)))?;
    let stop = shared.stop.clone();
    let (mesh, worker) = (trainable.graph.mesh(), scope.index());
    let in_flight = Some(settings.strategy.in_flight(worker, settings.in_flight));
    let saving = Arc::clone(shared);
    let control = Control {
        in_flight,
        deferred: (settings.zero_bubble).then(|| settings.strategy.deferred(settings.in_flight)),
        stop: Rc::new(move || stop.is_set()),
        saves: Rc::new(move |report| {
            let settings = &saving.settings;
            settings.saves(report.step + 1) || (report.stop && settings.checkpoint.every > 0)
        }),
        start: match (&shared.start, &shared.weights) {
            (Some(from), _) => Some(checkpoints::start(from, mesh, worker)),
            (None, Some(weights)) => Some(weights::start(weights, mesh, worker)),
            (None, None) => None,
        },
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

    let versions = |chosen: Chosen| select(&learned, move |step| chosen(step));
    let every = Rc::new(Cell::new(steps + 1));
    let evaluate =
        |name: &str, windows: Vec<Starts>, chosen: Chosen, kind: fn(Evaluation) -> Event| {
            let when = chosen.clone();
            let batches = move |step| match when(step) {
                true => windows.clone(),
                false => Vec::new(),
            };
            let inputs = load(name, &every, Box::new(batches))?;
            let measured = shared.evaluated.as_ref().unwrap_or(trainable);
            let found = measured.evaluate(versions(chosen), inputs, in_flight)?;
            let told = Rc::clone(heard);
            let seen = found.inspect(move |found| (told.borrow_mut())(kind(*found)));
            seen.probe_with(probe);
            Ok::<_, EngineError>(())
        };
    let (validating, reached) = (Arc::clone(shared), Rc::clone(&end));
    // a run that is stopped is not validated any more
    let validates: Chosen =
        Rc::new(move |step| validating.settings.validates(step) && reached.get() == steps);
    let validated = Rc::clone(&validates);
    let last: Chosen = Rc::new(move |step| step == steps && validated(step));
    let windows = contiguous(
        shared,
        shared.corpus.validate(),
        settings.validation.samples,
    );
    evaluate("Validation windows", windows, validates, Event::Validated)?;
    let windows = contiguous(shared, shared.corpus.test(), usize::MAX);
    evaluate("Test windows", windows, Rc::clone(&last), Event::Tested)?;

    for (name, stream) in trainable.gather(versions(last))? {
        let whole = Rc::clone(whole);
        let seen = stream.inspect_core(move |event| {
            if let Ok((_, batch)) = event {
                for shard in &batch.shards {
                    whole.borrow_mut().insert(name.clone(), shard.clone());
                }
            }
        });
        seen.probe_with(probe);
    }
    Ok(())
}

/// The micro-batches of a step of training.
fn training(shared: &Arc<Shared>) -> impl FnMut(u64) -> Vec<Starts> + 'static {
    let (settings, part) = (&shared.settings, shared.corpus.train());
    let windows = Windows::new(part.len(), settings.model.context, settings.recipe.seed);
    let (batching, mut windows) = (settings.batching, windows);
    let shared = Arc::clone(shared);
    let part = part.start;
    move |step| {
        let first = shared.first_sample(step);
        let micro = |j: usize| {
            // a part without a window was refused when the text was read
            let mut start = |n: usize| windows.as_mut().map(|w| part + w.start(first + n as u64));
            batching
                .places(j)
                .map(|place| place.and_then(&mut start))
                .collect()
        };
        (0..batching.accumulation()).map(micro).collect()
    }
}

/// The first windows of a part of the text side by side, at most `samples` of them, as micro-batches;
/// the last is filled up with none.
fn contiguous(shared: &Shared, part: Range<usize>, samples: usize) -> Vec<Starts> {
    let (settings, context) = (&shared.settings, shared.settings.model.context);
    let starts: Vec<Option<usize>> = (part.clone().step_by(context))
        .take_while(|start| start + context < part.end)
        .take(samples.max(1))
        .map(Some)
        .collect();
    let moment = settings.batching.moment();
    let filled = |chunk: &[Option<usize>]| {
        let mut chunk = chunk.to_vec();
        chunk.resize(moment, None);
        chunk
    };
    starts.chunks(moment).map(filled).collect()
}
