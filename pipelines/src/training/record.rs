//! Results of a job that trains, written as they come.

use std::time::Instant;

use advect_operators::training::Report;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::metrics::Metrics;
use crate::error::{PipelineError, Result};
use crate::pipeline::Run;
use crate::progress::Progress;
use crate::tensorboard::Events;

const MEND: &str = "choose another directory with --out";
/// Rows of the table, about.
const ROWS: u64 = 20;

/// Points of a curve: step, value, no spread.
pub(crate) type Points = Vec<(f64, f64, f64)>;

/// What `scores.json` of every job begins with.
#[derive(Debug, Default, Serialize)]
struct Counted {
    parameters: usize,
    steps: u64,
    /// Targets that the loss operators counted.
    targets: u64,
    targets_per_second: f64,
}

/// `scores.json`.
#[derive(Serialize)]
struct Scores<'a, S> {
    #[serde(flatten)]
    counted: &'a Counted,
    #[serde(flatten)]
    own: &'a S,
}

/// Writers of what all jobs write, on the first process.
pub(crate) struct Record {
    pub(crate) run: Run,
    metrics: Metrics,
    events: Events,
    progress: Progress,
    begun: Instant,
    last: Instant,
    counted: Counted,
    every: u64,
    /// Steps that the run has.
    pub(crate) steps: u64,
}

/// What is known of a step besides its report.
pub(crate) struct Pace {
    /// Steps that were taken.
    pub(crate) done: u64,
    /// Targets a second in this step.
    pub(crate) targets_per_second: f64,
    /// Targets a second since the run began, if the step has a row in the table.
    pub(crate) row: Option<f64>,
}

impl Record {
    /// Opens the files of a run of `pipeline`; of metrics of an earlier run those that `keep` says stay, and are
    /// given.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn create<M: Serialize + DeserializeOwned>(
        run: &Run,
        pipeline: &str,
        (steps, parameters): (u64, usize),
        keep: impl Fn(&M) -> bool,
    ) -> Result<(Self, Vec<M>)> {
        let (metrics, before) = Metrics::open(run, keep)?;
        run.keep_settings()?;
        let events = Events::create(&run.out);
        let events = events.map_err(PipelineError::file("write events in", &run.out, MEND))?;
        let record = Record {
            run: run.clone(),
            metrics,
            events,
            progress: run.progress(pipeline, steps),
            begun: Instant::now(),
            last: Instant::now(),
            counted: Counted {
                parameters,
                ..Counted::default()
            },
            every: steps.div_ceil(ROWS).max(1),
            steps,
        };
        Ok((record, before))
    }

    /// Says something beside the progress.
    pub(crate) fn line(&self, text: &str) {
        if !self.run.quiet {
            self.progress.line(text);
        }
    }

    /// Steps that this run has taken.
    pub(crate) fn done(&self) -> u64 {
        self.counted.steps
    }

    /// Counts a step of before the run was resumed.
    pub(crate) fn earlier(&mut self) {
        self.progress.step();
    }

    /// Counts a step.
    pub(crate) fn step(&mut self, report: &Report) -> Pace {
        let seconds = self.last.elapsed().as_secs_f64().max(1e-9);
        self.last = Instant::now();
        let done = report.step + 1;
        self.counted.steps = done;
        self.counted.targets += report.targets;
        self.progress.step();
        let shows = report.step.is_multiple_of(self.every) || done == self.steps;
        Pace {
            done,
            targets_per_second: report.targets as f64 / seconds,
            row: shows.then(|| self.speed()),
        }
    }

    fn speed(&self) -> f64 {
        self.counted.targets as f64 / self.begun.elapsed().as_secs_f64().max(1e-9)
    }

    /// Writes a line of `metrics.jsonl`, and `numbers` at `step` for TensorBoard.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn metric(
        &mut self,
        metric: &impl Serialize,
        step: u64,
        numbers: &[(&str, f64)],
    ) -> Result<()> {
        self.metrics.write(metric)?;
        let told = self.events.scalars(step, numbers);
        told.map_err(PipelineError::file("write events in", &self.run.out, MEND))
    }

    /// Ends the progress, and writes `scores.json`: what is counted, and `own`.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn scores(&mut self, own: &impl Serialize) -> Result<()> {
        self.progress.finish();
        self.counted.targets_per_second = self.speed();
        let path = self.run.result("scores.json");
        let counted = &self.counted;
        let text =
            serde_json::to_vec_pretty(&Scores { counted, own }).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(&path, text))
            .map_err(PipelineError::file("write", &path, MEND))
    }
}
