//! The configuration of `fold`, read and checked.

use advect_engine::{DType, EngineError, Fabric};
use advect_operators::evoformer::Evoformer;
use advect_operators::network::Dropout;
use advect_operators::training::{Batching, Fall, Method, Recipe, Samples, Schedule};
use advect_operators::transformer::{Role, Strategy};
use serde::Deserialize;

use super::alignment::{Files, LETTERS};
use super::profile::FEATURES;
use super::sample::{Extents, Masking};
use crate::checkpoints;
use crate::config::Config;
use crate::error::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Precision {
    Bf16,
    F32,
    F64,
    Canonical,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    sequences: usize,
    length: usize,
    blocks: usize,
    alignment: usize,
    pairs: usize,
    alignment_heads: usize,
    pair_heads: usize,
    head: usize,
    outer: usize,
    triangle: usize,
    transition: usize,
    greatest: usize,
    profile: bool,
    bins: usize,
    distances_weight: f64,
    epsilon: f64,
    dropout: f64,
    precision: Precision,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    mesh: String,
    in_flight: usize,
    recompute: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Training {
    steps: u64,
    rate: f64,
    floor: f64,
    warm_up: u64,
    fall: Fall,
    decay: f64,
    clip: f64,
    average: f64,
    seed: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Validation {
    pub(crate) every: u64,
    pub(crate) samples: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(rename = "data")]
    _data: String,
    alignments: Files,
    model: Model,
    masking: Masking,
    layout: Layout,
    samples: Samples,
    training: Training,
    optimizer: Method,
    validation: Validation,
    checkpoint: checkpoints::Settings,
}

/// Everything that a run is told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) files: Files,
    pub(crate) model: Evoformer,
    pub(crate) masking: Masking,
    pub(crate) dtype: DType,
    pub(crate) strategy: Strategy,
    pub(crate) in_flight: usize,
    pub(crate) batching: Batching,
    pub(crate) recipe: Recipe,
    pub(crate) validation: Validation,
    pub(crate) checkpoint: checkpoints::Settings,
}

/// The most of an extent: more is a slip of the finger, and could not be counted.
const MOST: usize = 1 << 16;
const MOST_BLOCKS: usize = 1000;
/// Every worker has its own samples.
const AUTO: &str = "auto";

impl Settings {
    /// Reads the configuration of a run on `fabric`.
    ///
    /// # Errors
    /// If a value does not fit, is out of range, or the mesh is not of all workers.
    pub(crate) fn read(config: &Config, fabric: &Fabric) -> Result<Self> {
        let raw: Raw = config.read()?;
        extents(config, &raw)?;
        numbers(config, &raw)?;
        let strategy = strategy(config, &raw.layout.mesh, fabric)?;
        let strategy = strategy.recomputing(raw.layout.recompute);
        let places = strategy.places(raw.model.blocks).map(|_| ());
        places.map_err(|e| config.wrong("layout.mesh", e))?;
        let structures = raw.alignments.structures.iter().any(|s| !s.is_empty());
        let why =
            "must be 2 or more where alignments.structures names a file, and 0 where it does not";
        let fits = if structures {
            raw.model.bins > 1
        } else {
            raw.model.bins == 0
        };
        config.require("model.bins", fits, why)?;
        let batching = Batching::new(raw.samples, &strategy)?;
        let training = &raw.training;
        Ok(Settings {
            model: model(&raw.model, training.seed),
            dtype: match raw.model.precision {
                Precision::Bf16 => DType::BF16,
                Precision::F32 => DType::F32,
                Precision::F64 => DType::F64,
                Precision::Canonical => DType::Canonical,
            },
            recipe: Recipe {
                method: raw.optimizer,
                schedule: Schedule {
                    peak: training.rate,
                    floor: training.floor,
                    warm_up: training.warm_up,
                    steps: training.steps,
                    fall: training.fall,
                },
                decay: training.decay,
                clip: Some(training.clip).filter(|clip| *clip > 0.0),
                seed: training.seed,
                average: Some(training.average).filter(|stays| *stays > 0.0),
            },
            files: raw.alignments,
            masking: raw.masking,
            in_flight: raw.layout.in_flight,
            validation: raw.validation,
            checkpoint: raw.checkpoint,
            strategy,
            batching,
        })
    }

    /// Rows and columns of a sample.
    pub(crate) fn extents(&self) -> Extents {
        Extents {
            sequences: self.model.sequences,
            length: self.model.length,
        }
    }

    /// Whether the version before step `step` is validated: the first, every so often, and the last.
    pub(crate) fn validates(&self, step: u64) -> bool {
        step == self.recipe.schedule.steps || step.is_multiple_of(self.validation.every)
    }

    /// Whether a checkpoint is written after `steps` steps: every so often, and after the last.
    pub(crate) fn saves(&self, steps: u64) -> bool {
        let every = self.checkpoint.every;
        every > 0 && (steps.is_multiple_of(every) || steps == self.recipe.schedule.steps)
    }
}

fn model(model: &Model, seed: u64) -> Evoformer {
    Evoformer {
        alphabet: LETTERS,
        sequences: model.sequences,
        length: model.length,
        features: if model.profile { FEATURES } else { 0 },
        prior: model.profile,
        blocks: model.blocks,
        alignment: model.alignment,
        pairs: model.pairs,
        alignment_heads: model.alignment_heads,
        pair_heads: model.pair_heads,
        head: model.head,
        outer: model.outer,
        triangle: model.triangle,
        transition: model.transition,
        greatest: model.greatest,
        bins: model.bins,
        distances_weight: model.distances_weight,
        epsilon: model.epsilon,
        dropout: Dropout {
            rate: model.dropout,
            seed,
        },
    }
}

fn extents(config: &Config, raw: &Raw) -> Result<()> {
    let model = &raw.model;
    for (key, value) in [
        ("model.sequences", model.sequences),
        ("model.length", model.length),
        ("model.blocks", model.blocks),
        ("model.alignment", model.alignment),
        ("model.pairs", model.pairs),
        ("model.alignment_heads", model.alignment_heads),
        ("model.pair_heads", model.pair_heads),
        ("model.head", model.head),
        ("model.outer", model.outer),
        ("model.triangle", model.triangle),
        ("model.transition", model.transition),
        ("samples.step", raw.samples.step),
        ("samples.micro", raw.samples.micro),
        ("validation.samples", raw.validation.samples),
        ("layout.in_flight", raw.layout.in_flight),
    ] {
        let fits = (1..=MOST).contains(&value);
        config.require(key, fits, "must be from 1 to 65536")?;
    }
    for (key, value) in [
        ("model.greatest", model.greatest),
        ("model.bins", model.bins),
    ] {
        config.require(key, value <= MOST, "must be at most 65536")?;
    }
    let few = model.blocks <= MOST_BLOCKS;
    config.require("model.blocks", few, "must be at most 1000")?;
    for (key, value) in [
        ("training.steps", raw.training.steps),
        ("validation.every", raw.validation.every),
        ("checkpoint.keep", raw.checkpoint.keep as u64),
    ] {
        config.require(key, value > 0, "must be at least 1")?;
    }
    let why = "must be from 2 to 16777216";
    let rows = (2..=1 << 24).contains(&raw.alignments.rows);
    Ok(config.require("alignments.rows", rows, why)?)
}

fn numbers(config: &Config, raw: &Raw) -> Result<()> {
    let (model, masking, training) = (&raw.model, raw.masking, &raw.training);
    for (key, value) in [
        ("model.dropout", model.dropout),
        ("training.average", training.average),
    ] {
        let part = (0.0..1.0).contains(&value);
        config.require(key, part, "must be from 0 on and below 1")?;
    }
    for (key, value) in [
        ("alignments.identity", raw.alignments.identity),
        ("masking.part", masking.part),
        ("masking.masked", masking.masked),
    ] {
        let part = value > 0.0 && value <= 1.0;
        config.require(key, part, "must be above 0 and at most 1")?;
    }
    let rest = masking.random >= 0.0 && masking.masked + masking.random <= 1.0 + 1e-9;
    let why = "must be from 0 on, and with masking.masked at most 1";
    config.require("masking.random", rest, why)?;
    let small = model.epsilon > 0.0 && model.epsilon < 1.0;
    config.require("model.epsilon", small, "must be above 0 and below 1")?;
    for (key, value) in [
        ("model.distances_weight", model.distances_weight),
        ("training.rate", training.rate),
        ("training.floor", training.floor),
        ("training.decay", training.decay),
        ("training.clip", training.clip),
    ] {
        let finite = value.is_finite() && value >= 0.0;
        config.require(key, finite, "must be a number from 0 on")?;
    }
    Ok(())
}

/// Workers of the mesh that is asked for; one if that is left open.
pub(crate) fn workers(config: &Config) -> Result<usize> {
    let raw: Raw = config.read()?;
    match raw.layout.mesh.as_str() {
        AUTO => Ok(1),
        named => Ok(parsed(config, named)?.mesh().workers()),
    }
}

fn parsed(config: &Config, mesh: &str) -> Result<Strategy> {
    let why = |e: EngineError| config.wrong("layout.mesh", e);
    Ok(mesh.parse().map_err(why)?)
}

/// The mesh that is asked for, if it is of all workers.
fn strategy(config: &Config, mesh: &str, fabric: &Fabric) -> Result<Strategy> {
    let workers = fabric.workers();
    let strategy = match mesh {
        AUTO => Strategy::new(&[(Role::Data, workers)])?,
        named => parsed(config, named)?,
    };
    let why = format!(
        "has {0} workers and the run {workers}; start it with -w {0} or change an axis",
        strategy.mesh().workers()
    );
    config.require("layout.mesh", strategy.mesh().workers() == workers, &why)?;
    Ok(strategy)
}
