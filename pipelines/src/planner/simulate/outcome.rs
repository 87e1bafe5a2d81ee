//! What a simulated step took.

use super::rank::Rank;

/// What an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// F.
    Forward,
    /// B, or B and W in one.
    Backward,
    /// W.
    Weight,
}

/// One action of one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The rank.
    pub rank: usize,
    /// Its piece of the model.
    pub chunk: usize,
    /// What it does.
    pub kind: Kind,
    /// The micro-batch.
    pub micro: usize,
    /// When it starts.
    pub start: u64,
    /// When it ends.
    pub end: u64,
}

/// What a step took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// From the start of the step to the last end.
    pub makespan: u64,
    /// The longest time from the first start to the last end of a rank: the period of steps that
    /// follow each other without a flush.
    pub period: u64,
    /// Time every rank works.
    pub busy: Vec<u64>,
    /// When every rank ends.
    pub ends: Vec<u64>,
    /// Most moments in flight on every rank at a time.
    pub moments: Vec<usize>,
}

impl Outcome {
    pub(super) fn of(ranks: &[Rank]) -> Self {
        let ends: Vec<u64> = ranks.iter().map(|rank| rank.last).collect();
        let periods = ranks.iter().map(|rank| rank.last - rank.first.unwrap_or(0));
        Outcome {
            makespan: ends.iter().copied().max().unwrap_or(0),
            period: periods.max().unwrap_or(0),
            busy: ranks.iter().map(|rank| rank.busy).collect(),
            moments: ranks.iter().map(|rank| rank.most).collect(),
            ends,
        }
    }

    /// Idle time and all time over all ranks, as a fraction; `chained` steps take the period,
    /// others the makespan.
    pub fn bubble(&self, chained: bool) -> (u64, u64) {
        let span = if chained { self.period } else { self.makespan };
        let all = span * self.busy.len() as u64;
        (all - self.busy.iter().sum::<u64>(), all)
    }
}
