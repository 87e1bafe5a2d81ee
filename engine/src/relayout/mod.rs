//! Relayouts: moving a logical tensor from one layout to another.
//!
//! A relayout is planned before it runs. It is total (every pair of layouts converts), its bytes are
//! known, and its adjoint is the relayout from the dual of its end to the dual of its start.
//! A plan has one step, or two where a reduction would otherwise be done by every receiver:
//! `Partial → Same` is reduce-scatter and then all-gather, through `Split`.

mod flow;
mod fold;
mod plan;
mod step;

pub use flow::relayout;
pub(crate) use flow::{Arrivals, Batches, relayout_watched};
pub use plan::Relayout;
pub(crate) use step::Step;
