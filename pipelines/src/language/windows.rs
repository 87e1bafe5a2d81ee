//! Which window of a text is which sample: shuffled, and each once an epoch.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The samples of a text: windows of `context` tokens, and the tokens that follow each as targets.
///
/// Sample `n` is a function of the seed and of `n` alone. Whatever the number of workers and of
/// samples a step, the samples of an epoch are every window of a grid once, in a shuffled order; the
/// grid begins at another token every epoch.
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    tokens: usize,
    context: usize,
    count: usize,
    seed: u64,
    epoch: Epoch,
}

#[derive(Debug, Clone)]
struct Epoch {
    number: u64,
    /// Where its grid begins.
    first: usize,
    order: Vec<u32>,
}

impl Windows {
    /// The windows of a text of `tokens` tokens; `None` if it has no window with all its targets, or
    /// more than 2³² of them.
    pub(crate) fn new(tokens: usize, context: usize, seed: u64) -> Option<Self> {
        let most = tokens.checked_sub(1)?.checked_div(context)?;
        // one window less leaves room for the grid to begin anywhere in the first
        let count = most.saturating_sub(1).max(most.min(1));
        u32::try_from(count).ok().filter(|count| *count > 0)?;
        let epoch = Epoch::shuffled(tokens - 1 - count * context, context, count, seed, 0);
        Some(Windows {
            tokens,
            context,
            count,
            seed,
            epoch,
        })
    }

    /// Windows of an epoch.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// First token of sample `n`.
    pub(crate) fn start(&mut self, n: u64) -> usize {
        let (epoch, place) = (n / self.count as u64, n % self.count as u64);
        if self.epoch.number != epoch {
            let slack = self.tokens - 1 - self.count * self.context;
            self.epoch = Epoch::shuffled(slack, self.context, self.count, self.seed, epoch);
        }
        self.epoch.first + self.epoch.order[place as usize] as usize * self.context
    }
}

impl Epoch {
    fn shuffled(slack: usize, context: usize, count: usize, seed: u64, number: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(number);
        let first = random.random_range(0..=slack.min(context - 1));
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.shuffle(&mut random);
        Epoch {
            number,
            first,
            order,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every epoch has every window of its grid once, all within the text; epochs differ.
    #[test]
    fn every_window_once_an_epoch() {
        for (tokens, context) in [(1000, 7), (65, 8), (17, 16), (40, 16), (33, 16)] {
            let mut windows = Windows::new(tokens, context, 3).expect("long enough");
            let n = windows.count() as u64;
            let mut epochs = BTreeSet::new();
            for epoch in 0..4 {
                let starts: Vec<usize> = (epoch * n..(epoch + 1) * n)
                    .map(|i| windows.start(i))
                    .collect();
                let places: BTreeSet<usize> = starts.iter().copied().collect();
                assert_eq!(
                    places.len(),
                    starts.len(),
                    "{tokens}, {context}: no window twice"
                );
                let steps: BTreeSet<usize> = places.iter().map(|s| s % context).collect();
                assert_eq!(steps.len(), 1, "one grid");
                assert!(
                    places.last().is_some_and(|s| s + context < tokens),
                    "targets are there"
                );
                epochs.insert(starts);
            }
            assert!(
                n < 4 || epochs.len() == 4,
                "epochs are shuffled differently"
            );
            // going back gives the same
            assert!(epochs.iter().any(|starts| starts[0] == windows.start(0)));
        }
        assert!(Windows::new(16, 16, 3).is_none());
        assert!(Windows::new(0, 16, 3).is_none());
        assert!(Windows::new(10, 0, 3).is_none());
    }
}
