//! How many moments a rank may have in flight.

use super::super::run::Schedule;

/// Bounds on the moments of a rank: a forward may start while both hold. A moment is one
/// micro-batch on one virtual stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Moments between their forward and their backward.
    pub awaited: usize,
    /// Moments between their forward and the gradient of their weights: what memory holds.
    pub held: usize,
}

impl Limit {
    /// The limits of all ranks.
    pub fn all(schedule: Schedule, p: usize, m: usize) -> Vec<Self> {
        (0..p).map(|i| Self::of(schedule, p, i, m)).collect()
    }

    /// The limit of rank `i`, below `p`, of `p` with `m` micro-batches.
    pub fn of(schedule: Schedule, p: usize, i: usize, m: usize) -> Self {
        let both = |n: usize, most: usize| {
            let n = n.min(most);
            Limit {
                awaited: n,
                held: n,
            }
        };
        match schedule {
            Schedule::Gpipe => both(m, m),
            Schedule::OneFOneB => both(p - i, m),
            // warm-up of Narayanan et al. (2021), and the forward that precedes the first backward
            Schedule::Interleaved(v) => both(2 * (p - i - 1) + v.saturating_sub(1) * p + 1, m * v),
            Schedule::ZbH1 => Limit {
                awaited: (p - i).min(m),
                held: p.min(m),
            },
            Schedule::Zb2p => Limit {
                awaited: (2 * (p - i) - 1).min(m),
                held: (2 * p - 1).min(m),
            },
        }
    }
}
