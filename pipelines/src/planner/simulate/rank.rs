//! One rank: what is ready, and what it takes first.

use super::super::run::Schedule;
use super::{Action, Kind, Limit, Pipeline, Priority};

/// Counters of one piece of the model. Micro-batches of a piece pass in order, so counts are
/// enough.
#[derive(Debug, Clone, Copy, Default)]
struct Chunk {
    activations: usize,
    gradients: usize,
    forwards: usize,
    backwards: usize,
    weights: usize,
}

/// A rank.
#[derive(Debug)]
pub(super) struct Rank {
    index: usize,
    limit: Limit,
    splits: bool,
    chunks: Vec<Chunk>,
    running: Option<(Kind, usize)>,
    awaited: usize,
    held: usize,
    pub(super) first: Option<u64>,
    pub(super) last: u64,
    pub(super) busy: u64,
    pub(super) most: usize,
}

impl Rank {
    pub(super) fn new(pipeline: &Pipeline, index: usize, limit: Limit) -> Self {
        let mut chunks = vec![Chunk::default(); pipeline.schedule.chunks()];
        if index == 0 {
            chunks[0].activations = pipeline.micro;
        }
        Rank {
            index,
            limit,
            splits: pipeline.schedule.splits_backward(),
            chunks,
            running: None,
            awaited: 0,
            held: 0,
            first: None,
            last: 0,
            busy: 0,
            most: 0,
        }
    }

    pub(super) fn arrived_forward(&mut self, chunk: usize) {
        self.chunks[chunk].activations += 1;
    }

    pub(super) fn arrived_backward(&mut self, chunk: usize) {
        self.chunks[chunk].gradients += 1;
    }

    /// Starts the first ready action, if the rank is free and there is one.
    pub(super) fn start(&mut self, pipeline: &Pipeline, now: u64) -> Option<Action> {
        if self.running.is_some() {
            return None;
        }
        let (kind, chunk) = self.choose(pipeline)?;
        let cost = pipeline.costs[chunk * pipeline.ranks + self.index];
        let own = &mut self.chunks[chunk];
        let (count, time) = match kind {
            Kind::Forward => (&mut own.forwards, cost.forward),
            Kind::Backward if self.splits => (&mut own.backwards, cost.backward),
            Kind::Backward => (&mut own.backwards, cost.backward + cost.weight),
            Kind::Weight => (&mut own.weights, cost.weight),
        };
        let micro = *count;
        *count += 1;
        if kind == Kind::Forward {
            self.awaited += 1;
            self.held += 1;
            self.most = self.most.max(self.held);
        }
        self.running = Some((kind, chunk));
        self.first.get_or_insert(now);
        self.busy += time;
        self.last = now + time;
        Some(Action {
            rank: self.index,
            chunk,
            kind,
            micro,
            start: now,
            end: now + time,
        })
    }

    /// Ends what runs, and tells what it was and on which virtual stage.
    pub(super) fn end(&mut self, ranks: usize) -> Option<(Kind, usize)> {
        let (kind, chunk) = self.running.take()?;
        if kind == Kind::Backward {
            self.awaited -= 1;
        }
        if kind == Kind::Weight || kind == Kind::Backward && !self.splits {
            self.held -= 1;
        }
        Some((kind, chunk * ranks + self.index))
    }

    /// The first ready action.
    fn choose(&self, pipeline: &Pipeline) -> Option<(Kind, usize)> {
        let backward = self.backward(pipeline).map(|i| (Kind::Backward, i));
        let forward = self.forward(pipeline).map(|i| (Kind::Forward, i));
        let first = match pipeline.priority {
            Priority::Backward => backward.or(forward),
            Priority::Forward => forward.or(backward),
        };
        let weight = || {
            let own = &mut self.chunks.iter();
            own.position(|c| self.splits && c.backwards > c.weights)
        };
        first.or_else(|| Some((Kind::Weight, weight()?)))
    }

    /// The piece whose backward is ready; of several that of the earliest group of p micro-batches,
    /// and of these the last.
    fn backward(&self, pipeline: &Pipeline) -> Option<usize> {
        let last = self.chunks.len() - 1;
        let flush = pipeline.schedule == Schedule::Gpipe;
        let ready =
            |c: &Chunk| c.gradients > c.backwards && (!flush || c.forwards == pipeline.micro);
        let chunks = self.chunks.iter().enumerate().filter(|(_, c)| ready(c));
        let first = chunks.min_by_key(|(i, c)| (c.backwards / pipeline.ranks, last - i));
        first.map(|(i, _)| i)
    }

    /// The piece whose forward comes next, if it is ready and the limit has room. A forward that is
    /// ready may not overtake: it would take the room that the next one needs, and all would wait.
    fn forward(&self, pipeline: &Pipeline) -> Option<usize> {
        if self.awaited >= self.limit.awaited || self.held >= self.limit.held {
            return None;
        }
        let chunks = self.chunks.iter().enumerate();
        let left = chunks.filter(|(_, c)| c.forwards < pipeline.micro);
        let (i, c) = left.min_by_key(|(i, c)| (c.forwards / pipeline.ranks, *i))?;
        (c.activations > c.forwards).then_some(i)
    }

    /// Actions that were not done.
    pub(super) fn left(&self, micro: usize) -> usize {
        let done = |c: &Chunk| c.forwards + c.backwards + c.weights;
        let all = if self.splits { 3 * micro } else { 2 * micro };
        self.chunks.iter().map(|c| all - done(c)).sum()
    }
}
