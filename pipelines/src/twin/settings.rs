//! The experiments that a configuration of `twin` asks for.

use advect_operators::twin::{Expected, Experiment, MethodChoice, ModelChoice};
use advect_operators::twin::{ObservationPlan, RunPlan};
use serde::Deserialize;

use crate::config::{Config, ConfigError};
use crate::error::{PipelineError, Result};
use crate::pipeline::Preset;

/// The key that names the experiment.
pub(crate) const KEY: &str = "experiment";
/// The value of [`KEY`] for every experiment there is.
const ALL: &str = "all";

macro_rules! experiment {
    ($name:literal, $about:literal) => {
        Preset {
            name: $name,
            about: $about,
            text: include_str!(concat!("../../experiments/", $name, ".toml")),
        }
    };
}

/// All experiments, in the order in which they run.
pub(crate) const PRESETS: &[Preset] = &[
    Preset {
        name: ALL,
        about: "every experiment",
        text: "",
    },
    experiment!("l96-letkf", "Lorenz-96, local ETKF, 7 members"),
    experiment!("l96-sqrt", "Lorenz-96, square-root EnKF, 24 members"),
    experiment!(
        "l96-stochastic",
        "Lorenz-96, EnKF with perturbed observations, 40 members"
    ),
    experiment!("l96-var3d", "Lorenz-96, 3D-Var"),
    experiment!("l96-oi", "Lorenz-96, optimal interpolation"),
    experiment!("l63-sqrt", "Lorenz-63, square-root EnKF, 10 members"),
    experiment!("ks-letkf", "Kuramoto-Sivashinsky, local ETKF, 6 members"),
];

/// One experiment as the merged configuration holds it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    #[serde(rename = "experiment")]
    _experiment: String,
    name: String,
    model: ModelChoice,
    observations: ObservationPlan,
    method: MethodChoice,
    run: RunPlan,
    expected: Option<Expected>,
}

/// The experiments that `config` asks for, each one that can run.
///
/// # Errors
/// If a value does not fit or is out of range; with all experiments, if a key outside of `[run]`
/// is set.
pub(crate) fn experiments(config: &Config) -> Result<Vec<Experiment>> {
    let chosen = config.get(KEY).map(|s| s.text());
    let found = if chosen.as_deref() == Some("\"all\"") {
        all(config)?
    } else {
        vec![one(config)?]
    };
    let valid = found
        .into_iter()
        .map(|e| e.validated().map_err(PipelineError::from));
    let valid = valid.collect::<Result<Vec<_>>>()?;
    for experiment in &valid {
        let mut seeds = experiment.run.seeds.clone();
        seeds.sort_unstable();
        if seeds.windows(2).any(|w| w[0] == w[1]) {
            let why = "a seed stands there twice and would count twice; give each seed once";
            return Err(config.wrong("run.seeds", why).into());
        }
    }
    Ok(valid)
}

fn one(config: &Config) -> Result<Experiment, ConfigError> {
    let One {
        name,
        model,
        observations,
        method,
        run,
        expected,
        ..
    } = config.read()?;
    Ok(Experiment {
        name,
        model,
        observations,
        method,
        run,
        expected,
    })
}

/// Every experiment, with the values of `[run]` that were set laid over its own.
fn all(config: &Config) -> Result<Vec<Experiment>> {
    let mut over = toml::Table::new();
    for (key, setting) in config.settings().filter(|(key, _)| *key != KEY) {
        let Some(name) = key.strip_prefix("run.") else {
            let why = "belongs to one experiment; name it with --set experiment=NAME";
            return Err(config.wrong(key, why).into());
        };
        let line: toml::Table = toml::from_str(&format!("value = {}", setting.text()))
            .map_err(|e| config.wrong(key, e.message()))?;
        over.extend(line.into_iter().map(|(_, value)| (name.to_owned(), value)));
    }
    let of_file = PRESETS.iter().filter(|p| p.name != ALL).map(|preset| {
        let failed = |why: &toml::de::Error| PipelineError::Failed {
            pipeline: "twin".to_owned(),
            why: format!("experiment `{}`: {}", preset.name, why.message()),
        };
        let mut table: toml::Table = toml::from_str(preset.text).map_err(|e| failed(&e))?;
        if let Some(toml::Value::Table(run)) = table.get_mut("run") {
            run.extend(over.clone());
        }
        table.try_into().map_err(|e| failed(&e))
    });
    of_file.collect()
}
