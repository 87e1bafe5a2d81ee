//! The configuration of `fold`, read and checked.

use advect_engine::Fabric;
use advect_operators::evoformer::Evoformer;
use advect_operators::network::Dropout;
use advect_operators::training::{Method, Samples};
use serde::Deserialize;

use super::alignment::{Files, LETTERS};
use super::profile::FEATURES;
use super::sample::{Extents, Masking};
use crate::checkpoints;
use crate::config::Config;
use crate::error::Result;
use crate::training::Training;
use crate::training::settings::{
    self, Keys, Precision, Validation, epsilon, from_zero, holds, part, strategy,
};

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
    max_relative_position: usize,
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
struct Raw {
    #[serde(rename = "data")]
    _data: String,
    alignments: Files,
    model: Model,
    masking: Masking,
    layout: Layout,
    samples: Samples,
    training: Keys,
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
    pub(crate) training: Training,
    pub(crate) validation: Validation,
}

/// The most of an extent: more is a slip of the finger, and could not be counted.
const MOST: usize = 1 << 16;
const MOST_BLOCKS: usize = 1000;

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
        holds(config, &strategy, raw.model.blocks)?;
        let structures = raw.alignments.structures.iter().any(|s| !s.is_empty());
        let why =
            "must be 2 or more where alignments.structures names a file, and 0 where it does not";
        let fits = if structures {
            raw.model.bins > 1
        } else {
            raw.model.bins == 0
        };
        config.require("model.bins", fits, why)?;
        Ok(Settings {
            model: model(&raw.model, raw.training.seed),
            training: Training::new(
                &raw.training,
                raw.optimizer,
                raw.samples,
                raw.model.precision,
                (strategy, raw.layout.in_flight),
                raw.checkpoint,
            )?,
            files: raw.alignments,
            masking: raw.masking,
            validation: raw.validation,
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
        step == self.training.steps() || step.is_multiple_of(self.validation.every)
    }
}

fn model(model: &Model, seed: u64) -> Evoformer {
    Evoformer {
        alphabet: LETTERS,
        sequences: model.sequences,
        length: model.length,
        features: if model.profile { FEATURES } else { 0 },
        prior: model.profile,
        masked: true,
        blocks: model.blocks,
        alignment: model.alignment,
        pairs: model.pairs,
        alignment_heads: model.alignment_heads,
        pair_heads: model.pair_heads,
        head: model.head,
        outer: model.outer,
        triangle: model.triangle,
        transition: model.transition,
        max_relative_position: model.max_relative_position,
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
        ("model.max_relative_position", model.max_relative_position),
        ("model.bins", model.bins),
    ] {
        config.require(key, value <= MOST, "must be at most 65536")?;
    }
    let few = model.blocks <= MOST_BLOCKS;
    config.require("model.blocks", few, "must be at most 1000")?;
    for (key, value) in [
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
    let (model, masking) = (&raw.model, raw.masking);
    raw.training.check(config)?;
    part(config, "model.dropout", model.dropout)?;
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
    epsilon(config, model.epsilon)?;
    let weight = ("model.distances_weight", model.distances_weight);
    Ok(from_zero(config, weight.0, weight.1)?)
}

/// Workers of the mesh that is asked for; one if that is left open.
pub(crate) fn workers(config: &Config) -> Result<usize> {
    let raw: Raw = config.read()?;
    settings::workers(config, &raw.layout.mesh)
}
