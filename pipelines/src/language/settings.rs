//! The configuration of `language`, read and checked.

use advect_engine::Fabric;
use advect_operators::local::device;
use advect_operators::network::Dropout;
use advect_operators::training::{Method, Samples};
use advect_operators::transformer::{Activation, Gpt, Norm, Positions, Strategy, Style};
use serde::Deserialize;

use crate::checkpoints;
use crate::config::Config;
use crate::error::Result;
use crate::training::Training;
use crate::training::settings::{
    self, Keys, Precision, Validation, epsilon, from_zero, holds, part, strategy,
};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Alphabet {
    /// A byte.
    Bytes,
    /// A base of a genome: A, C, G, T, or N for what is not known.
    Bases,
}

impl Alphabet {
    /// Number of tokens.
    pub(crate) fn size(self) -> usize {
        match self {
            Alphabet::Bytes => 256,
            Alphabet::Bases => 5,
        }
    }

    /// What one is called.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Alphabet::Bytes => "byte",
            Alphabet::Bases => "base",
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    pub(crate) file: String,
    pub(crate) alphabet: Alphabet,
    pub(crate) validate: usize,
    pub(crate) test: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    context: usize,
    layers: usize,
    width: usize,
    heads: usize,
    groups: usize,
    hidden: usize,
    activation: Activation,
    norm: Norm,
    epsilon: f64,
    positions: Positions,
    rotary_base: f64,
    biases: bool,
    tied: bool,
    dropout: f64,
    precision: Precision,
    flash: bool,
    weights: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    mesh: String,
    in_flight: usize,
    zero_bubble: bool,
    recompute: bool,
    regather: Regather,
    offload: String,
    device: String,
}

/// Whether keys and values of other workers are fetched again on the way back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Regather {
    /// Those that go around are, and those that were gathered are kept.
    #[default]
    Auto,
    Always,
    Never,
}

impl Regather {
    /// The same mesh, with what was asked for.
    pub(crate) fn of(self, strategy: Strategy) -> Strategy {
        match self {
            Regather::Auto => strategy,
            Regather::Always => strategy.regathering(true),
            Regather::Never => strategy.regathering(false),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    pub(crate) prompt: String,
    pub(crate) tokens: usize,
    pub(crate) temperature: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(rename = "data")]
    _data: String,
    text: Text,
    model: Model,
    layout: Layout,
    samples: Samples,
    training: Keys,
    optimizer: Method,
    validation: Validation,
    checkpoint: checkpoints::Settings,
    sample: Sample,
}

/// Everything that a run is told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) text: Text,
    pub(crate) model: Gpt,
    /// A file of weights to begin from; empty begins with new ones.
    pub(crate) weights: String,
    pub(crate) training: Training,
    pub(crate) zero_bubble: bool,
    pub(crate) validation: Validation,
    pub(crate) sample: Sample,
}

impl Settings {
    /// Reads the configuration of a run on `fabric`.
    ///
    /// # Errors
    /// If a value does not fit, is out of range, or the mesh is not of all workers.
    pub(crate) fn read(config: &Config, fabric: &Fabric) -> Result<Self> {
        let raw: Raw = config.read()?;
        let strategy = strategy(config, &raw.layout.mesh, fabric)?;
        let strategy = strategy.recomputing(raw.layout.recompute);
        let strategy = raw.layout.regather.of(strategy);
        let strategy = match raw.layout.offload.as_str() {
            "" => strategy,
            directory => strategy.offloading(directory),
        };
        let strategy = placed(config, strategy, &raw)?;
        let model = &raw.model;
        let positive = [
            ("model.context", model.context),
            ("model.width", model.width),
            ("model.heads", model.heads),
            ("model.groups", model.groups),
            ("model.hidden", model.hidden),
            ("layout.in_flight", raw.layout.in_flight),
            ("samples.step", raw.samples.step),
            ("samples.micro", raw.samples.micro),
            ("validation.every", raw.validation.every as usize),
            ("checkpoint.keep", raw.checkpoint.keep),
        ];
        for (key, value) in positive {
            config.require(key, value > 0, "must be at least 1")?;
        }
        let few = model.layers <= MOST_LAYERS;
        config.require("model.layers", few, "must be at most 1000")?;
        for (key, value) in [
            ("model.width", model.width),
            ("model.hidden", model.hidden),
            ("model.context", model.context),
            ("samples.step", raw.samples.step),
            ("samples.micro", raw.samples.micro),
        ] {
            config.require(key, value <= MOST, "must be at most 16777216")?;
        }
        holds(config, &strategy, model.layers)?;
        let whole = model.width.is_multiple_of(model.heads);
        config.require("model.heads", whole, "must divide model.width")?;
        let shared = model.heads.is_multiple_of(model.groups);
        config.require("model.groups", shared, "must divide model.heads")?;
        let paired = (model.width / model.heads).is_multiple_of(2);
        config.require(
            "model.positions",
            model.positions == Positions::Learned || paired,
            "turns pairs of columns: make model.width / model.heads even",
        )?;
        part(config, "model.dropout", model.dropout)?;
        epsilon(config, model.epsilon)?;
        raw.training.check(config)?;
        from_zero(config, "sample.temperature", raw.sample.temperature)?;
        let base = model.rotary_base;
        let turns = base.is_finite() && base > 1.0;
        config.require("model.rotary_base", turns, "must be a number above 1")?;
        Ok(Settings {
            model: Gpt {
                vocabulary: raw.text.alphabet.size(),
                context: model.context,
                layers: model.layers,
                width: model.width,
                heads: model.heads,
                groups: model.groups,
                head: model.width / model.heads,
                hidden: model.hidden,
                activation: model.activation,
                style: Style {
                    norm: model.norm,
                    epsilon: model.epsilon,
                    positions: model.positions,
                    rotary_base: model.rotary_base,
                    biases: model.biases,
                    tied: model.tied,
                    dropout: Dropout {
                        rate: model.dropout,
                        seed: raw.training.seed,
                    },
                    bounded: false,
                    flash: model.flash,
                },
            },
            weights: raw.model.weights.clone(),
            training: Training::new(
                &raw.training,
                raw.optimizer,
                raw.samples,
                raw.model.precision,
                (strategy, raw.layout.in_flight),
                raw.checkpoint,
            )?,
            text: raw.text,
            zero_bubble: raw.layout.zero_bubble,
            validation: raw.validation,
            sample: raw.sample,
        })
    }

    /// Whether the version before step `step` is validated: every so often, and the last.
    pub(crate) fn validates(&self, step: u64) -> bool {
        step == self.training.steps() || (step > 0 && step.is_multiple_of(self.validation.every))
    }
}

/// Workers of the mesh that is asked for; one if that is left open.
pub(crate) fn workers(config: &Config) -> Result<usize> {
    let raw: Raw = config.read()?;
    settings::workers(config, &raw.layout.mesh)
}

/// The strategy on the device that is asked for, if one is.
fn placed(config: &Config, strategy: Strategy, raw: &Raw) -> Result<Strategy> {
    let name = raw.layout.device.as_str();
    if name.is_empty() {
        return Ok(strategy);
    }
    device(name).map_err(|e| config.wrong("layout.device", e))?;
    config.require(
        "layout.device",
        raw.model.precision != Precision::Canonical,
        "has no canonical sums: take another model.precision, or leave it empty",
    )?;
    Ok(strategy.on(name))
}

/// Layers at most, and the most of other extents: more are a slip of the finger, and could not be counted.
const MOST_LAYERS: usize = 1000;
const MOST: usize = 1 << 24;
