//! The merged configuration: every value with its origin, read into typed structs.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml_edit::Value;

use super::error::{ConfigError, short};
use super::origin::Origin;

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Setting {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

impl Setting {
    /// The value as TOML.
    pub fn text(&self) -> String {
        self.value.clone().decorated("", "").to_string()
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// The configuration of one pipeline, all layers merged.
#[derive(Debug, Clone)]
pub struct Config {
    pipeline: String,
    /// In the order of the documented default.
    settings: Vec<(String, Setting)>,
}

impl Config {
    pub(crate) fn new(
        pipeline: &str,
        mut settings: BTreeMap<String, Setting>,
        order: &[String],
    ) -> Self {
        let known = order
            .iter()
            .filter_map(|k| Some((k.clone(), settings.remove(k)?)));
        Self {
            pipeline: pipeline.to_owned(),
            settings: known.collect(),
        }
    }

    /// All values, in the order of the documented default.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings
            .iter()
            .map(|(key, setting)| (key.as_str(), setting))
    }

    /// The value of a dotted key.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings()
            .find(|(k, _)| *k == key)
            .map(|(_, setting)| setting)
    }

    /// Reads the whole into a struct; give it `#[serde(deny_unknown_fields)]`.
    ///
    /// # Errors
    /// If a value does not fit its field; the error names the key and where its value came from.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.read_below("")
    }

    /// Reads one table, such as `"quality"` or `"ensemble.inflation"`, into a struct.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn section<T: DeserializeOwned>(&self, table: &str) -> Result<T, ConfigError> {
        self.read_below(&format!("{table}."))
    }

    fn read_below<T: DeserializeOwned>(&self, prefix: &str) -> Result<T, ConfigError> {
        let (text, places) = self.text_below(prefix);
        toml::from_str(&text).map_err(|e| {
            let why = e.message().lines().collect::<Vec<_>>().join(", ");
            let span = e.span().unwrap_or(0..text.len());
            let at = places
                .iter()
                .find(|(range, _)| range.contains(&span.start) && span.end <= range.end);
            match at {
                Some((_, key)) => self.wrong(key, why),
                None => ConfigError::Whole {
                    pipeline: self.pipeline.clone(),
                    why,
                },
            }
        })
    }

    /// One `key = value` for every setting below `prefix`, and which bytes belong to which key.
    fn text_below(&self, prefix: &str) -> (String, Vec<(Range<usize>, &str)>) {
        let (mut text, mut places) = (String::new(), Vec::new());
        for (key, setting) in self.settings() {
            if let Some(rest) = key.strip_prefix(prefix) {
                let start = text.len();
                let _ = writeln!(text, "{rest} = {}", setting.text());
                places.push((start..text.len(), key));
            }
        }
        (text, places)
    }

    /// The error for a value that has the right type and cannot be used all the same.
    ///
    /// `why` says what is wrong and what would do: `"must lie between 0 and 1"`.
    pub fn wrong(&self, key: &str, why: impl Display) -> ConfigError {
        let setting = self.get(key);
        ConfigError::Value {
            place: setting.map_or_else(|| "configuration".to_owned(), |s| s.origin.exact()),
            key: key.to_owned(),
            value: setting.map_or_else(|| "(absent)".to_owned(), |s| short(&s.text())),
            why: why.to_string(),
        }
    }

    /// `Ok` if the value of `key` is `fine`, else [`wrong`](Self::wrong).
    ///
    /// # Errors
    /// [`ConfigError::Value`] if not.
    pub fn require(&self, key: &str, fine: bool, why: &str) -> Result<(), ConfigError> {
        if fine {
            Ok(())
        } else {
            Err(self.wrong(key, why))
        }
    }

    /// The merged configuration as TOML that gives the same run again.
    pub fn to_toml(&self) -> String {
        self.text_below("").0
    }
}
