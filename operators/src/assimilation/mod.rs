//! Data assimilation: ensemble filters, climatological baselines and the scores that judge them.
//!
//! Every ensemble filter here is a function of two local sums, the [`Information`] of the
//! observations near a cell; [`weights`] turns the sums into the weights of the analysis. Sums can
//! be merged and retracted, so the same function serves one process and many.
//!
//! | operator | module | source |
//! |---|---|---|
//! | LETKF | [`letkf`] | Hunt, Kostelich and Szunyogh (2007) |
//! | ETKF, the symmetric square-root EnKF | [`etkf`] | Bishop et al. (2001), Sakov and Oke (2008) |
//! | stochastic EnKF | [`enkf`] | Burgers, van Leeuwen and Evensen (1998) |
//! | optimal interpolation | [`oi`] | Gandin (1963) |
//! | 3D-Var with a static covariance | [`var3d`] | Lorenc (1986) |
//! | tapers and local observation lists | [`localization`] | Gaspari and Cohn (1999) |
//! | inflation and relaxation | [`inflation`] | Whitaker and Hamill (2012) |
//! | mean-preserving rotation | [`rotation`] | Sakov and Oke (2008) |
//! | scores | [`diagnostics`] | see there |

pub mod diagnostics;
pub mod enkf;
pub mod ensemble;
pub mod etkf;
pub mod filter;
pub mod inflation;
pub mod information;
pub mod letkf;
pub mod localization;
pub mod oi;
pub mod random;
pub mod rotation;
pub mod var3d;

#[cfg(test)]
mod laws;

pub use enkf::StochasticEnkf;
pub use ensemble::Ensemble;
pub use etkf::Etkf;
pub use filter::{Filter, Observations};
pub use inflation::Inflation;
pub use information::{Information, Weights, weights};
pub use letkf::Letkf;
pub use localization::Localization;
pub use oi::{Climatology, OptimalInterpolation};
pub use random::{Purpose, Stream, stream};
pub use var3d::Var3d;
