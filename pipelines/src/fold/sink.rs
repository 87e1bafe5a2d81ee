//! Results of `fold`, written as they come: metrics, curve, scores beside those of predictors without a model.

use std::collections::BTreeMap;
use std::time::Instant;

use advect_connectors::RejectedSink;
use advect_operators::training::{Evaluation, Report};
use serde::{Deserialize, Serialize};

use super::job::{Event, Shared};
use super::reference::{References, Score};
use crate::error::{PipelineError, Result};
use crate::metrics::Metrics;
use crate::pipeline::Run;
use crate::plot::{Diagram, Mark};
use crate::progress::Progress;
use crate::tensorboard::Events;

const MEND: &str = "choose another directory with --out";
/// Rows of the table, about.
const ROWS: u64 = 20;

/// A line of `metrics.jsonl`; losses are in nats a masked residue.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
enum Metric {
    Step {
        step: u64,
        loss: f64,
        norm: f64,
        rate: f64,
        targets: u64,
        targets_per_second: f64,
    },
    Validation {
        step: u64,
        loss: f64,
        /// Part of the masked residues that are the likeliest.
        recovered: f64,
        targets: u64,
    },
}

/// `scores.json`.
#[derive(Debug, Default, Serialize)]
struct Scores {
    parameters: usize,
    steps: u64,
    /// Targets that the loss operators counted.
    targets: u64,
    targets_per_second: f64,
    train_nats: Option<f64>,
    /// Of the last version on the held-out alignment.
    model: Option<Score>,
    /// Of predictors without a model on the same masked residues.
    references: References,
}

/// Writers of all results, on the first process.
pub(crate) struct Sink {
    run: Run,
    metrics: Metrics,
    events: Events,
    progress: Progress,
    begun: Instant,
    last: Instant,
    train: Vec<(f64, f64, f64)>,
    validation: Vec<(f64, f64, f64)>,
    recovered: Vec<(f64, f64, f64)>,
    /// What has come of a version: cross-entropy, recovery.
    half: BTreeMap<u64, [Option<f64>; 2]>,
    scores: Scores,
    every: u64,
    steps: u64,
}

impl Sink {
    /// Opens the files of the run, and scores the predictors without a model.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn create(run: &Run, shared: &Shared) -> Result<Self> {
        let (begin, _) = shared.begun();
        let (metrics, before) = Metrics::open(run, |metric: &Metric| match metric {
            Metric::Step { step, .. } | Metric::Validation { step, .. } => *step < begin,
        })?;
        run.keep_settings()?;
        let (settings, alignments) = (&shared.settings, &shared.alignments);
        if !alignments.rejected.is_empty() {
            let mut sink = RejectedSink::create(run.result("rejected.parquet"))?;
            sink.write(&alignments.rejected)?;
            sink.finish()?;
        }
        let samples = shared.validation();
        let steps = settings.recipe.schedule.steps;
        let graph = &shared.trainable.graph;
        let elements = graph
            .parameters()
            .map(|(_, v)| graph.spec(v).shape.iter().product::<usize>());
        let mut sink = Sink {
            run: run.clone(),
            metrics,
            events: Events::create(&run.out).map_err(PipelineError::file(
                "write events in",
                &run.out,
                MEND,
            ))?,
            progress: run.progress("fold", steps),
            begun: Instant::now(),
            last: Instant::now(),
            train: Vec::new(),
            validation: Vec::new(),
            recovered: Vec::new(),
            half: BTreeMap::new(),
            scores: Scores {
                parameters: elements.sum(),
                references: References::of(&alignments.held_out, &samples, settings.extents()),
                ..Scores::default()
            },
            every: steps.div_ceil(ROWS).max(1),
            steps,
        };
        for metric in &before {
            sink.remember(metric);
        }
        if begin > 0 {
            sink.line(&format!("goes on after {begin} steps"));
        }
        for line in super::found(shared) {
            sink.line(&line);
        }
        sink.line(&format!(
            "{} parameters on {}",
            sink.scores.parameters, settings.strategy
        ));
        sink.line(&format!(
            "{:>7} {:>10} {:>10} {:>10} {:>8} {:>9} {:>10}",
            "step", "nats", "validated", "recovered", "norm", "rate", "targets/s"
        ));
        Ok(sink)
    }

    /// Takes a line of before the run was resumed.
    fn remember(&mut self, metric: &Metric) {
        match *metric {
            Metric::Step { step, loss, .. } => {
                self.train.push((step as f64 + 1.0, loss, 0.0));
                self.progress.step();
            }
            Metric::Validation {
                step,
                loss,
                recovered,
                ..
            } => {
                self.validation.push((step as f64, loss, 0.0));
                self.recovered.push((step as f64, recovered, 0.0));
            }
        }
    }

    fn line(&self, text: &str) {
        if !self.run.quiet {
            self.progress.line(text);
        }
    }

    fn metric(&mut self, metric: &Metric) -> Result<()> {
        self.metrics.write(metric)?;
        let told = match *metric {
            Metric::Step {
                step,
                loss,
                norm,
                rate,
                ..
            } => {
                let numbers = [("nats/training", loss), ("norm", norm), ("rate", rate)];
                self.events.scalars(step + 1, &numbers)
            }
            Metric::Validation {
                step,
                loss,
                recovered,
                ..
            } => {
                let numbers = [("nats/validation", loss), ("recovered", recovered)];
                self.events.scalars(step, &numbers)
            }
        };
        told.map_err(PipelineError::file("write events in", &self.run.out, MEND))
    }

    /// Takes what has happened.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn hear(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Step(report) => self.step(&report),
            Event::Validated(found) => self.validated(found, 0),
            Event::Recovered(found) => self.validated(found, 1),
        }
    }

    fn step(&mut self, report: &Report) -> Result<()> {
        let seconds = self.last.elapsed().as_secs_f64().max(1e-9);
        self.last = Instant::now();
        let done = report.step + 1;
        self.scores.steps = done;
        self.scores.targets += report.targets;
        self.scores.train_nats = Some(report.loss);
        self.train.push((done as f64, report.loss, 0.0));
        self.progress.step();
        if report.step.is_multiple_of(self.every) || done == self.steps {
            let all = self.begun.elapsed().as_secs_f64().max(1e-9);
            let last = |of: &[(f64, f64, f64)]| of.last().map(|v| v.1);
            self.line(&format!(
                "{:>7} {:>10.4} {:>10} {:>10} {:>8.3} {:>9.2e} {:>10.0}",
                done,
                report.loss,
                last(&self.validation).map_or("-".to_owned(), |x| format!("{x:.4}")),
                last(&self.recovered).map_or("-".to_owned(), percent),
                report.norm,
                report.rate,
                self.scores.targets as f64 / all
            ));
        }
        self.metric(&Metric::Step {
            step: report.step,
            loss: report.loss,
            norm: report.norm,
            rate: report.rate,
            targets: report.targets,
            targets_per_second: report.targets as f64 / seconds,
        })
    }

    /// Takes a half of the score of a version.
    fn validated(&mut self, found: Evaluation, half: usize) -> Result<()> {
        let Evaluation {
            step,
            loss,
            targets,
        } = found;
        let halves = self.half.entry(step).or_default();
        halves[half] = Some(loss);
        let [Some(loss), Some(recovered)] = *halves else {
            return Ok(());
        };
        self.half.remove(&step);
        let nats = loss;
        self.scores.model = Some(Score { recovered, nats });
        self.validation.push((step as f64, loss, 0.0));
        self.recovered.push((step as f64, recovered, 0.0));
        self.metric(&Metric::Validation {
            step,
            loss,
            recovered,
            targets,
        })
    }

    /// Draws the curve, and prints the scores.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn finish(mut self, shared: &Shared) -> Result<()> {
        self.progress.finish();
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-9);
        self.scores.targets_per_second = self.scores.targets as f64 / seconds;
        self.curve()?;
        let path = self.run.result("scores.json");
        let text = serde_json::to_vec_pretty(&self.scores).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(&path, text))
            .map_err(PipelineError::file("write", &path, MEND))?;
        let done = self.train.len() as u64;
        if done < self.steps {
            self.run
                .say(format!("stopped after {done} of {} steps", self.steps));
            return Ok(());
        }
        let references = &self.scores.references;
        let names: Vec<&str> = (shared.alignments.held_out.iter())
            .map(|alignment| alignment.name.as_str())
            .collect();
        self.run.say(format!(
            "\n{} masked residues of {}\n{:34} {:>9} {:>8}",
            references.targets,
            names.join(", "),
            "",
            "recovered",
            "nats"
        ));
        let (sampled, whole) = (references.sampled_columns, references.whole_columns);
        for (name, score) in [
            ("column frequencies, sampled rows", Some(sampled)),
            ("column frequencies, all rows", Some(whole)),
            ("neighbours among all rows", Some(references.neighbours)),
            ("model", self.scores.model),
        ] {
            let Some(Score { recovered, nats }) = score else {
                continue;
            };
            let recovered = percent(recovered);
            self.run
                .say(format!("{name:34} {recovered:>9} {nats:>8.4}"));
        }
        self.run
            .say(format!("results in {}", self.run.out.display()));
        Ok(())
    }

    fn curve(&self) -> Result<()> {
        let references = &self.scores.references;
        let level =
            |score: Score| vec![(0.0, score.nats, 0.0), (self.steps as f64, score.nats, 0.0)];
        let mut diagram = Diagram::new("fold: learning curve", "step", "nats a masked residue")
            .with("training", Mark::Line, self.train.clone())
            .with("held out", Mark::Both, self.validation.clone())
            .with(
                "column frequencies",
                Mark::Line,
                level(references.whole_columns),
            )
            .with("neighbours", Mark::Line, level(references.neighbours));
        diagram.from_zero = false;
        if let Some(model) = self.scores.model {
            diagram.subtitle = format!(
                "recovered of the held out: {}; column frequencies {}",
                percent(model.recovered),
                percent(references.whole_columns.recovered)
            );
        }
        diagram.draw().save(&self.run.result("curve.png"))
    }
}

fn percent(part: f64) -> String {
    format!("{:.2} %", 100.0 * part)
}
