//! The parts of a neural network, as operators of the adjoint graph.
//!
//! | operator | module | layouts |
//! |---|---|---|
//! | [`Linear`] | `linear` | data, column and row parallel; with shift and function data and column |
//! | [`Bias`] | `bias` | as its input |
//! | [`Convolution`] | `convolution` | data, by input and by output channel |
//! | [`Upsample`] | `upsample` | cut before the last two dimensions, sums too |
//! | [`Embedding`] | `embedding` | data and vocabulary parallel |
//! | [`LayerNorm`] | `layer_norm` | cut before the last dimension |
//! | [`RmsNorm`] | `rms_norm` | cut before the last dimension |
//! | [`Add`] | `add` | as its inputs, sums too |
//! | [`Residual`] | `residual` | as [`Bias`] |
//! | [`Dropout`] | `dropout` | as its input, sums too |
//! | [`Gated`] | `gated` | as its inputs, but no sums |
//! | [`Pointwise`] | `pointwise` | any but sums |
//! | [`Scale`] | `scale` | any but maxima |

mod add;
mod bias;
mod convolution;
mod dropout;
mod embedding;
mod gated;
mod layer_norm;
mod linear;
mod pointwise;
pub(crate) mod real;
mod residual;
mod rms_norm;
pub(crate) mod rules;
mod scale;
mod upsample;

pub use add::Add;
pub use bias::Bias;
pub use convolution::Convolution;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use gated::Gated;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use pointwise::Pointwise;
pub use residual::Residual;
pub use rms_norm::RmsNorm;
pub use scale::Scale;
pub use upsample::{Between, Upsample};
