//! One layer: a TOML text, a variable or an argument as a list of leaves.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml_edit::{Document, InlineTable, Item, Table, Value};

use super::error::ConfigError;
use super::origin::{Origin, line_and_column};
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
    let place = |offset: usize| {
        let (line, column) = line_and_column(text, offset);
        origin(line, column)
    };
    check_nesting(text).map_err(|offset| ConfigError::Syntax {
        place: place(offset).exact(),
        why: format!("more than {DEPTH} levels of tables or arrays; write it flatter"),
    })?;
    let document = Document::parse(text).map_err(|e| ConfigError::Syntax {
        place: place(e.span().map_or(0, |s| s.start)).exact(),
        why: e.message().lines().collect::<Vec<_>>().join(", "),
    })?;
    let mut leaves = Vec::new();
    flatten_table(document.as_table(), "", &place, &mut leaves);
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
    if bytes.len() as u64 > LIMIT {
        return Err(ConfigError::TooLarge {
            place: name,
            limit: LIMIT,
        });
    }
    from_bytes(&bytes, path)
}

/// The leaves of the bytes of a file.
pub(crate) fn from_bytes(bytes: &[u8], path: &Path) -> Result<Vec<Leaf>, ConfigError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()]
            .iter()
            .filter(|&&b| b == b'\n')
            .count()
            + 1;
        ConfigError::NotUtf8 {
            place: format!("{}:{line}", path.display()),
        }
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
    let too_deep = text.len() as u64 > LIMIT || check_nesting(text).is_err();
    let text = text.trim();
    let expected = schema.get(key);
    let bare = expected.is_some_and(Value::is_str) && !text.starts_with(['"', '\'']);
    let value = if bare {
        Some(Value::from(text))
    } else if too_deep {
        None
    } else {
        text.parse::<Value>().ok()
    };
    // an unknown key is the graver error: let the schema find it
    let value = match (value, expected) {
        (Some(value), _) => value,
        (None, Some(expected)) => {
            let (key, place) = (key.to_owned(), origin.exact());
            let (got, expected) = (format!("`{text}`"), kind(expected).to_owned());
            return Err(ConfigError::WrongType {
                place,
                key,
                got,
                expected,
            });
        }
        (None, None) => Value::from(text),
    };
    let mut leaves = Vec::new();
    match value {
        Value::InlineTable(table) if !table.is_empty() => {
            flatten_inline(&table, key, &|_| origin.clone(), &mut leaves);
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
) {
    for (name, item) in table {
        let span = table
            .key(name)
            .and_then(|k| k.span())
            .or_else(|| item.span());
        let offset = span.map_or(0, |s| s.start);
        let key = join(prefix, name);
        let leaf = |value: Value| Leaf {
            key: key.clone(),
            value,
            origin: place(offset),
        };
        match item {
            Item::Table(inner) if !inner.is_empty() => flatten_table(inner, &key, place, leaves),
            Item::Value(Value::InlineTable(inner)) if !inner.is_empty() => {
                flatten_inline(inner, &key, place, leaves);
            }
            Item::Table(_) => leaves.push(leaf(InlineTable::new().into())),
            Item::Value(value) => leaves.push(leaf(value.clone())),
            Item::ArrayOfTables(array) => leaves.push(leaf(array.clone().into_array().into())),
            Item::None => {}
        }
    }
}

fn flatten_inline(
    table: &InlineTable,
    prefix: &str,
    place: &dyn Fn(usize) -> Origin,
    leaves: &mut Vec<Leaf>,
) {
    for (name, value) in table {
        let span = table
            .key(name)
            .and_then(|k| k.span())
            .or_else(|| value.span());
        let key = join(prefix, name);
        match value {
            Value::InlineTable(inner) if !inner.is_empty() => {
                flatten_inline(inner, &key, place, leaves);
            }
            value => {
                let origin = place(span.map_or(0, |s| s.start));
                leaves.push(Leaf {
                    key,
                    value: value.clone(),
                    origin,
                });
            }
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

/// Finds the offset at which brackets or dotted keys nest deeper than [`DEPTH`].
///
/// The parser and the destructor of its tree recurse, so that depth must be bounded before. Dots
/// and brackets in comments are skipped, those in strings count only within one line.
fn check_nesting(text: &str) -> Result<(), usize> {
    let mut open = 0usize;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (mut dots, mut quote, mut escaped) = (0usize, None, false);
        for (i, c) in line.char_indices() {
            match (quote, c) {
                (Some(_), _) if escaped => escaped = false,
                (Some('"'), '\\') => escaped = true,
                (Some(q), c) if q == c => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, '#') => break,
                (None, '[' | '{') => open += 1,
                (None, ']' | '}') => open = open.saturating_sub(1),
                (None, '.') => dots += 1,
                (None, '=' | ',') => dots = 0,
                (None, _) => {}
            }
            if open > DEPTH || dots >= DEPTH {
                return Err(at + i);
            }
        }
        at += line.len();
    }
    Ok(())
}
