//! The parts of a neural network, as operators of the adjoint graph.
//!
//! | operator | module | layouts |
//! |---|---|---|
//! | [`Linear`] | `linear` | data, column and row parallel |
//! | [`Bias`] | `bias` | as its input |
//! | [`Embedding`] | `embedding` | data and vocabulary parallel |
//! | [`LayerNorm`] | `layer_norm` | cut before the last dimension |
//! | [`Add`] | `add` | as its inputs, sums too |
//! | [`Pointwise`] | `pointwise` | any but sums |

mod add;
mod bias;
mod embedding;
mod layer_norm;
mod linear;
mod pointwise;
pub(crate) mod real;
pub(crate) mod rules;

pub use add::Add;
pub use bias::Bias;
pub use embedding::Embedding;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use pointwise::Pointwise;
