//! Operators of advect: one operator a file, in folders that name the mathematics.
//!
//! | module | what it holds |
//! |---|---|
//! | [`models`] | small chaotic models with tangent-linear and adjoint |
//! | [`attention`] | softmax attention as partials and what finishes them |
//! | [`network`], [`loss`] | the parts of a neural network |
//! | [`local`] | functions of candle tensors as operators, without a hand-written adjoint |
//! | [`transformer`] | transformers as graphs, on meshes of any roles |
//! | [`evoformer`] | attention over rows and columns with a shared bias, and what stands around it |
//! | [`training`] | from a graph and batches to versions of its parameters |
//! | [`laws`] | every differentiable operator with the cases that prove it |
//! | [`assimilation`] | ensemble filters, variational baselines and scores |
//! | [`twin`] | twin experiments: truth, observations, filter and score from one configuration |

#![deny(unsafe_code)]

pub mod assimilation;
pub mod attention;
pub mod cycle;
pub mod evoformer;
mod fused;
mod gpu;
mod kernels;
pub mod laws;
pub mod local;
pub mod loss;
pub mod models;
pub mod network;
pub mod observations;
mod random;
pub mod training;
pub mod transformer;
pub mod twin;

mod error;

pub use error::OperatorError;
