//! Why a configuration cannot run.

use thiserror::Error;

use super::run::Precision;

fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// Why a configuration cannot run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Rejection {
    /// An extent is wrong.
    #[error("{0}")]
    Extent(&'static str),
    /// The axes are not the workers.
    #[error("the axes span {product} workers, there are {workers}")]
    Workers {
        /// Product of the axes.
        product: usize,
        /// Workers.
        workers: usize,
    },
    /// B is no multiple of d b.
    #[error("{batch} sequences are no whole number of micro-batches of {moment}")]
    Accumulation {
        /// B, sequences of a step.
        batch: usize,
        /// d b, sequences of a micro-batch over all replicas.
        moment: usize,
    },
    /// More stages than layers.
    #[error("{layers} layers are too few for {stages} stages")]
    Layers {
        /// L, layers.
        layers: usize,
        /// p v, virtual stages.
        stages: usize,
    },
    /// The split does not have the layers of the model.
    #[error(
        "the split has {stages} stages and {layers} layers, not {want_stages} and {want_layers}"
    )]
    Split {
        /// Stages of the split.
        stages: usize,
        /// Layers of the split.
        layers: usize,
        /// p v, virtual stages.
        want_stages: usize,
        /// L, layers.
        want_layers: usize,
    },
    /// The tensor axis does not divide the heads or the groups, where it must.
    #[error("{tensor} tensor ranks do not divide {heads} heads in {groups} groups")]
    Heads {
        /// t, tensor ranks.
        tensor: usize,
        /// a, heads.
        heads: usize,
        /// g, groups.
        groups: usize,
    },
    /// The tensor axis is larger than a node, where it must not be.
    #[error("{tensor} tensor ranks leave the node of {node} devices")]
    Node {
        /// t, tensor ranks.
        tensor: usize,
        /// Devices of a node.
        node: usize,
    },
    /// The positions cannot be cut evenly.
    #[error("{sequence} positions cannot be cut in {parts}")]
    Positions {
        /// s, positions.
        sequence: usize,
        /// Pieces.
        parts: usize,
    },
    /// The device has no units for the precision.
    #[error("{machine} has no arithmetic in {precision}")]
    Precision {
        /// The machine.
        machine: String,
        /// The precision.
        precision: Precision,
    },
    /// A stage needs more memory than a device may fill.
    #[error("stage {stage} needs {:.1} GB, {:.1} GB more than fit", gb(*bytes), gb(*over))]
    Memory {
        /// The stage that needs most.
        stage: usize,
        /// Bytes it needs.
        bytes: u64,
        /// Bytes beyond what a device may fill.
        over: u64,
    },
}

impl Rejection {
    /// Whether more memory would mend it.
    pub fn is_memory(&self) -> bool {
        matches!(self, Rejection::Memory { .. })
    }
}
