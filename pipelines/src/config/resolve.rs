//! Merging the layers of a pipeline's configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml_edit::Value;

use super::error::{ConfigError, short};
use super::layer::{Leaf, from_assignment, from_file, from_text};
use super::nearest::nearest;
use super::origin::Origin;
use super::schema::Schema;
use super::settings::{Config, Setting};
use crate::pipeline::Pipeline;

/// What a user put above the default.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are no `ADVECT_SECTION__KEY` are passed over.
    pub environment: Vec<(String, String)>,
    /// Arguments of `--set`, in order.
    pub set: Vec<String>,
}

impl Sources {
    /// The variables of this process, sorted, as the environment layer.
    #[must_use]
    pub fn with_process_environment(mut self) -> Self {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let name = name
                .into_string()
                .ok()
                .filter(|n| n.starts_with("ADVECT_"))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        self.environment = ours.collect();
        self.environment.sort();
        self
    }
}

/// All layers of a pipeline, merged.
///
/// # Errors
/// The first thing that is wrong with any layer.
pub fn resolve(pipeline: &dyn Pipeline, sources: &Sources) -> Result<Config, ConfigError> {
    let default = from_text(pipeline.default_config(), |_, _| Origin::Default)?;
    let mut schema = Schema::default();
    schema.learn(&default);
    let mut presets = BTreeMap::new();
    for preset in pipeline.presets() {
        let layer = from_text(preset.text, |_, _| Origin::Preset(preset.name.to_owned()))?;
        schema.learn(&layer);
        presets.insert(preset.name, layer);
    }
    let mut user = Vec::new();
    if let Some(path) = &sources.file {
        user.push(from_file(path)?);
    }
    user.push(environment(&sources.environment, &schema)?);
    user.push(assignments(&sources.set, &schema)?);

    let mut merged = Merged {
        choices: pipeline.choices(),
        settings: BTreeMap::new(),
    };
    merged.lay(default);
    let key = pipeline.preset_key();
    let chosen = user.iter().flatten().rfind(|leaf| leaf.key == key);
    let chosen = chosen.map(|l| (l.value.clone(), l.origin.clone()));
    let chosen = chosen.or_else(|| {
        merged
            .settings
            .get(key)
            .map(|s| (s.value.clone(), s.origin.clone()))
    });
    if let Some((Value::String(name), origin)) = chosen.filter(|_| !presets.is_empty()) {
        let name = name.value().as_str();
        let layer = presets
            .remove(name)
            .ok_or_else(|| ConfigError::UnknownPreset {
                place: origin.exact(),
                key: key.to_owned(),
                name: short(name),
                mend: nearest(
                    name,
                    pipeline.presets().iter().map(|p| p.name),
                    "presets are",
                ),
            })?;
        merged.lay(layer);
    }
    for layer in user {
        let mut admitted = Vec::with_capacity(layer.len());
        for leaf in layer {
            if schema.admits(&leaf)? {
                admitted.push(leaf);
            }
        }
        merged.lay(admitted);
    }
    Ok(Config::new(
        pipeline.name(),
        merged.settings,
        schema.order(),
    ))
}

struct Merged {
    choices: &'static [&'static str],
    settings: BTreeMap<String, Setting>,
}

impl Merged {
    /// Lays a layer over what is there.
    fn lay(&mut self, leaves: Vec<Leaf>) {
        for choice in self.choices {
            for leaf in &leaves {
                let Some((table, taken)) = chosen(&leaf.key, choice) else {
                    continue;
                };
                self.settings.retain(|k, _| {
                    chosen(k, choice).is_none_or(|(t, other)| t != table || other == taken)
                });
            }
        }
        for Leaf { key, value, origin } in leaves {
            if !value.is_inline_table() {
                self.settings.insert(key, Setting { value, origin });
            }
        }
    }
}

/// For a key below the choice table: the table, and which alternative the key belongs to.
fn chosen<'a>(key: &'a str, choice: &str) -> Option<(&'a str, &'a str)> {
    let mut at = 0;
    for segment in choice.split('.') {
        let rest = &key[at..];
        let end = rest.find('.')?;
        if segment != "*" && segment != &rest[..end] {
            return None;
        }
        at += end + 1;
    }
    let rest = &key[at..];
    Some((&key[..at], &rest[..rest.find('.').unwrap_or(rest.len())]))
}

fn environment(variables: &[(String, String)], schema: &Schema) -> Result<Vec<Leaf>, ConfigError> {
    let mut leaves = Vec::new();
    for (name, text) in variables {
        // without a double underscore it is a setting of the program, such as ADVECT_DATA
        let Some(path) = name.strip_prefix("ADVECT_").filter(|p| p.contains("__")) else {
            continue;
        };
        let key = path.to_lowercase().replace("__", ".");
        let key = key.strip_prefix('.').unwrap_or(&key);
        // a shell allows no hyphen in a name
        let hyphens = || schema.order().iter().find(|k| k.replace('-', "_") == key);
        let key = if schema.get(key).is_some() {
            key
        } else {
            hyphens().map_or(key, |k| k)
        };
        leaves.extend(from_assignment(
            key,
            text,
            Origin::Environment(name.clone()),
            schema,
        )?);
    }
    Ok(leaves)
}

fn assignments(arguments: &[String], schema: &Schema) -> Result<Vec<Leaf>, ConfigError> {
    let mut leaves = Vec::new();
    for argument in arguments {
        let malformed = || ConfigError::Set {
            argument: short(argument),
        };
        let (key, text) = argument.split_once('=').ok_or_else(malformed)?;
        let key = key.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if key
            .split('.')
            .any(|part| part.is_empty() || !part.chars().all(plain))
        {
            return Err(malformed());
        }
        leaves.extend(from_assignment(
            key,
            text,
            Origin::Set(argument.clone()),
            schema,
        )?);
    }
    Ok(leaves)
}
