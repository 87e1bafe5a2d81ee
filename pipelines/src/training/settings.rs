//! The keys that every training job has.

use advect_engine::{DType, EngineError, Fabric};
use advect_operators::training::{Batching, Fall, Method, Recipe, Samples, Schedule};
use advect_operators::transformer::{Role, Strategy};
use serde::Deserialize;

use crate::checkpoints;
use crate::config::{Config, ConfigError};
use crate::error::Result;

/// The type of what flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Precision {
    Bf16,
    F32,
    F64,
    Canonical,
}

impl Precision {
    fn dtype(self) -> DType {
        match self {
            Precision::Bf16 => DType::BF16,
            Precision::F32 => DType::F32,
            Precision::F64 => DType::F64,
            Precision::Canonical => DType::Canonical,
        }
    }
}

/// The keys of `training`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    pub(crate) steps: u64,
    rate: f64,
    floor: f64,
    warm_up: u64,
    fall: Fall,
    decay: f64,
    clip: f64,
    average: f64,
    pub(crate) seed: u64,
}

/// The keys of `validation`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Validation {
    pub(crate) every: u64,
    pub(crate) samples: usize,
}

/// How a job trains.
#[derive(Debug, Clone)]
pub(crate) struct Training {
    pub(crate) dtype: DType,
    pub(crate) strategy: Strategy,
    /// Micro-batches in work at the last stage at most.
    pub(crate) in_flight: usize,
    pub(crate) batching: Batching,
    pub(crate) recipe: Recipe,
    pub(crate) checkpoint: checkpoints::Settings,
}

impl Training {
    /// From its keys.
    ///
    /// # Errors
    /// If samples cannot be cut so.
    pub(crate) fn new(
        keys: &Keys,
        method: Method,
        samples: Samples,
        precision: Precision,
        (strategy, in_flight): (Strategy, usize),
        checkpoint: checkpoints::Settings,
    ) -> Result<Self> {
        Ok(Training {
            dtype: precision.dtype(),
            batching: Batching::new(samples, &strategy)?,
            recipe: Recipe {
                method,
                schedule: Schedule {
                    peak: keys.rate,
                    floor: keys.floor,
                    warm_up: keys.warm_up,
                    steps: keys.steps,
                    fall: keys.fall,
                },
                decay: keys.decay,
                clip: Some(keys.clip).filter(|clip| *clip > 0.0),
                seed: keys.seed,
                average: Some(keys.average).filter(|stays| *stays > 0.0),
            },
            strategy,
            in_flight,
            checkpoint,
        })
    }

    /// The number of steps.
    pub(crate) fn steps(&self) -> u64 {
        self.recipe.schedule.steps
    }

    /// Micro-batches that `worker` may have in work.
    pub(crate) fn in_flight(&self, worker: usize) -> usize {
        self.strategy.in_flight(worker, self.in_flight)
    }

    /// Whether a checkpoint is written after `steps` steps: every so often, and after the last.
    pub(crate) fn saves(&self, steps: u64) -> bool {
        let every = self.checkpoint.every;
        every > 0 && (steps.is_multiple_of(every) || steps == self.steps())
    }
}

impl Keys {
    /// # Errors
    /// If a value is out of range.
    pub(crate) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        config.require("training.steps", self.steps > 0, "must be at least 1")?;
        part(config, "training.average", self.average)?;
        for (key, value) in [
            ("training.rate", self.rate),
            ("training.floor", self.floor),
            ("training.decay", self.decay),
            ("training.clip", self.clip),
        ] {
            from_zero(config, key, value)?;
        }
        Ok(())
    }
}

/// # Errors
/// If a value is not from 0 on and below 1.
pub(crate) fn part(config: &Config, key: &str, value: f64) -> Result<(), ConfigError> {
    let fits = (0.0..1.0).contains(&value);
    config.require(key, fits, "must be from 0 on and below 1")
}

/// # Errors
/// If a value is not a number from 0 on.
pub(crate) fn from_zero(config: &Config, key: &str, value: f64) -> Result<(), ConfigError> {
    let fits = value.is_finite() && value >= 0.0;
    config.require(key, fits, "must be a number from 0 on")
}

/// # Errors
/// If ε of norms is not above 0 and below 1.
pub(crate) fn epsilon(config: &Config, value: f64) -> Result<(), ConfigError> {
    let small = value > 0.0 && value < 1.0;
    config.require("model.epsilon", small, "must be above 0 and below 1")
}

/// Every worker has its own samples.
const AUTO: &str = "auto";

/// Workers of the mesh that is asked for; one if that is left open.
///
/// # Errors
/// If it is no mesh.
pub(crate) fn workers(config: &Config, mesh: &str) -> Result<usize> {
    match mesh {
        AUTO => Ok(1),
        named => Ok(parsed(config, named)?.mesh().workers()),
    }
}

fn parsed(config: &Config, mesh: &str) -> Result<Strategy> {
    let why = |e: EngineError| config.wrong("layout.mesh", e);
    Ok(mesh.parse().map_err(why)?)
}

/// The mesh that is asked for.
///
/// # Errors
/// If it is none, or not of all workers.
pub(crate) fn strategy(config: &Config, mesh: &str, fabric: &Fabric) -> Result<Strategy> {
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

/// # Errors
/// If the chunks of stages are not of these layers.
pub(crate) fn holds(config: &Config, strategy: &Strategy, layers: usize) -> Result<()> {
    let chunks = strategy.places(layers).map(|_| ());
    Ok(chunks.map_err(|e| config.wrong("layout.mesh", e))?)
}
