//! Training: the part of a graph between the edge of batches and the edge of parameter versions.
//!
//! ```text
//!            inputs of (step, micro)
//!                    │
//!  version ──► graph ──► loss ──► its adjoint ──► gradients ─┬─► Update ──► version of step + 1
//!     ▲                                                      ▼      ▲              │
//!     │                                                    Tally ───┘ totals       │
//!     └────────────────────────────── feedback, one step later ────────────────────┘
//! ```
//!
//! A step is a frontier: gradients of a version leave when it has passed the last micro-batch of the
//! step, so that a step has as many micro-batches as the source gives, on every worker as many as it
//! likes. The loss is a sum over targets; what divides it is the number of targets that the loss
//! operators counted, so that it is a mean over the tokens of the whole step wherever they lie.
//!
//! Parameters, gradients and the state of the optimizer have the layout in which the parameter is
//! stored. Data parallelism, sharding of the optimizer and tensor parallelism are what that layout says.

mod batching;
mod evaluate;
mod initial;
mod method;
mod recipe;
mod schedule;
mod snapshot;
mod tally;
mod update;
mod wire;

pub use batching::{Batching, Samples};
pub use evaluate::{Evaluation, select};
pub use initial::Initial;
pub use method::Method;
pub use recipe::{Parameter, Recipe, Trainable};
pub use schedule::{Fall, Schedule};
pub use snapshot::{Held, Read, Snapshot, Start};
pub use update::{Report, Weights};
pub use wire::{Control, Trained};
