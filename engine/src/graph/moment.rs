//! Timestamps as graphs see them: which version of the parameters serves a moment.

use timely::progress::Timestamp;

use crate::time::{Cycle, Tick};

/// A timestamp under which tensors flow through a [`Graph`](crate::Graph).
///
/// Parameters are given once per *version* and serve every moment of it: all micro-batches of one
/// step read the same weights, and their gradients are summed until the frontier has passed the
/// version.
///
/// ```
/// use advect_engine::{Tick, graph::Moment};
/// assert_eq!(Tick::new(3, 7).version(), Tick::new(3, 0));
/// assert_eq!(Tick::new(3, 7).last(), Tick::new(3, u64::MAX));
/// assert_eq!(5u64.version(), 5);
/// ```
pub trait Moment: Timestamp {
    /// The moment as two counters, outer first: keys of random streams, words of error messages.
    fn coordinates(&self) -> [u64; 2];

    /// The moment at which the parameters that serve this one are given.
    fn version(&self) -> Self {
        self.clone()
    }

    /// An upper bound of the moments of this version.
    fn last(&self) -> Self {
        self.clone()
    }
}

impl Moment for u64 {
    fn coordinates(&self) -> [u64; 2] {
        [*self, 0]
    }
}

impl Moment for Cycle {
    fn coordinates(&self) -> [u64; 2] {
        [self.valid, self.known]
    }
}

impl Moment for Tick {
    fn coordinates(&self) -> [u64; 2] {
        [self.step, self.micro]
    }

    fn version(&self) -> Self {
        Tick::new(self.step, 0)
    }

    fn last(&self) -> Self {
        Tick::new(self.step, u64::MAX)
    }
}
