//! Seeded random streams, one for every purpose and cycle.
//!
//! A stream is a ChaCha counter generator keyed by `(seed, purpose, cycle)`. Cycles draw from
//! separate streams, so a run that restarts at cycle $k$ draws the numbers that the unbroken run
//! drew there, and every worker can draw the same numbers without a message.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator of all random numbers of assimilation.
pub type Stream = ChaCha8Rng;

/// What a stream is used for; two purposes never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The start of the truth.
    Truth = 1,
    /// The start of the ensemble.
    Initial = 2,
    /// Observation errors.
    Observations = 3,
    /// Rotations and perturbed observations of an analysis.
    Analysis = 4,
    /// Ties in rank histograms.
    Ties = 5,
    /// The run from which the climatology is estimated.
    Climatology = 6,
}

/// The stream of `(seed, purpose, cycle)`; equal keys give equal numbers on every machine.
pub fn stream(seed: u64, purpose: Purpose, cycle: u64) -> Stream {
    let mut stream = ChaCha8Rng::seed_from_u64(seed);
    // 48 bits of cycle leave the purposes apart for 2.8e14 cycles.
    stream.set_stream((purpose as u64) << 48 | (cycle & 0xffff_ffff_ffff));
    stream
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    /// Equal keys give equal numbers; a change of any part of the key changes them.
    #[test]
    fn every_part_of_the_key_counts() {
        let first = |seed, purpose, cycle| stream(seed, purpose, cycle).next_u64();
        let base = first(1, Purpose::Truth, 1);
        assert_eq!(base, first(1, Purpose::Truth, 1));
        assert_ne!(base, first(2, Purpose::Truth, 1));
        assert_ne!(base, first(1, Purpose::Initial, 1));
        assert_ne!(base, first(1, Purpose::Truth, 2));
    }
}
