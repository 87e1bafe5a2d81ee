//! The one error type of pipelines: every message names the thing, the place and the mend.

use std::path::{Path, PathBuf};

use advect_connectors::ConnectorError;
use advect_engine::EngineError;
use advect_operators::OperatorError;
use thiserror::Error;

use crate::bench::BenchError;
use crate::config::ConfigError;
use crate::planner::error::PlannerError;

/// What can end a command.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    // --- what was asked for: exit code 2 ---
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The command line asks for something that cannot be.
    #[error("{what}: {why}; {mend}")]
    Usage {
        /// The argument.
        what: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        mend: String,
    },
    /// Something of this name does not exist.
    #[error("there is no {kind} `{name}`; {mend}")]
    Unknown {
        /// What was looked for: "pipeline", "data set".
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// The nearest name or all names.
        mend: String,
    },

    // --- what happened: exit code 1 ---
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}; {mend}", path.display())]
    File {
        /// What was tried, as a verb: "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// A data set is missing, cannot be downloaded, or is not what it should be.
    #[error("data set `{name}`: {why}; {mend}")]
    Data {
        /// The data set.
        name: String,
        /// What is wrong.
        why: String,
        /// What to do.
        mend: String,
    },
    /// A run that started did not reach its end.
    #[error("{pipeline}: {why}")]
    Failed {
        /// The pipeline.
        pipeline: String,
        /// What happened, and the mend.
        why: String,
    },
    /// The planner has no plan.
    #[error(transparent)]
    Planner(#[from] PlannerError),
    /// A benchmark gave no figures.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An operator was built wrongly.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A file or a live source failed.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
}

impl PipelineError {
    /// The exit code of the command: 2 for what was asked wrongly, 1 for what went wrong.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage { .. } | Self::Unknown { .. } => 2,
            Self::Bench(BenchError::Unknown { .. }) => 2,
            Self::Planner(e) if e.is_mistake() => 2,
            _ => 1,
        }
    }

    /// A [`PipelineError::File`] on `path`, for `map_err`.
    pub fn file(
        action: &'static str,
        path: &Path,
        mend: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File {
            action,
            path,
            source,
            mend,
        }
    }

    /// A [`PipelineError::Unknown`] that names the nearest of `known`.
    pub fn unknown<'a>(
        kind: &'static str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mend = crate::config::nearest(name, known, "known are");
        Self::Unknown {
            kind,
            name: name.to_owned(),
            mend,
        }
    }
}

/// Result with a [`PipelineError`].
pub type Result<T, E = PipelineError> = std::result::Result<T, E>;
