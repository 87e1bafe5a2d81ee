//! `language`: a causal transformer learns the next token of a text.
//!
//! The model is one graph and the mesh says what the workers do: samples, heads and columns, positions, or
//! the pieces of the optimizer, in any product. A training step is the part of the dataflow between
//! the edge of batches and the edge of versions; validation is the same graph without its adjoint.

mod corpus;
mod fits;
mod job;
mod load;
mod names;
mod sample;
pub(crate) mod settings;
mod sink;
mod weights;
mod windows;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use advect_engine::Fabric;
use advect_operators::training::Trainable;
use advect_operators::transformer::Gpt;

use self::corpus::Corpus;
use self::fits::Fits;
use self::job::Shared;
use self::settings::Settings;
use self::sink::Sink;
use self::windows::Windows;
use crate::checkpoints;
use crate::config::Config;
use crate::data;
use crate::error::{PipelineError, Result};
use crate::pipeline::{Choice, Pipeline, Preset, Run, Stop};
use crate::plan::Plan;

/// The pipeline.
pub struct Language;

const PRESETS: &[Preset] = &[
    Preset {
        name: "wiki",
        about: "a third of a megabyte of encyclopedia (embedded)",
        text: "",
    },
    Preset {
        name: "enwiki",
        about: "6 MB of encyclopedia (ADVECT_DATA)",
        text: include_str!("enwiki.toml"),
    },
    Preset {
        name: "ecoli",
        about: "the genome of Escherichia coli 536 (ADVECT_DATA)",
        text: include_str!("ecoli.toml"),
    },
];

impl Pipeline for Language {
    fn name(&self) -> &'static str {
        "language"
    }

    fn about(&self) -> &'static str {
        "a causal transformer learns the next token of a text, on any mesh of workers"
    }

    fn default_config(&self) -> &'static str {
        include_str!("default.toml")
    }

    fn presets(&self) -> &'static [Preset] {
        PRESETS
    }

    fn choices(&self) -> &'static [Choice] {
        &["optimizer"]
    }

    fn check(&self, config: &Config) -> Result<Vec<String>> {
        let shared = shared(config, alone(config)?, Stop::default())?;
        let (settings, corpus) = (&shared.settings, &shared.corpus);
        let windows = Windows::new(corpus.train().len(), settings.model.context, 0);
        Ok(vec![
            format!(
                "{} tokens to train on, {} to validate, {} to test",
                corpus.train().len(),
                corpus.validate().len(),
                corpus.test().len()
            ),
            format!("{} windows an epoch", windows.map_or(0, |w| w.count())),
            format!("{} parameters", settings.model.parameters()),
        ])
    }

    fn plan(&self, config: &Config, fabric: &Fabric) -> Result<Plan> {
        let settings = Settings::read(config, fabric)?;
        let trainable = train(&settings)?;
        let (graph, batching) = (&trainable.graph, settings.batching);
        let workers = 0..graph.mesh().workers();
        let most = |of: &dyn Fn(usize) -> usize| workers.clone().map(of).max().unwrap_or(0) as u64;
        let stored = |worker: usize| {
            let pieces = graph
                .parameters()
                .map(|(_, v)| graph.spec(v).bytes(graph.mesh(), worker));
            pieces.sum::<usize>()
        };
        let weights = most(&stored);
        let slots = settings.recipe.slots().len() as u64;
        let title = format!(
            "language on {fabric}, {}: {} parameters, {} samples a step in {} micro-batches",
            settings.strategy,
            settings.model.parameters(),
            batching.step(),
            batching.accumulation()
        );
        Ok(Plan::new(title)
            .node("Windows", "samples of a step from the text", 0)
            .node(
                "Forward",
                "the graph, parameters as they are stored",
                weights,
            )
            .node(
                "Backward",
                "its adjoint, gradients as they are stored",
                weights,
            )
            .node("Tally", "loss, targets, squares of gradients", 0)
            .node("Update", "the state of the optimizer", slots * weights)
            .edge("Windows", "Forward", "tokens and targets", "pipeline", 0)
            .edge(
                "Forward",
                "Backward",
                "relayouts on the way forward, a micro-batch",
                "relayout",
                most(&|w| graph.bytes_sent(w)),
            )
            .edge(
                "Backward",
                "Update",
                "relayouts on the way back, a micro-batch",
                "relayout",
                most(&|w| graph.bytes_sent_back(w)),
            )
            .edge(
                "Backward",
                "Tally",
                "gradients to where they are stored, a step",
                "relayout",
                most(&|w| trainable.gradient_bytes_sent(w).unwrap_or(0)),
            )
            .edge(
                "Tally",
                "Update",
                "totals of a step",
                "Partial(Sum) -> Same",
                0,
            )
            .edge(
                "Update",
                "Forward",
                "version of the next step",
                "feedback (1, 0)",
                0,
            )
            .note("memory without activations; relayouts of parameters are sent once a step"))
    }

    fn resumes(&self) -> bool {
        true
    }

    fn run(&self, run: &Run) -> Result<()> {
        let settings = Settings::read(&run.config, &run.fabric)?;
        Fits::here(&run.config, &settings, &run.fabric).parameters()?;
        let start = checkpoints::begin(run, &settings.checkpoint)?;
        let both = !settings.weights.is_empty() && !settings.checkpoint.from.is_empty();
        let why = "stands beside model.weights: begin from one of them";
        run.config.require("checkpoint.from", !both, why)?;
        let weights = match (&start, settings.weights.as_str()) {
            (None, path) if !path.is_empty() => Some(Arc::new(weights::read(
                &settings.model,
                &data::locate(path)?,
            )?)),
            _ => None,
        };
        let mut shared = shared(&run.config, settings, run.stop.clone())?;
        Fits::here(&run.config, &shared.settings, &run.fabric).whole(&shared.trainable.graph)?;
        let steps = shared.settings.recipe.schedule.steps;
        if let Some(done) = start
            .as_ref()
            .map(|c| c.progress().step)
            .filter(|d| *d > steps)
        {
            let why = format!("the checkpoint has taken {done}, and this run ends after {steps}");
            return Err(run.config.wrong("training.steps", why).into());
        }
        (shared.start, shared.checkpoints) = (start, checkpoints::directory(run));
        shared.weights = weights;
        let shared = Arc::new(shared);
        let sink = match run.is_first_process() {
            true => Some(Sink::create(run, &shared)?),
            false => None,
        };
        let sink = Arc::new(Mutex::new((sink, Ok::<(), PipelineError>(()))));
        let (mine, theirs) = (Arc::clone(&sink), Arc::clone(&shared));
        let begun = shared.begun();
        let options = run.observe_from(&format!("{begun:?}"));
        let outcome = run.fabric.run_with(&options, move |worker, context| {
            let (mine, stop) = (Arc::clone(&mine), theirs.stop.clone());
            let speaks = context.index == 0;
            job::run(worker, context, &theirs, move |event| {
                let mut held = mine.lock().unwrap_or_else(PoisonError::into_inner);
                let (sink, written) = &mut *held;
                let (Some(sink), Ok(()), true) = (sink, &written, speaks) else {
                    return;
                };
                if let Err(e) = sink.hear(event) {
                    // end in order, then say why
                    *written = Err(e);
                    stop.set();
                }
            })
        });
        let mut held = sink.lock().unwrap_or_else(PoisonError::into_inner);
        let (sink, written) = (held.0.take(), std::mem::replace(&mut held.1, Ok(())));
        written?;
        let whole = outcome?.into_iter().next().unwrap_or_default();
        match sink {
            Some(sink) => sink.finish(&shared, whole),
            None => Ok(()),
        }
    }
}

/// The settings on as many workers as the mesh has.
fn alone(config: &Config) -> Result<Settings> {
    Settings::read(config, &Fabric::Threads(settings::workers(config)?))
}

fn train(settings: &Settings) -> Result<Trainable> {
    let samples = settings.batching.moment();
    let model = &settings.model;
    Ok(model.train(samples, settings.dtype, &settings.strategy)?)
}

/// The graph that measures what was learned, where it is not the one that learns.
fn evaluated(settings: &Settings) -> Result<Option<Trainable>> {
    if settings.model.style.dropout.rate == 0.0 {
        return Ok(None);
    }
    let samples = settings.batching.moment();
    let model = Gpt {
        style: settings.model.style.evaluated(),
        ..settings.model.clone()
    };
    Ok(Some(model.train(
        samples,
        settings.dtype,
        &settings.strategy,
    )?))
}

fn shared(config: &Config, settings: Settings, stop: Stop) -> Result<Shared> {
    let corpus = Corpus::read(config, &settings.text, settings.model.context)?;
    Ok(Shared {
        trainable: train(&settings)?,
        evaluated: evaluated(&settings)?,
        settings,
        corpus,
        stop,
        start: None,
        weights: None,
        checkpoints: PathBuf::new(),
    })
}
