//! Results of `language`, written as they come: metrics, curve, scores, a text.

use std::collections::BTreeMap;
use std::time::Instant;

use advect_engine::Shard;
use advect_operators::training::{Evaluation, Report};
use serde::{Deserialize, Serialize};

use super::job::{Event, Shared};
use super::sample::Writer;
use super::weights;
use crate::error::{PipelineError, Result};
use crate::metrics::Metrics;
use crate::pipeline::Run;
use crate::plot::{Diagram, Mark};
use crate::progress::Progress;
use crate::tensorboard::Events;

const MEND: &str = "choose another directory with --out";
/// Rows of the table, about.
const ROWS: u64 = 20;

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

/// `scores.json`.
#[derive(Debug, Default, Serialize)]
struct Scores {
    parameters: usize,
    steps: u64,
    /// Targets that the loss operators counted.
    targets: u64,
    targets_per_second: f64,
    /// What one token is: "byte" or "base".
    unit: &'static str,
    train_bits: Option<f64>,
    validation_bits: Option<f64>,
    test_bits: Option<f64>,
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
    scores: Scores,
    every: u64,
    steps: u64,
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
        let (begin, _) = shared.begun();
        let (metrics, before) = Metrics::open(run, |metric: &Metric| match metric {
            Metric::Step { step, .. } | Metric::Validation { step, .. } => *step < begin,
            Metric::Test { .. } => false,
        })?;
        run.keep_settings()?;
        let (settings, unit) = (&shared.settings, shared.settings.text.alphabet.unit());
        let steps = settings.recipe.schedule.steps;
        let mut sink = Sink {
            run: run.clone(),
            metrics,
            events: Events::create(&run.out).map_err(PipelineError::file(
                "write events in",
                &run.out,
                MEND,
            ))?,
            progress: run.progress("language", steps),
            begun: Instant::now(),
            last: Instant::now(),
            train: Vec::new(),
            validation: Vec::new(),
            scores: Scores {
                parameters: settings.model.parameters(),
                unit,
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
        sink.line(&format!(
            "{} parameters on {}, {} tokens of text",
            settings.model.parameters(),
            settings.strategy,
            shared.corpus.tokens.len()
        ));
        let per = format!("bits/{unit}");
        sink.line(&format!(
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
            self.progress.step();
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
                bits,
                norm,
                rate,
                ..
            } => {
                let numbers = [("bits/training", bits), ("norm", norm), ("rate", rate)];
                self.events.scalars(step + 1, &numbers)
            }
            Metric::Validation { step, bits, .. } => {
                self.events.scalars(step, &[("bits/validation", bits)])
            }
            Metric::Test { step, bits, .. } => self.events.scalars(step, &[("bits/test", bits)]),
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
        let seconds = self.last.elapsed().as_secs_f64().max(1e-9);
        self.last = Instant::now();
        let done = report.step + 1;
        self.scores.steps = done;
        self.scores.targets += report.targets;
        self.scores.train_bits = Some(bits(report.loss));
        self.train.push((done as f64, bits(report.loss), 0.0));
        self.progress.step();
        if report.step.is_multiple_of(self.every) || done == self.steps {
            let all = self.begun.elapsed().as_secs_f64().max(1e-9);
            self.line(&format!(
                "{:>7} {:>10.4} {:>10} {:>8.3} {:>9.2e} {:>10.0}",
                done,
                bits(report.loss),
                self.validation
                    .last()
                    .map_or("-".to_owned(), |v| format!("{:.4}", v.1)),
                report.norm,
                report.rate,
                self.scores.targets as f64 / all
            ));
        }
        self.metric(&Metric::Step {
            step: report.step,
            loss: report.loss,
            bits: bits(report.loss),
            norm: report.norm,
            rate: report.rate,
            targets: report.targets,
            targets_per_second: report.targets as f64 / seconds,
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
        self.progress.finish();
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-9);
        self.scores.targets_per_second = self.scores.targets as f64 / seconds;
        self.curve()?;
        let path = self.run.result("scores.json");
        let text = serde_json::to_vec_pretty(&self.scores).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(&path, text))
            .map_err(PipelineError::file("write", &path, MEND))?;
        if whole.is_empty() {
            let (done, steps) = (self.scores.steps, self.steps);
            self.run
                .say(format!("stopped after {done} of {steps} steps"));
            return Ok(());
        }
        weights::write(&shared.settings.model, &whole, &self.run.result("model"))?;
        let text = self.text(shared, whole)?;
        let path = self.run.result("sample.txt");
        std::fs::write(&path, &text).map_err(PipelineError::file("write", &path, MEND))?;
        let shown = |bits: Option<f64>| bits.map_or("-".to_owned(), |b| format!("{b:.4}"));
        let unit = self.scores.unit;
        self.run.say(format!("\n{text}\n"));
        self.run.say(format!(
            "bits/{unit}: validation {}, test {}",
            shown(self.scores.validation_bits),
            shown(self.scores.test_bits)
        ));
        self.run
            .say(format!("results in {}", self.run.out.display()));
        Ok(())
    }

    fn text(&self, shared: &Shared, whole: BTreeMap<String, Shard>) -> Result<String> {
        let (settings, ask) = (&shared.settings, &shared.settings.sample);
        let writer = Writer::new(&settings.model, settings.dtype, whole)?;
        let prompt = shared.corpus.encode(&ask.prompt);
        let seed = settings.recipe.seed;
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
        diagram.draw().save(&self.run.result("curve.png"))
    }
}
