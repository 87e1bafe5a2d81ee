//! `fold`: an Evoformer learns the masked letters of multiple sequence alignments.
//!
//! A sample is some rows and columns of an alignment, in which some residues are masked; the model finds them from
//! the others, and from frequencies of the letters that are visible in the whole alignment. Where a structure is
//! given, it learns distances of residues, too. What is learned is held against an alignment that it was not
//! trained on, beside predictors without a model that see the same letters.

mod alignment;
mod job;
mod load;
mod model;
mod profile;
mod reference;
mod sample;
mod settings;
mod sink;
mod structure;

use std::sync::Arc;

use advect_engine::Fabric;
use advect_operators::evoformer::Evoformer;
use advect_operators::network::Dropout;
use advect_operators::training::Trainable;

use self::alignment::{Alignment, Alignments};
use self::job::Shared;
use self::settings::Settings;
use self::sink::Sink;
use crate::config::Config;
use crate::error::Result;
use crate::pipeline::{Choice, Pipeline, Preset, Run, Stop};
use crate::plan::{Plan, bytes};
use crate::planner::calibrate;
use crate::training::{Origin, listened, plan};

/// The pipeline.
pub struct Fold;

const PRESETS: &[Preset] = &[
    Preset {
        name: "cut",
        about: "398 sequences of one alignment (embedded)",
        text: "",
    },
    Preset {
        name: "msa",
        about: "two alignments, validated on a third (ADVECT_DATA)",
        text: include_str!("msa.toml"),
    },
];

impl Pipeline for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn about(&self) -> &'static str {
        "an Evoformer learns masked letters of sequence alignments, on any mesh of workers"
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
        let fabric = Fabric::Threads(settings::workers(config)?);
        let settings = Settings::read(config, &fabric)?;
        Ok(found(&shared(config, settings, Stop::default())?))
    }

    fn plan(&self, config: &Config, fabric: &Fabric) -> Result<Plan> {
        let settings = Settings::read(config, fabric)?;
        let (training, batching) = (&settings.training, settings.training.batching);
        let title = format!(
            "fold on {fabric}, {}: {} samples of {} rows and {} columns a step in {} micro-batches",
            training.strategy,
            batching.step(),
            settings.model.sequences,
            settings.model.length,
            batching.accumulation()
        );
        let feed = [
            "Samples",
            "rows, columns and profiles of a step",
            "letters, targets, profiles",
        ];
        let trainable = train(&settings, &settings.model)?;
        Ok(plan(title, feed, &trainable, training))
    }

    fn resumes(&self) -> bool {
        true
    }

    fn run(&self, run: &Run) -> Result<()> {
        let settings = Settings::read(&run.config, &run.fabric)?;
        let origin = Origin::of(run, &settings.training)?;
        let mut shared = shared(&run.config, settings, run.stop.clone())?;
        fits(&run.config, &run.fabric, &shared)?;
        shared.origin = origin;
        let shared = Arc::new(shared);
        let sink = match run.is_first_process() {
            true => Some(Sink::create(run, &shared)?),
            false => None,
        };
        let (sink, given) = listened(run, &shared, sink, Sink::hear, job::run)?;
        let whole = given.into_iter().next().unwrap_or_default();
        match sink {
            Some(sink) => sink.finish(&shared, &whole),
            None => Ok(()),
        }
    }
}

fn train(settings: &Settings, model: &Evoformer) -> Result<Trainable> {
    let samples = settings.training.batching.moment();
    Ok(model.train(
        samples,
        settings.training.dtype,
        &settings.training.strategy,
    )?)
}

fn shared(config: &Config, settings: Settings, stop: Stop) -> Result<Shared> {
    let alignments = Alignments::read(config, &settings.files)?;
    let evaluated = match settings.model.dropout.rate {
        0.0 => None,
        _ => {
            let whole = Evoformer {
                dropout: Dropout::NONE,
                ..settings.model.clone()
            };
            Some(train(&settings, &whole)?)
        }
    };
    let samples = settings.training.batching.moment();
    let (dtype, strategy) = (settings.training.dtype, &settings.training.strategy);
    Ok(Shared {
        trainable: train(&settings, &settings.model)?,
        evaluated,
        recovery: settings.model.recovery(samples, dtype, strategy)?,
        settings,
        alignments,
        stop,
        origin: Origin::default(),
    })
}

/// What was read, a line each.
fn found(shared: &Shared) -> Vec<String> {
    let alignments = &shared.alignments;
    let line = |what: &str, alignment: &Alignment| {
        format!(
            "{what} {}: {} rows, {:.0} effective, of {} columns",
            alignment.name,
            alignment.rows(),
            alignment.effective(),
            alignment.columns
        )
    };
    let train = alignments.train.iter().map(|a| line("train on", a));
    let held_out = alignments.held_out.iter().map(|a| line("validate on", a));
    let mut lines: Vec<String> = train.chain(held_out).collect();
    for left in &alignments.left {
        let (name, rejected, beyond) = (&left.name, left.rejected, left.beyond);
        if rejected > 0 {
            lines.push(format!("{rejected} rows of {name} rejected"));
        }
        if beyond > 0 {
            lines.push(format!(
                "{beyond} rows of {name} left out, beyond alignments.rows"
            ));
        }
    }
    lines
}

/// Ends a run that does not fit into the memory of this machine before it takes any: parameters, gradients and the
/// state of the optimizer as they are stored, and what micro-batches in work keep for the adjoint.
fn fits(config: &Config, fabric: &Fabric, shared: &Shared) -> Result<()> {
    let (settings, graph) = (&shared.settings, &shared.trainable.graph);
    let copies = 2.0 + settings.training.recipe.slots().len() as f64;
    let of = |worker: usize| {
        let moments = settings
            .training
            .strategy
            .whole_in_flight(worker, settings.training.in_flight) as f64;
        copies * graph.parameter_bytes(worker) as f64 + moments * graph.bytes_kept(worker) as f64
    };
    let needs: f64 = fabric.local().map(of).sum();
    let memory = calibrate::memory().unwrap_or(f64::INFINITY);
    let why = format!(
        "needs {} on this process, and the machine has {}; cut samples (context-heads, context-gather) over more \
         machines, or take fewer model.sequences, a smaller model.length or samples.micro, or layout.recompute",
        bytes(needs as u64),
        bytes(memory as u64)
    );
    Ok(config.require("layout.mesh", needs <= memory, &why)?)
}
