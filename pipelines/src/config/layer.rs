//! One layer: a TOML text, a variable or an argument as a list of leaves.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml_edit::{Document, InlineTable, Item, Table, Value};

use super::error::{ConfigError, short};
use super::origin::{Lines, Origin};
use super::schema::{Schema, kind};
use super::{DEPTH, LIMIT};

/// A value that is no table, or an empty table, under its dotted key.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// The leaves of a TOML text; `origin` gives the place of a line and column.
pub(crate) fn from_text(
    text: &str,
    origin: impl Fn(usize, usize) -> Origin,
) -> Result<Vec<Leaf>, ConfigError> {
    let lines = Lines::new(text);
    let place = |offset: usize| {
        let (line, column) = lines.place(offset);
        origin(line, column)
    };
    // the parser bounds how deep it recurses by itself
    let document = Document::parse(text).map_err(|e| ConfigError::Syntax {
        place: place(e.span().map_or(0, |s| s.start)).exact(),
        why: e.message().lines().collect::<Vec<_>>().join(", "),
    })?;
    let mut leaves = Vec::new();
    flatten_table(document.as_table(), "", &place, &mut leaves)?;
    Ok(leaves)
}

/// The leaves of a file.
pub(crate) fn from_file(path: &Path) -> Result<Vec<Leaf>, ConfigError> {
    let name = path.display().to_string();
    let unread = |e: std::io::Error| ConfigError::Read {
        place: name.clone(),
        why: e.to_string(),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unread)?;
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(unread)?;
    from_bytes(&bytes, path)
}

/// The leaves of the bytes of a file.
pub(crate) fn from_bytes(bytes: &[u8], path: &Path) -> Result<Vec<Leaf>, ConfigError> {
    if bytes.len() as u64 > LIMIT {
        let place = path.display().to_string();
        return Err(ConfigError::TooLarge {
            place,
            limit: LIMIT,
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = &bytes[..e.valid_up_to()];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let place = format!("{}:{line}", path.display());
        ConfigError::NotUtf8 { place }
    })?;
    from_text(text, |line, column| Origin::File {
        path: path.to_path_buf(),
        line,
        column,
    })
}

/// The leaves of `key = text`, where text is TOML, or a bare text if the schema wants one.
pub(crate) fn from_assignment(
    key: &str,
    text: &str,
    origin: Origin,
    schema: &Schema,
) -> Result<Vec<Leaf>, ConfigError> {
    let text = text.trim();
    let expected = schema.get(key);
    let bare = expected.is_some_and(Value::is_str) && !text.starts_with(['"', '\'']);
    let parsed = if bare {
        Some(Value::from(text))
    } else {
        text.parse::<Value>().ok()
    };
    let value = match (parsed, expected) {
        (Some(value), _) => value,
        (None, Some(expected)) => {
            return Err(ConfigError::WrongType {
                place: origin.exact(),
                key: short(key),
                got: format!("`{}`", short(text)),
                expected: kind(expected).to_owned(),
            });
        }
        // an unknown key is the graver error: let the schema find it
        (None, None) => Value::from(text),
    };
    let mut leaves = Vec::new();
    match value {
        Value::InlineTable(table) if !table.is_empty() => {
            flatten_inline(&table, key, &|_| origin.clone(), &mut leaves)?;
        }
        value => leaves.push(Leaf {
            key: key.to_owned(),
            value,
            origin,
        }),
    }
    Ok(leaves)
}

fn flatten_table(
    table: &Table,
    prefix: &str,
    place: &dyn Fn(usize) -> Origin,
    leaves: &mut Vec<Leaf>,
) -> Result<(), ConfigError> {
    for (name, item) in table {
        let span = table.key(name).and_then(|k| k.span());
        let origin = place(span.or_else(|| item.span()).map_or(0, |s| s.start));
        let key = join(prefix, name, &origin)?;
        let value = match item {
            Item::Table(inner) if !inner.is_empty() => {
                flatten_table(inner, &key, place, leaves)?;
                continue;
            }
            Item::Value(Value::InlineTable(inner)) if !inner.is_empty() => {
                flatten_inline(inner, &key, place, leaves)?;
                continue;
            }
            Item::Table(_) | Item::None => InlineTable::new().into(),
            Item::Value(value) => value.clone(),
            Item::ArrayOfTables(array) => array.clone().into_array().into(),
        };
        leaves.push(Leaf { key, value, origin });
    }
    Ok(())
}

fn flatten_inline(
    table: &InlineTable,
    prefix: &str,
    place: &dyn Fn(usize) -> Origin,
    leaves: &mut Vec<Leaf>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let span = table.key(name).and_then(|k| k.span());
        let origin = place(span.or_else(|| value.span()).map_or(0, |s| s.start));
        let key = join(prefix, name, &origin)?;
        match value {
            Value::InlineTable(inner) if !inner.is_empty() => {
                flatten_inline(inner, &key, place, leaves)?;
            }
            value => leaves.push(Leaf {
                key,
                value: value.clone(),
                origin,
            }),
        }
    }
    Ok(())
}

fn join(prefix: &str, name: &str, origin: &Origin) -> Result<String, ConfigError> {
    if prefix.is_empty() {
        return Ok(name.to_owned());
    }
    if prefix.matches('.').count() + 2 > DEPTH {
        return Err(ConfigError::Syntax {
            place: origin.exact(),
            why: format!("tables nest deeper than {DEPTH} levels; write it flatter"),
        });
    }
    Ok(format!("{prefix}.{name}"))
}
