//! Operators of advect: one operator a file, in folders that name the mathematics.
//!
//! | module | what it holds |
//! |---|---|
//! | [`models`] | small chaotic models with tangent-linear and adjoint |
//! | [`assimilation`] | ensemble filters, variational baselines and scores |
//! | [`twin`] | twin experiments: truth, observations, filter and score from one configuration |

#![forbid(unsafe_code)]

pub mod assimilation;
pub mod cycle;
pub mod models;
pub mod observations;
pub mod twin;

mod error;

pub use error::OperatorError;
