//! Observations on their way to an analysis: what they are, what is wrong with them, where they
//! sit, and what a model state says there.
//!
//! | operator | module | what it does |
//! |---|---|---|
//! | — | [`report`] | one report as exact integers, so that it can be counted and retracted |
//! | — | [`grid`] | regular latitude–longitude grids, corners and distances |
//! | interpolation | [`interpolate`] | $H$: bilinear in space, linear in time, height by lapse rate |
//! | quality control | [`quality`] | filters with reasons |
//! | buddy check | [`buddy`] | a report against its neighbours |
//! | thinning, superobbing | [`thin`] | fewer reports where they are dense |

pub mod buddy;
pub mod grid;
pub mod interpolate;
pub mod quality;
pub mod report;
pub mod thin;

pub use buddy::Buddy;
pub use grid::Grid;
pub use interpolate::{Corners, Interpolation};
pub use quality::{Fault, Quality};
pub use report::Report;
pub use thin::{superob, thin};
