//! Scores of an ensemble against the truth or a later observation, as mergeable sums.
//!
//! Every score is a partial: counts and sums that are added while they flow and divided once at
//! the end, so scores of tiles, cycles and workers merge into the score of the whole.
//!
//! | score | module | ideal |
//! |---|---|---|
//! | bias, root-mean-square error | [`moments`] | 0 |
//! | spread, spread–skill ratio | [`moments`] | 1 |
//! | fair CRPS | [`crps`] | small |
//! | rank histogram with $\chi^2$ | [`rank`] | flat |
//! | coverage of the central 95 % interval | [`coverage`] | nominal |

pub mod coverage;
pub mod crps;
pub mod moments;
pub mod rank;
pub mod verification;

pub use coverage::Coverage;
pub use crps::FairCrps;
pub use moments::{Departures, Mean, SpreadSkill};
pub use rank::RankHistogram;
pub use verification::Verification;
