//! Positions of random streams.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Where a ChaCha8 stream stands: the next number after resuming is the next number before.
///
/// ```
/// use advect_engine::snapshot::RandomState;
/// use rand::{RngExt, SeedableRng};
/// let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
/// random.set_stream(3);
/// let _: u32 = random.random();
/// let mut resumed = RandomState::of(&random).resume();
/// assert_eq!(random.random::<u64>(), resumed.random::<u64>());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RandomState {
    seed: [u8; 32],
    stream: u64,
    /// Position in words of 32 bits.
    word: u128,
}

impl RandomState {
    /// Where `random` stands.
    pub fn of(random: &ChaCha8Rng) -> Self {
        RandomState {
            seed: random.get_seed(),
            stream: random.get_stream(),
            word: random.get_word_pos(),
        }
    }

    /// The stream from there on.
    pub fn resume(&self) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::from_seed(self.seed);
        random.set_stream(self.stream);
        random.set_word_pos(self.word);
        random
    }
}
