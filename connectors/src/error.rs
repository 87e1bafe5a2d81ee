//! What can go wrong with a file, a directory or a connection as a whole.
//!
//! Bad *records* are not errors: they flow as [`Rejected`](crate::Rejected). An error here means
//! that a source cannot go on. Every message names the thing, the place and the mend.

use std::io;
use std::path::{Path, PathBuf};

/// The error of every connector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorError {
    // --- places ---
    /// The operating system refused a file, a directory or a socket.
    #[error("cannot {action} {}: {source}; {mend}", path.display())]
    Io {
        /// What was tried, as a verb: "open", "read".
        action: &'static str,
        /// The file, directory or address.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        mend: &'static str,
    },
    // --- shape of a table ---
    /// A table lacks a column.
    #[error(
        "{place}: column `{column}` is missing, the columns are {found}; \
         name the column that holds it or add it"
    )]
    MissingColumn {
        /// The file or stream.
        place: String,
        /// The column asked for.
        column: String,
        /// The columns there are.
        found: String,
    },
    /// A column has a type that cannot be read as the one needed.
    #[error(
        "{place}: column `{column}` has type {found}, expected {expected}; \
         cast it where the file is written"
    )]
    ColumnType {
        /// The file or stream.
        place: String,
        /// The column.
        column: String,
        /// Its type in the file.
        found: String,
        /// The type or types that can be read.
        expected: String,
    },
    /// A row group beyond the end of a Parquet file was selected.
    #[error("{place}: row group {index} was selected, the file has {count}; select 0..{count}")]
    RowGroup {
        /// The file.
        place: String,
        /// The group asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    // --- bytes ---
    /// The bytes are not what the format says.
    #[error("{place}: not readable as {format}: {detail}; {mend}")]
    Format {
        /// The file or stream.
        place: String,
        /// The format that was expected.
        format: &'static str,
        /// What is wrong.
        detail: String,
        /// What to do.
        mend: &'static str,
    },
    /// A declared size is beyond the limit that guards memory.
    #[error(
        "{place}: {what} needs {needed} bytes, the limit is {limit}; \
         read a smaller part or raise the limit"
    )]
    TooLarge {
        /// The file or stream.
        place: String,
        /// What is large.
        what: String,
        /// Bytes it declares.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    // --- arrays ---
    /// A file has no variable (or dimension) of this name.
    #[error("{place}: no {kind} `{name}`, it has {found}; check the name and its case")]
    Unknown {
        /// The file.
        place: String,
        /// "variable" or "dimension".
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        found: String,
    },
    /// A request does not fit the thing it is made of.
    #[error("{place}: {what}: got {got}, expected {expected}")]
    Invalid {
        /// The file, directory or stream.
        place: String,
        /// What does not fit.
        what: String,
        /// What was given.
        got: String,
        /// What would do.
        expected: String,
    },
    /// The HDF5 library refused.
    #[error("{place}: HDF5 cannot {action}: {detail}; check the file with `h5dump -H`")]
    Hdf5 {
        /// The file.
        place: String,
        /// What was tried.
        action: String,
        /// What the library said.
        detail: String,
    },
}

impl ConnectorError {
    /// An [`ConnectorError::Io`] on `path`.
    pub(crate) fn io(
        action: &'static str,
        path: &Path,
        mend: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
            mend,
        }
    }

    /// A [`ConnectorError::Format`] at `place`.
    pub(crate) fn format(
        place: impl Into<String>,
        format: &'static str,
        detail: impl ToString,
        mend: &'static str,
    ) -> Self {
        Self::Format {
            place: place.into(),
            format,
            detail: detail.to_string(),
            mend,
        }
    }

    /// An [`ConnectorError::Hdf5`] at `place`.
    pub(crate) fn hdf5(place: &str, action: impl Into<String>) -> impl FnOnce(hdf5::Error) -> Self {
        let (place, action) = (place.to_string(), action.into());
        move |error| Self::Hdf5 {
            place,
            action,
            detail: error.to_string(),
        }
    }

    /// An [`ConnectorError::Invalid`] at `place`.
    pub(crate) fn invalid(
        place: impl Into<String>,
        what: impl Into<String>,
        got: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Invalid {
            place: place.into(),
            what: what.into(),
            got: got.to_string(),
            expected: expected.to_string(),
        }
    }
}

/// The result of every connector.
pub type Result<T, E = ConnectorError> = std::result::Result<T, E>;
