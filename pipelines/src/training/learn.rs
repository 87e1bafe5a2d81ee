//! The loop of training on one worker.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use advect_engine::graph::Streams;
use advect_engine::source::Pace;
use advect_engine::{EngineError, Tick};
use advect_operators::training::{Control, Report, Start};
use timely::dataflow::operators::{Inspect, Probe};
use timely::dataflow::{ProbeHandle, Scope};

use super::Job;
use super::batches::Steps;
use crate::checkpoints;

/// Steps whose batches are there before the step before them is done.
const AHEAD: u64 = 1;

/// When steps are taken.
pub(crate) struct Learning {
    begin: u64,
    /// No step from this one on; earlier if the run is stopped.
    end: Rc<Cell<u64>>,
    pace: Pace<Tick>,
    last: u64,
}

impl Learning {
    /// From where a run begins to its last step.
    pub(crate) fn of(job: &impl Job) -> Self {
        let last = job.training().steps();
        Learning {
            begin: job.origin().begun().0,
            end: Rc::new(Cell::new(last)),
            pace: Pace::new(AHEAD, |time: &Tick| time.step),
            last,
        }
    }

    fn until(&self, end: &Rc<Cell<u64>>) -> Steps {
        Steps {
            begin: self.begin,
            end: Rc::clone(end),
            pace: self.pace.clone(),
        }
    }

    /// The steps of training.
    pub(crate) fn steps(&self) -> Steps {
        self.until(&self.end)
    }

    /// The versions: one before each step, and that after the last.
    pub(crate) fn versions(&self) -> Steps {
        self.until(&Rc::new(Cell::new(self.last + 1)))
    }

    /// Says of a version whether it is validated, if `validates` says so: in a run that is stopped none is any
    /// more.
    pub(crate) fn chosen<F: Fn(u64) -> bool>(&self, validates: F) -> impl Fn(u64) -> bool + use<F> {
        let (reached, last) = (Rc::clone(&self.end), self.last);
        move |step| validates(step) && reached.get() == last
    }
}

/// Where a job begins on a worker, and what may wait.
#[derive(Default)]
pub(crate) struct Begin {
    /// What the parameters begin from.
    pub(crate) start: Option<Start>,
    /// Moments that may wait for gradients of parameters.
    pub(crate) deferred: Option<usize>,
}

/// Wires the loop of `job` over `inputs`, tells what comes of every step, and writes checkpoints. What is learned
/// comes as versions.
///
/// # Errors
/// If the graph cannot be wired.
pub(crate) fn learn<'s, J: Job>(
    scope: Scope<'s, Tick>,
    job: &Arc<J>,
    learning: &Learning,
    inputs: Streams<'s, Tick>,
    begin: Begin,
    (told, probe): (impl Fn(&Report) + 'static, &ProbeHandle<Tick>),
) -> Result<Streams<'s, Tick>, EngineError> {
    let (training, trainable, stop) = (job.training(), job.trainable(), job.stop().clone());
    let saving = Arc::clone(job);
    let control = Control {
        in_flight: Some(training.in_flight(scope.index())),
        deferred: begin.deferred,
        stop: Rc::new(move || stop.is_set()),
        saves: Rc::new(move |report| {
            let training = saving.training();
            training.saves(report.step + 1) || (report.stop && training.checkpoint.every > 0)
        }),
        start: begin.start,
    };
    let trained = trainable.wire(scope, inputs, &training.recipe, control)?;
    let learned = trained.learned().clone();
    let (place, keep) = (&job.origin().directory, training.checkpoint.keep);
    let (said, mesh) = (Arc::clone(job), trainable.graph.mesh());
    checkpoints::write(trained.snapshots, mesh, place, keep, move |steps| {
        said.progress(steps)
    })
    .probe_with(probe);
    let last = Rc::clone(&learning.end);
    let reports = trained.reports.inspect(move |report: &Report| {
        if report.stop {
            // all that the pace has let out on any worker by now
            last.set(last.get().min(report.step + AHEAD + 1));
        }
        told(report);
    });
    learning.pace.follow(reports).probe_with(probe);
    Ok(learned)
}
