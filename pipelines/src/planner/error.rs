//! The one error type of the planner.

use std::path::PathBuf;

use thiserror::Error;

use super::rejection::Rejection;
use super::run::Run;

/// Why a plan cannot be made from what was given. A configuration that cannot run is no error: it
/// is a [`Rejection`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlannerError {
    /// No machine of this name is built in.
    #[error("there is no machine `{name}`; built in are {known}, or give the path of a TOML file")]
    UnknownMachine {
        /// The name that was given.
        name: String,
        /// All names.
        known: String,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A description is not TOML, or has wrong keys.
    #[error("{place}: {source}")]
    Toml {
        /// The file or the name of the built-in description.
        place: String,
        /// What the parser says, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A number is out of its range.
    #[error("{place}: {what} is {got}; {mend}")]
    Value {
        /// The thing that holds it.
        place: String,
        /// The number.
        what: &'static str,
        /// Its value.
        got: String,
        /// What to do.
        mend: &'static str,
    },
    /// A schedule stopped with work left.
    #[error(
        "{schedule} on {stages} stages with {micro} micro-batches stops with {left} actions left; \
         raise its limit of moments in flight"
    )]
    Deadlock {
        /// The schedule.
        schedule: String,
        /// p, stages.
        stages: usize,
        /// m, micro-batches.
        micro: usize,
        /// Actions that never became ready.
        left: usize,
    },
    /// The configuration that was asked for cannot run.
    #[error("{run}: {why}")]
    Rejected {
        /// The configuration.
        run: String,
        /// Why.
        why: Box<Rejection>,
    },
}

impl PlannerError {
    pub(super) fn rejected(run: &Run, why: Rejection) -> Self {
        Self::Rejected {
            run: run.to_string(),
            why: Box::new(why),
        }
    }
}

/// Result with a [`PlannerError`].
pub type Result<T, E = PlannerError> = std::result::Result<T, E>;
