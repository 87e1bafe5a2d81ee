//! Tuning: real short runs correct what the planner predicts, and the best configuration is kept.
//!
//! The planner enumerates what a number of cores allows, refuses what cannot fit, and predicts a step of the
//! rest. A Gaussian process learns the logarithm of measured over predicted time; the next trial is where
//! the expected improvement, times the chance that the run reaches its end, is largest.
//!
//! | module | holds |
//! |---|---|
//! | [`candidates`] | what is tried, and what is refused before it runs |
//! | [`translate`] | a configuration of the planner as settings of a run |
//! | [`surrogate`] | the Gaussian process |
//! | [`acquire`] | expected improvement |
//! | [`chance`] | how likely a trial reaches its end |
//! | [`search`] | which candidate is next; knows no processes |
//! | [`trial`] | a short run as a child process |
//! | [`metrics`] | what a trial measured |
//! | [`journal`] | every trial that ended, a line each |
//! | [`session`] | trials side by side until there is nothing to gain |
//! | [`report`] | tables, the best configuration as a file, pictures |

pub mod acquire;
pub mod candidates;
pub mod chance;
pub mod journal;
pub mod metrics;
pub mod report;
pub mod search;
pub mod session;
pub mod surrogate;
pub mod translate;
pub mod trial;

pub use session::{Ask, Ended, Session};
