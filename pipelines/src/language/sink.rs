//! Results of `language`, written as they come: metrics, curve, scores, a text.

use std::collections::BTreeMap;

use advect_engine::Shard;
use advect_operators::training::{Evaluation, Report};
use serde::{Deserialize, Serialize};

use super::job::{Event, Shared};
use super::sample::Writer;
use super::weights;
use crate::error::{PipelineError, Result};
use crate::pipeline::Run;
use crate::plot::{Diagram, Mark};
use crate::training::{Points, Record};

const MEND: &str = "choose another directory with --out";

/// A line of `metrics.jsonl`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
enum Metric {
    Step {
        step: u64,
        /// Nats a token.
        loss: f64,
        bits: f64,
        norm: f64,
        rate: f64,
        targets: u64,
        targets_per_second: f64,
    },
    Validation {
        step: u64,
        loss: f64,
        bits: f64,
        targets: u64,
    },
    Test {
        step: u64,
        loss: f64,
        bits: f64,
        targets: u64,
    },
}

/// What `scores.json` has of its own.
#[derive(Debug, Default, Serialize)]
struct Scores {
    /// What one token is: "byte" or "base".
    unit: &'static str,
    train_bits: Option<f64>,
    validation_bits: Option<f64>,
    test_bits: Option<f64>,
}

/// Writers of all results, on the first process.
pub(crate) struct Sink {
    record: Record,
    train: Points,
    validation: Points,
    scores: Scores,
}

fn bits(loss: f64) -> f64 {
    loss / std::f64::consts::LN_2
}

impl Sink {
    /// Opens the files of the run.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn create(run: &Run, shared: &Shared) -> Result<Self> {
        let (begin, _) = shared.origin.begun();
        let (settings, unit) = (&shared.settings, shared.settings.text.alphabet.unit());
        let sizes = (settings.training.steps(), settings.model.parameters());
        let (record, before) = Record::create(run, "language", sizes, |metric| match metric {
            Metric::Step { step, .. } | Metric::Validation { step, .. } => *step < begin,
            Metric::Test { .. } => false,
        })?;
        let mut sink = Sink {
            record,
            train: Points::new(),
            validation: Points::new(),
            scores: Scores {
                unit,
                ..Scores::default()
            },
        };
        for metric in &before {
            sink.remember(metric);
        }
        if begin > 0 {
            sink.record.line(&format!("goes on after {begin} steps"));
        }
        sink.record.line(&format!(
            "{} parameters on {}, {} tokens of text",
            settings.model.parameters(),
            settings.training.strategy,
            shared.corpus.tokens.len()
        ));
        let per = format!("bits/{unit}");
        sink.record.line(&format!(
            "{:>7} {:>10} {:>10} {:>8} {:>9} {:>10}",
            "step", per, "validated", "norm", "rate", "tokens/s"
        ));
        Ok(sink)
    }

    /// Takes a line of before the run was resumed.
    fn remember(&mut self, metric: &Metric) {
        match *metric {
            Metric::Step { step, bits, .. } => self.train.push((step as f64 + 1.0, bits, 0.0)),
            Metric::Validation { step, bits, .. } => self.validation.push((step as f64, bits, 0.0)),
            Metric::Test { .. } => {}
        }
        if let Metric::Step { .. } = metric {
            self.record.earlier();
        }
    }

    fn metric(&mut self, metric: &Metric) -> Result<()> {
        let record = &mut self.record;
        match *metric {
            Metric::Step {
                step,
                bits,
                norm,
                rate,
                ..
            } => {
                let numbers = [("bits/training", bits), ("norm", norm), ("rate", rate)];
                record.metric(metric, step + 1, &numbers)
            }
            Metric::Validation { step, bits, .. } => {
                record.metric(metric, step, &[("bits/validation", bits)])
            }
            Metric::Test { step, bits, .. } => record.metric(metric, step, &[("bits/test", bits)]),
        }
    }

    /// Takes what has happened.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn hear(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Step(report) => self.step(&report),
            Event::Validated(found) => self.validated(found),
            Event::Tested(Evaluation {
                step,
                loss,
                targets,
            }) => {
                self.scores.test_bits = Some(bits(loss));
                let bits = bits(loss);
                self.metric(&Metric::Test {
                    step,
                    loss,
                    bits,
                    targets,
                })
            }
        }
    }

    fn step(&mut self, report: &Report) -> Result<()> {
        let pace = self.record.step(report);
        let now = bits(report.loss);
        self.scores.train_bits = Some(now);
        self.train.push((pace.done as f64, now, 0.0));
        if let Some(speed) = pace.row {
            let validated = self.validation.last();
            self.record.line(&format!(
                "{:>7} {now:>10.4} {:>10} {:>8.3} {:>9.2e} {speed:>10.0}",
                pace.done,
                validated.map_or("-".to_owned(), |v| format!("{:.4}", v.1)),
                report.norm,
                report.rate,
            ));
        }
        self.metric(&Metric::Step {
            step: report.step,
            loss: report.loss,
            bits: now,
            norm: report.norm,
            rate: report.rate,
            targets: report.targets,
            targets_per_second: pace.targets_per_second,
        })
    }

    fn validated(&mut self, found: Evaluation) -> Result<()> {
        let Evaluation {
            step,
            loss,
            targets,
        } = found;
        let bits = bits(loss);
        self.scores.validation_bits = Some(bits);
        self.validation.push((step as f64, bits, 0.0));
        self.metric(&Metric::Validation {
            step,
            loss,
            bits,
            targets,
        })
    }

    /// Draws the curve, lets the model write, and prints the scores. `whole` are the parameters of the
    /// last version; of a run that was stopped there are none.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn finish(mut self, shared: &Shared, whole: BTreeMap<String, Shard>) -> Result<()> {
        self.record.scores(&self.scores)?;
        self.curve()?;
        let run = &self.record.run;
        if whole.is_empty() {
            let (done, steps) = (self.record.done(), self.record.steps);
            run.say(format!("stopped after {done} of {steps} steps"));
            return Ok(());
        }
        weights::write(&shared.settings.model, &whole, &run.result("model"))?;
        let text = self.text(shared, whole)?;
        let path = run.result("sample.txt");
        std::fs::write(&path, &text).map_err(PipelineError::file("write", &path, MEND))?;
        let shown = |bits: Option<f64>| bits.map_or("-".to_owned(), |b| format!("{b:.4}"));
        let unit = self.scores.unit;
        run.say(format!("\n{text}\n"));
        run.say(format!(
            "bits/{unit}: validation {}, test {}",
            shown(self.scores.validation_bits),
            shown(self.scores.test_bits)
        ));
        run.say(format!("results in {}", run.out.display()));
        Ok(())
    }

    fn text(&self, shared: &Shared, whole: BTreeMap<String, Shard>) -> Result<String> {
        let (settings, ask) = (&shared.settings, &shared.settings.sample);
        let writer = Writer::new(&settings.model, settings.training.dtype, whole)?;
        let prompt = shared.corpus.encode(&ask.prompt);
        let seed = settings.training.recipe.seed;
        let more = writer.go_on(&prompt, ask.tokens, ask.temperature, seed)?;
        Ok(shared.corpus.decode(&[prompt, more].concat()))
    }

    fn curve(&self) -> Result<()> {
        let label = format!("bits a {}", self.scores.unit);
        let mut diagram = Diagram::new("language: learning curve", "step", &label)
            .with("training", Mark::Line, self.train.clone())
            .with("validation", Mark::Both, self.validation.clone());
        diagram.from_zero = false;
        if let Some(test) = self.scores.test_bits {
            diagram.subtitle = format!("test part: {test:.3} bits a {}", self.scores.unit);
        }
        diagram.draw().save(&self.record.run.result("curve.png"))
    }
}
