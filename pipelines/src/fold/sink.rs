//! Results of `fold`, written as they come: metrics, curve, scores beside those of predictors without a model.

use std::collections::BTreeMap;

use advect_connectors::RejectedSink;
use advect_engine::Shard;
use advect_operators::training::{Evaluation, Report};
use serde::{Deserialize, Serialize};

use super::job::{Event, Shared};
use super::model;
use super::reference::{References, Score};
use crate::error::Result;
use crate::pipeline::Run;
use crate::plot::{Diagram, Mark};
use crate::training::{Points, Record};

/// A line of `metrics.jsonl`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
enum Metric {
    Step {
        step: u64,
        /// What is learned.
        loss: f64,
        /// What letters have of it, in nats a masked residue.
        nats: f64,
        /// What distances have of it, if they are learned: their mean, times its weight.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        distances: Option<f64>,
        norm: f64,
        rate: f64,
        targets: u64,
        targets_per_second: f64,
    },
    Validation {
        step: u64,
        /// In nats a masked residue.
        loss: f64,
        /// Part of the masked residues that are the likeliest.
        recovered: f64,
        targets: u64,
    },
}

/// What `scores.json` has of its own.
#[derive(Debug, Default, Serialize)]
struct Scores {
    train_nats: Option<f64>,
    /// Of the last version on the held-out alignment.
    model: Option<Score>,
    /// Of predictors without a model on the same masked residues.
    references: References,
}

/// Writers of all results, on the first process.
pub(crate) struct Sink {
    record: Record,
    train: Points,
    validation: Points,
    recovered: Points,
    /// What has come of a version: cross-entropy, recovery.
    half: BTreeMap<u64, [Option<f64>; 2]>,
    scores: Scores,
}

impl Sink {
    /// Opens the files of the run, and scores the predictors without a model.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn create(run: &Run, shared: &Shared) -> Result<Self> {
        let (begin, _) = shared.origin.begun();
        let (settings, alignments) = (&shared.settings, &shared.alignments);
        let graph = &shared.trainable.graph;
        let parameters = graph.parameters().map(|(_, v)| graph.spec(v));
        let parameters = parameters.map(|spec| spec.shape.iter().product::<usize>());
        let parameters = parameters.sum();
        let sizes = (settings.training.steps(), parameters);
        let (record, before) = Record::create(run, "fold", sizes, |metric| match metric {
            Metric::Step { step, .. } | Metric::Validation { step, .. } => *step < begin,
        })?;
        if !alignments.rejected.is_empty() {
            let mut sink = RejectedSink::create(run.result("rejected.parquet"))?;
            sink.write(&alignments.rejected)?;
            sink.finish()?;
        }
        let samples = shared.validation();
        let mut sink = Sink {
            record,
            train: Points::new(),
            validation: Points::new(),
            recovered: Points::new(),
            half: BTreeMap::new(),
            scores: Scores {
                references: References::of(&alignments.held_out, &samples, settings.extents()),
                ..Scores::default()
            },
        };
        for metric in &before {
            sink.remember(metric);
        }
        if begin > 0 {
            sink.record.line(&format!("goes on after {begin} steps"));
        }
        for line in super::found(shared) {
            sink.record.line(&line);
        }
        sink.record.line(&format!(
            "{} parameters on {}",
            parameters, settings.training.strategy
        ));
        sink.record.line(&format!(
            "{:>7} {:>10} {:>10} {:>10} {:>8} {:>9} {:>10}",
            "step", "nats", "validated", "recovered", "norm", "rate", "targets/s"
        ));
        Ok(sink)
    }

    /// Takes a line of before the run was resumed.
    fn remember(&mut self, metric: &Metric) {
        match *metric {
            Metric::Step { step, nats, .. } => {
                self.train.push((step as f64 + 1.0, nats, 0.0));
                self.record.earlier();
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

    fn metric(&mut self, metric: &Metric) -> Result<()> {
        match *metric {
            Metric::Step {
                step,
                nats,
                distances,
                norm,
                rate,
                ..
            } => {
                let mut numbers = vec![("nats/training", nats), ("norm", norm), ("rate", rate)];
                numbers.extend(distances.map(|x| ("distances/training", x)));
                self.record.metric(metric, step + 1, &numbers)
            }
            Metric::Validation {
                step,
                loss,
                recovered,
                ..
            } => {
                let numbers = [("nats/validation", loss), ("recovered", recovered)];
                self.record.metric(metric, step, &numbers)
            }
        }
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
        let pace = self.record.step(report);
        let nats = report.share.unwrap_or(report.loss);
        self.scores.train_nats = Some(nats);
        self.train.push((pace.done as f64, nats, 0.0));
        if let Some(speed) = pace.row {
            let last = |of: &Points| of.last().map(|v| v.1);
            self.record.line(&format!(
                "{:>7} {nats:>10.4} {:>10} {:>10} {:>8.3} {:>9.2e} {speed:>10.0}",
                pace.done,
                last(&self.validation).map_or("-".to_owned(), |x| format!("{x:.4}")),
                last(&self.recovered).map_or("-".to_owned(), percent),
                report.norm,
                report.rate,
            ));
        }
        self.metric(&Metric::Step {
            step: report.step,
            loss: report.loss,
            nats,
            distances: report.share.map(|share| report.loss - share),
            norm: report.norm,
            rate: report.rate,
            targets: report.targets,
            targets_per_second: pace.targets_per_second,
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
        if targets == 0 {
            return Ok(());
        }
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

    /// Draws the curve, keeps the model, and prints the scores. `whole` are the parameters of the last version; of a run
    /// that was stopped there are none.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn finish(mut self, shared: &Shared, whole: &BTreeMap<String, Shard>) -> Result<()> {
        self.record.scores(&self.scores)?;
        self.curve()?;
        let (run, steps) = (&self.record.run, self.record.steps);
        let done = self.train.len() as u64;
        if done < steps {
            run.say(format!("stopped after {done} of {steps} steps"));
            return Ok(());
        }
        model::write(&shared.settings.model, whole, &run.result("model"))?;
        let references = &self.scores.references;
        let names: Vec<&str> = (shared.alignments.held_out.iter())
            .map(|alignment| alignment.name.as_str())
            .collect();
        run.say(format!(
            "\n{} masked residues of {}\n{:34} {:>9} {:>8}",
            references.targets,
            names.join(", "),
            "",
            "recovered",
            "nats"
        ));
        let of = references.scores.as_ref();
        for (name, score) in [
            (
                "column frequencies, sampled rows",
                of.map(|s| s.sampled_columns),
            ),
            ("column frequencies, all rows", of.map(|s| s.whole_columns)),
            ("neighbours among all rows", of.map(|s| s.neighbours)),
            ("model", self.scores.model),
        ] {
            let Some(Score { recovered, nats }) = score else {
                continue;
            };
            let recovered = percent(recovered);
            run.say(format!("{name:34} {recovered:>9} {nats:>8.4}"));
        }
        run.say(format!("results in {}", run.out.display()));
        Ok(())
    }

    fn curve(&self) -> Result<()> {
        let references = &self.scores.references;
        let level = |score: Score| {
            vec![
                (0.0, score.nats, 0.0),
                (self.record.steps as f64, score.nats, 0.0),
            ]
        };
        let mut diagram = Diagram::new("fold: learning curve", "step", "nats a masked residue")
            .with("training", Mark::Line, self.train.clone())
            .with("held out", Mark::Both, self.validation.clone());
        if let Some(scores) = references.scores {
            diagram = diagram
                .with(
                    "column frequencies",
                    Mark::Line,
                    level(scores.whole_columns),
                )
                .with("neighbours", Mark::Line, level(scores.neighbours));
        }
        diagram.from_zero = false;
        if let Some((model, scores)) = self.scores.model.zip(references.scores) {
            diagram.subtitle = format!(
                "recovered of the held out: {}; column frequencies {}",
                percent(model.recovered),
                percent(scores.whole_columns.recovered)
            );
        }
        diagram.draw().save(&self.record.run.result("curve.png"))
    }
}

fn percent(part: f64) -> String {
    format!("{:.2} %", 100.0 * part)
}
