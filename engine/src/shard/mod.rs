//! Shards: the local pieces of logical tensors, and how they travel.

mod batch;
mod data;
mod piece;

pub use batch::Batch;
pub use data::{DType, Data, Element};
pub use piece::Shard;
