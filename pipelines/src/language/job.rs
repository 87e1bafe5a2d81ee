//! The dataflow of `language` on one worker.
//!
//! ```text
//! Windows ──► training loop ─┬─► reports ──► pace of the windows
//!                            └─► versions ─┬─► Select ──► validation
//!                                          └─► Select ──► test, whole parameters
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use advect_engine::fabric::Context;
use advect_engine::{EngineError, Shard, Tick};
use advect_operators::training::{Evaluation, Report, Trainable, select};
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
use crate::training::batches::Steps;
use crate::training::whole::{Whole, keep_whole};
use crate::training::{Begin, Job, Learning, Origin, Told, Training, learn};

/// What every worker of a process shares.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) corpus: Corpus,
    pub(crate) trainable: Trainable,
    /// The same model when nothing is left out, if something is left out while it learns.
    pub(crate) evaluated: Option<Trainable>,
    pub(crate) stop: Stop,
    pub(crate) origin: Origin,
    /// The weights to begin from, if there is no checkpoint.
    pub(crate) weights: Option<Arc<Weights>>,
}

impl Job for Shared {
    const NAME: &'static str = "language";

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
/// Which versions, by the steps taken before them.
type Chosen = Rc<dyn Fn(u64) -> bool>;

fn wire<'s>(
    scope: Scope<'s, Tick>,
    shared: &Arc<Shared>,
    heard: &Heard,
    whole: &Whole,
    probe: &ProbeHandle<Tick>,
) -> Result<(), EngineError> {
    let (settings, trainable) = (&shared.settings, &shared.trainable);
    let steps = settings.training.steps();
    let text: Rc<dyn AsRef<[u8]>> = Rc::new(Text(Arc::clone(shared)));
    let (mesh, worker) = (trainable.graph.mesh(), scope.index());
    let learning = Learning::of(&**shared);
    let load = |name: &str, steps: Steps, samples: Box<dyn FnMut(u64) -> Vec<Starts>>| {
        let text = Rc::clone(&text);
        Loader { text, samples }.wire(scope, name, &trainable.graph, steps)
    };

    let inputs = load("Windows", learning.steps(), Box::new(training(shared)))?;
    let begin = Begin {
        start: match (&shared.origin.start, &shared.weights) {
            (Some(from), _) => Some(checkpoints::start(from, mesh, worker)),
            (None, Some(weights)) => Some(weights::start(weights, mesh, worker)),
            (None, None) => None,
        },
        deferred: (settings.zero_bubble).then(|| {
            settings
                .training
                .strategy
                .deferred(settings.training.in_flight)
        }),
    };
    let told = Rc::clone(heard);
    let step = move |report: &Report| (told.borrow_mut())(Event::Step(*report));
    let learned = learn(scope, shared, &learning, inputs, begin, (step, probe))?;

    let versions = |chosen: Chosen| select(&learned, move |step| chosen(step));
    let evaluate =
        |name: &str, windows: Vec<Starts>, chosen: Chosen, kind: fn(Evaluation) -> Event| {
            let when = chosen.clone();
            let batches = move |step| match when(step) {
                true => windows.clone(),
                false => Vec::new(),
            };
            let inputs = load(name, learning.versions(), Box::new(batches))?;
            let measured = shared.evaluated.as_ref().unwrap_or(trainable);
            let in_flight = Some(settings.training.in_flight(worker));
            let found = measured.evaluate(versions(chosen), inputs, in_flight)?;
            let told = Rc::clone(heard);
            let seen = found.inspect(move |found| (told.borrow_mut())(kind(*found)));
            seen.probe_with(probe);
            Ok::<_, EngineError>(())
        };
    let validating = Arc::clone(shared);
    let validates: Chosen =
        Rc::new(learning.chosen(move |step| validating.settings.validates(step)));
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

    keep_whole(trainable, versions(last), whole, probe)
}

/// The micro-batches of a step of training.
fn training(shared: &Arc<Shared>) -> impl FnMut(u64) -> Vec<Starts> + 'static {
    let (settings, part) = (&shared.settings, shared.corpus.train());
    let windows = Windows::new(
        part.len(),
        settings.model.context,
        settings.training.recipe.seed,
    );
    let (batching, mut windows) = (settings.training.batching, windows);
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
    let moment = settings.training.batching.moment();
    let filled = |chunk: &[Option<usize>]| {
        let mut chunk = chunk.to_vec();
        chunk.resize(moment, None);
        chunk
    };
    starts.chunks(moment).map(filled).collect()
}
