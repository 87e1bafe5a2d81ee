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

use std::sync::Arc;

use advect_engine::Fabric;
use advect_operators::training::Trainable;
use advect_operators::transformer::Gpt;

use self::corpus::Corpus;
use self::fits::Fits;
use self::job::Shared;
use self::settings::Settings;
use self::sink::Sink;
use self::windows::Windows;
use crate::config::Config;
use crate::data;
use crate::error::Result;
use crate::pipeline::{Choice, Pipeline, Preset, Run, Stop};
use crate::plan::Plan;
use crate::training::{Origin, listened, plan};

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
        let (training, batching) = (&settings.training, settings.training.batching);
        let title = format!(
            "language on {fabric}, {}: {} parameters, {} samples a step in {} micro-batches",
            training.strategy,
            settings.model.parameters(),
            batching.step(),
            batching.accumulation()
        );
        let feed = [
            "Windows",
            "samples of a step from the text",
            "tokens and targets",
        ];
        Ok(plan(title, feed, &train(&settings)?, training))
    }

    fn resumes(&self) -> bool {
        true
    }

    fn run(&self, run: &Run) -> Result<()> {
        let settings = Settings::read(&run.config, &run.fabric)?;
        Fits::here(&run.config, &settings, &run.fabric).parameters()?;
        let origin = Origin::of(run, &settings.training)?;
        let both = !settings.weights.is_empty() && !settings.training.checkpoint.from.is_empty();
        let why = "stands beside model.weights: begin from one of them";
        run.config.require("checkpoint.from", !both, why)?;
        let weights = match (&origin.start, settings.weights.as_str()) {
            (None, path) if !path.is_empty() => Some(Arc::new(weights::read(
                &settings.model,
                &data::locate(path)?,
            )?)),
            _ => None,
        };
        let mut shared = shared(&run.config, settings, run.stop.clone())?;
        Fits::here(&run.config, &shared.settings, &run.fabric).whole(&shared.trainable.graph)?;
        shared.origin = origin;
        shared.weights = weights;
        let shared = Arc::new(shared);
        let sink = match run.is_first_process() {
            true => Some(Sink::create(run, &shared)?),
            false => None,
        };
        let (sink, given) = listened(run, &shared, sink, Sink::hear, job::run)?;
        let whole = given.into_iter().next().unwrap_or_default();
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
    let samples = settings.training.batching.moment();
    let model = &settings.model;
    Ok(model.train(
        samples,
        settings.training.dtype,
        &settings.training.strategy,
    )?)
}

/// The graph that measures what was learned, where it is not the one that learns.
fn evaluated(settings: &Settings) -> Result<Option<Trainable>> {
    if settings.model.style.dropout.rate == 0.0 {
        return Ok(None);
    }
    let samples = settings.training.batching.moment();
    let model = Gpt {
        style: settings.model.style.evaluated(),
        ..settings.model.clone()
    };
    Ok(Some(model.train(
        samples,
        settings.training.dtype,
        &settings.training.strategy,
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
        origin: Origin::default(),
        weights: None,
    })
}
