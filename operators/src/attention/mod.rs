//! Softmax attention in two operators: partials over the keys at hand, and what finishes them.
//!
//! Between the two stands any relayout of the rows $(m, \ell, o)$, so that "whose keys are where"
//! is a choice of layouts and not of algorithm.

mod finish;
mod partial;

pub use finish::FinishAttention;
pub use partial::AttentionPartial;
