//! What can be wrong with a configuration: every message says where, what and the mend.

use thiserror::Error;

/// The error of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    // --- the file as a whole ---
    /// The file cannot be read.
    #[error("{place}: cannot read the configuration: {why}; check the path given to --config")]
    Read {
        /// The file.
        place: String,
        /// The system's answer.
        why: String,
    },
    /// The file is larger than [`LIMIT`](super::LIMIT).
    #[error(
        "{place}: larger than {limit} bytes; a configuration is short, so check that this is one"
    )]
    TooLarge {
        /// The file.
        place: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is not UTF-8.
    #[error("{place}: not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// The file and the line of the first bad byte.
        place: String,
    },
    /// The text is not TOML.
    #[error("{place}: not TOML: {why}")]
    Syntax {
        /// File, line and column.
        place: String,
        /// What the parser says.
        why: String,
    },

    // --- keys ---
    /// A key that no layer below knows.
    #[error("{place}: unknown key `{key}`; {mend}")]
    UnknownKey {
        /// Where it stands.
        place: String,
        /// The dotted key.
        key: String,
        /// The nearest known key, or those of the section.
        mend: String,
    },
    /// The preset key names no preset.
    #[error("{place}: `{key}` = \"{name}\" is no preset; {mend}")]
    UnknownPreset {
        /// Where it stands.
        place: String,
        /// The preset key.
        key: String,
        /// The name given.
        name: String,
        /// The nearest name or all names.
        mend: String,
    },

    // --- values ---
    /// A value of another type than the default's.
    #[error("{place}: `{key}` is {got}; it must be {expected}")]
    WrongType {
        /// Where it stands.
        place: String,
        /// The dotted key.
        key: String,
        /// What it is.
        got: String,
        /// What it must be.
        expected: String,
    },
    /// A value that cannot be used.
    #[error("{place}: `{key}` = {value}: {why}")]
    Value {
        /// Where it stands.
        place: String,
        /// The dotted key.
        key: String,
        /// The value.
        value: String,
        /// Why it cannot be used, and what can.
        why: String,
    },
    /// An argument of `--set` that is not `key=value`.
    #[error("--set {argument}: not of the form key=value; write --set section.key=value")]
    Set {
        /// The argument.
        argument: String,
    },
    /// The layers together do not make a configuration.
    #[error("configuration of {pipeline}: {why}; see `advect config show {pipeline}`")]
    Whole {
        /// The pipeline.
        pipeline: String,
        /// What is wrong.
        why: String,
    },
}

/// A key or value as it is shown in an error: on one line and not too long.
pub(crate) fn short(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push_str("...");
    }
    out
}
