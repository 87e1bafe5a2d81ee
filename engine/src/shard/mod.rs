//! Shards: the local pieces of logical tensors, and how they travel.

mod batch;
mod canonical;
mod data;
pub(crate) mod payload;
mod piece;
pub(crate) mod pool;

pub use batch::Batch;
pub use canonical::Canonical;
pub use data::{DType, Data, Element, buffer};
pub use payload::Elsewhere;
pub use piece::{Identity, Shard};
