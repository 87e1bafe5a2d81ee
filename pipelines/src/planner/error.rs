//! The one error type of the planner.

use std::path::PathBuf;

use advect_engine::EngineError;
use thiserror::Error;

use super::rejection::Rejection;
use super::run::Run;

/// Why a plan cannot be made from what was given. A configuration that cannot run is no error: it
/// is a [`Rejection`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlannerError {
    /// No machine of this name is built in.
    #[error("there is no machine `{name}`; {nearest}there are {known}, or give a file NAME.toml")]
    UnknownMachine {
        /// The name that was given.
        name: String,
        /// The nearest name, as a question and a blank; empty if none is near.
        nearest: String,
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
    #[error("{place}: {why}; compare it with what `--machine this --calibrate FILE` writes")]
    Toml {
        /// The file, line and column.
        place: String,
        /// What the parser says.
        why: String,
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
    /// No configuration of the space can run.
    #[error(
        "no configuration of {workers} workers of {machine} can run: the nearest, {run}, does not, \
         since {why}; {mend}"
    )]
    Nothing {
        /// The machine.
        machine: String,
        /// Workers.
        workers: usize,
        /// What came nearest.
        run: String,
        /// Why it cannot run.
        why: Box<Rejection>,
        /// What to do.
        mend: &'static str,
    },
    /// The machine could not be measured.
    #[error("cannot measure this machine: {0}; describe it in a file and give --machine NAME.toml")]
    Measure(#[from] EngineError),
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
    /// Whether what was asked for is wrong, and not what was found.
    pub fn is_mistake(&self) -> bool {
        matches!(
            self,
            Self::UnknownMachine { .. }
                | Self::File { .. }
                | Self::Toml { .. }
                | Self::Value { .. }
        )
    }

    pub(super) fn rejected(run: &Run, why: Rejection) -> Self {
        Self::Rejected {
            run: run.to_string(),
            why: Box::new(why),
        }
    }
}

/// Result with a [`PlannerError`].
pub type Result<T, E = PlannerError> = std::result::Result<T, E>;
