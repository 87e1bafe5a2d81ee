//! The parts of a neural network, as operators of the adjoint graph.
//!
//! | operator | module | layouts |
//! |---|---|---|
//! | [`Linear`] | `linear` | data, column and row parallel |
//! | [`Bias`] | `bias` | as its input |
//! | [`Add`] | `add` | as its inputs, sums too |
//! | [`Pointwise`] | `pointwise` | any but sums |

mod add;
mod bias;
mod linear;
mod pointwise;
pub(crate) mod real;
pub(crate) mod rules;

pub use add::Add;
pub use bias::Bias;
pub use linear::Linear;
pub use pointwise::Pointwise;
