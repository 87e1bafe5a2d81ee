//! Softmax attention: of whole heads in one operator, or as partials over the keys at hand and what
//! finishes them.
//!
//! Between the two last stands any relayout of the rows $(m, \ell, o)$, so that "whose keys are where"
//! is a choice of layouts and not of algorithm.

mod across;
mod composed;
mod finish;
pub(crate) mod laws;
mod partial;
mod rotary;
mod tile;
mod view;
mod whole;

pub use across::{Across, Pieces};
pub use composed::Composed;
pub use finish::FinishAttention;
pub use partial::{AttentionPartial, Turn};
pub use rotary::Rotary;
pub use whole::Attention;
