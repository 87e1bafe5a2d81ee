//! Observations on their way to an analysis: what they are, what is wrong with them, where they
//! sit, and what a model state says there.
//!
//! | operator | module | what it does |
//! |---|---|---|
//! | — | [`report`] | one report as exact integers, so that it can be counted and retracted |
//! | — | [`grid`] | regular latitude–longitude grids, corners and distances |
//! | interpolation | [`interpolate`] | $H$: bilinear in space, linear in time, height by lapse rate |
//! | many points | [`Points`] | $H$ as an operator of the adjoint graph |
//! | quality control | [`quality`] | filters with reasons |
//! | buddy check | [`buddy`] | a report against its neighbours |
//! | statistical interpolation | [`krige`] | the best linear estimate at a point |
//! | — | [`field`] | fixed fields: relief, land |
//! | thinning, superobbing | [`mod@thin`] | fewer reports where they are dense |

pub mod buddy;
pub mod field;
pub mod grid;
pub mod interpolate;
pub mod krige;
mod points;
pub mod quality;
pub mod report;
pub mod thin;

pub use buddy::Buddy;
pub use field::Field;
pub use grid::Grid;
pub use interpolate::{Corners, Interpolation};
pub use krige::{Krige, Place};
pub use points::Points;
pub use quality::{Fault, Quality};
pub use report::Report;
pub use thin::{superob, thin};
