//! Errors of the engine: every message names the thing, the place and the mend.

use thiserror::Error;

/// What can go wrong below the pipelines.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    // === Shapes and layouts ===
    /// A layout does not fit its mesh or its tensor.
    #[error("layout {layout} does not fit: {why}")]
    Layout {
        /// The layout as printed.
        layout: String,
        /// What is wrong with it, and the mend.
        why: String,
    },
    /// A tensor has another shape or element type than its place demands.
    #[error("{place}: expected {expected}, got {got}")]
    Tensor {
        /// Operator or edge.
        place: String,
        /// Demanded shape and type.
        expected: String,
        /// Shape and type that came.
        got: String,
    },
    /// A relayout or operator that has no adjoint.
    #[error("{what} has no adjoint: {why}")]
    NoAdjoint {
        /// Operator or relayout.
        what: String,
        /// The reason, and what to use in its place.
        why: String,
    },

    /// An operator or a tensor of a graph that does not fit its place, or fails there.
    #[error("{operator}: {why}")]
    Operator {
        /// Name in the graph, with worker and time where it ran.
        operator: String,
        /// What is wrong, and the mend.
        why: String,
    },

    // === Fabric ===
    /// The fabric could not be put together.
    #[error("cannot connect the workers over {fabric}: {why}")]
    Connect {
        /// Which fabric.
        fabric: String,
        /// What happened, and the mend.
        why: String,
    },
    /// A worker stopped before the job was done.
    #[error("{}", last_words(*worker, why))]
    Worker {
        /// Index of the worker.
        worker: usize,
        /// Its last words.
        why: String,
    },

    // === Storage ===
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A snapshot that cannot be used.
    #[error("snapshot {path}: {why}")]
    Snapshot {
        /// The manifest or part.
        path: String,
        /// What is wrong, and the mend.
        why: String,
    },
}

/// Result with an [`EngineError`].
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Last words name their worker, and often its operator and time as well.
fn last_words(worker: usize, why: &str) -> String {
    match why.starts_with("worker ") {
        true => why.to_owned(),
        false => format!("worker {worker} failed: {why}"),
    }
}
