//! The engine of advect: one differentiable timely dataflow over threads, processes and MPI ranks.
//!
//! It depends on timely and differential dataflow, and knows no weather, atoms or attention.
//!
//! * [`Fabric`]: who the workers are and what connects them.
//! * [`Mesh`]: named axes over the workers.
//! * [`Layout`] and [`Relayout`]: where a tensor lives, and how it moves, forward and adjoint.
//! * [`Monoid`]: how partials merge while they flow.
//! * [`Shard`]: the local piece of a logical tensor, the message type.
//!
//! | module | what it holds |
//! |---|---|
//! | [`credit`], [`source`] | bytes in flight, and sources that stop by them |
//! | [`fabric`] | threads, TCP, MPI and the simulated network |
//! | [`graph`] | operators and relayouts, wired forward and mirrored backward |
//! | [`laws`] | what every operator is held against |
//! | [`layout`], [`mesh`], [`partial`] | the vocabulary |
//! | [`memory`] | advice about large memory |
//! | [`observe`] | metrics, traces, plans, names for failures |
//! | [`relayout`](mod@relayout) | plans and their dataflow |
//! | [`shard`] | tensors as messages |
//! | [`snapshot`] | everything before a frontier, and outputs that hold each record once |
//! | [`threads`] | how many threads an operator may use |
//! | [`time`] | timestamps of training and of assimilation |

pub mod credit;
pub mod error;
pub mod fabric;
pub mod graph;
pub mod laws;
pub mod layout;
pub mod memory;
pub mod mesh;
pub mod observe;
pub mod partial;
pub mod relayout;
pub mod shard;
pub mod snapshot;
pub mod source;
pub mod threads;
pub mod time;

pub use credit::{Cargo, Credit, Lent};
pub use error::{EngineError, Result};
pub use fabric::Fabric;
pub use graph::{Graph, Operator, Spec};
pub use layout::{Edge, Layout, Overlap, Placement};
pub use mesh::{Deal, Mesh};
pub use partial::Monoid;
pub use relayout::{Relayout, relayout};
pub use shard::{Batch, Canonical, DType, Data, Element, Shard};
pub use time::{Cycle, Tick};
