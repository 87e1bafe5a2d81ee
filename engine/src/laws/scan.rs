//! Which types implement a trait, read from the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{EngineError, Result};

/// The types for which `implemented` is implemented under `folder`, with the file that does it.
/// Comments and test modules do not count.
///
/// # Errors
/// [`EngineError::File`] if a source cannot be read.
pub fn declared(folder: &Path, implemented: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for path in sources(folder)? {
        let text = fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
        for name in types(&text, implemented) {
            found.insert(name, path.clone());
        }
    }
    Ok(found)
}

fn unreadable(path: &Path, source: std::io::Error) -> EngineError {
    EngineError::File {
        path: path.display().to_string(),
        source,
    }
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| unreadable(folder, e))? {
        let path = entry.map_err(|e| unreadable(folder, e))?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn types(text: &str, implemented: &str) -> Vec<String> {
    let code: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let pattern = format!("{implemented} for ");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&pattern) {
        let before = &code[..at];
        let start = before.rfind(['{', '}', ';']).map_or(0, |i| i + 1);
        let header = before[start..].trim_start();
        let whole_word = before
            .chars()
            .next_back()
            .is_none_or(|c| c.is_whitespace() || c == ':');
        if whole_word
            && header
                .split_whitespace()
                .any(|w| w == "impl" || w.starts_with("impl<"))
        {
            let name = code[at + pattern.len()..]
                .split(['<', ' ', '{', '\n'])
                .next();
            found.extend(name.map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Implementations are found with generics, paths and attributes, over several lines; comments,
    /// bounds, other traits and tests are not.
    #[test]
    fn implementations_are_found() {
        let text = "
            use a::Operator;
            /// impl Operator for Commented {}
            struct A;
            impl Operator for A {}
            #[allow(dead_code)]
            impl<T: Clone> graph::Operator for B<T> {}
            impl<T>
                Operator for C<T>
            where T: Copy {}
            impl UnaryOperator for D {}
            fn f() { for x in y {} }
            // impl Operator for E {}\n#[cfg(test)]
            impl Operator for F {}";
        assert_eq!(types(text, "Operator"), ["A", "B", "C"]);
    }
}
