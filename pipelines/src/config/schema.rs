//! Which keys there are and of which type, as the default and the presets say.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::Value;

use super::error::{ConfigError, short};
use super::layer::Leaf;
use super::nearest::nearest;

/// All known keys.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    leaves: BTreeMap<String, Value>,
    tables: BTreeSet<String>,
    /// Keys in the order in which they were first seen.
    order: Vec<String>,
}

impl Schema {
    /// Adds the keys of a layer; the type of a key is that of its first value.
    pub(crate) fn learn(&mut self, leaves: &[Leaf]) {
        for Leaf { key, value, .. } in leaves {
            let tables = key.match_indices('.').map(|(i, _)| key[..i].to_owned());
            self.tables.extend(tables);
            if value.is_inline_table() {
                self.tables.insert(key.clone());
            } else if !self.leaves.contains_key(key) {
                self.order.push(key.clone());
                self.leaves.insert(key.clone(), value.clone());
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.leaves.get(key)
    }

    pub(crate) fn order(&self) -> &[String] {
        &self.order
    }

    /// Whether a leaf of a layer above is known and of the right type; `false` for an empty table,
    /// which sets nothing.
    pub(crate) fn admits(&self, leaf: &Leaf) -> Result<bool, ConfigError> {
        let Leaf { key, value, origin } = leaf;
        let place = origin.exact();
        let wrong = |key: &str, got: &str, expected: &str| ConfigError::WrongType {
            place: place.clone(),
            key: short(key),
            got: got.to_owned(),
            expected: expected.to_owned(),
        };
        if let Some(expected) = self.leaves.get(key) {
            return match mismatch(expected, value) {
                None => Ok(true),
                Some((got, expected)) => Err(wrong(key, &got, &expected)),
            };
        }
        if self.tables.contains(key) {
            let empty = value.as_inline_table().is_some_and(|t| t.is_empty());
            return if empty {
                Ok(false)
            } else {
                Err(wrong(key, kind(value), "a table"))
            };
        }
        // the shortest part of the key that is not known is what was misspelt
        let ends = key.match_indices('.').map(|(i, _)| i).chain([key.len()]);
        let parts = ends.map(|end| &key[..end]);
        for part in parts {
            if let Some(expected) = self.leaves.get(part) {
                return Err(wrong(part, "a table", kind(expected)));
            }
            if !self.tables.contains(part) {
                return Err(ConfigError::UnknownKey {
                    place,
                    key: short(key),
                    mend: self.mend(part, key),
                });
            }
        }
        Ok(false)
    }

    fn mend(&self, part: &str, key: &str) -> String {
        let section = part.rfind('.').map_or("", |i| &part[..i]);
        let all = || self.leaves.keys().chain(&self.tables).map(String::as_str);
        let found = nearest(key, all(), "");
        if found.starts_with("did") {
            return found;
        }
        let here = all().filter(|k| k.rfind('.').map_or("", |i| &k[..i]) == section);
        let place = if section.is_empty() {
            "keys are".to_owned()
        } else {
            format!("`{section}` has")
        };
        nearest(part, here, &place)
    }
}

/// What is wrong with the type of `got`, if anything: (what it is, what it must be).
fn mismatch(expected: &Value, got: &Value) -> Option<(String, String)> {
    let whole = |v: &Value| kind(v).to_owned();
    match (expected, got) {
        (Value::Float(_), Value::Integer(_)) => None,
        (Value::Array(expected), Value::Array(got)) => {
            let first = expected.get(0)?;
            let bad = got.iter().find_map(|v| mismatch(first, v));
            bad.map(|(got, expected)| {
                (
                    format!("an array with {got}"),
                    format!("an array, each {expected}"),
                )
            })
        }
        _ if kind(expected) == kind(got) => None,
        _ => Some((whole(got), whole(expected))),
    }
}

/// The type of a value with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "an array",
        Value::InlineTable(_) => "a table",
    }
}
