//! Search: every configuration that a model and a number of workers allow, ranked by predicted
//! time.
//!
//! The space has less than ten thousand points, so it is enumerated: memory rejects first, time
//! ranks the rest. What is rejected keeps its reason.

use super::error::{PlannerError, Result};
use super::machine::Machine;
use super::memory;
use super::model::Gpt;
use super::rejection::Rejection;
use super::run::{Axes, Axis, Keys, Policy, Precision, Recompute, Run, Schedule, TENSOR_FIRST};
use super::time::{Cache, Estimate, estimate_with};

/// What is tried. Meshes are all that the workers factor into.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// B, sequences of a step.
    pub batch: usize,
    /// Numbers.
    pub precision: Precision,
    /// How they are stored.
    pub policy: Policy,
    /// Orders of work.
    pub schedules: Vec<Schedule>,
    /// Stages of ZeRO.
    pub zero: Vec<u8>,
    /// b, sequences of a micro-batch.
    pub micro: Vec<usize>,
    /// What is recomputed.
    pub recompute: Vec<Recompute>,
    /// Whether attention keeps no scores.
    pub flash: Vec<bool>,
    /// Whether tensor ranks also cut positions.
    pub sequence: Vec<bool>,
    /// Orders of the axes.
    pub orders: Vec<[Axis; 4]>,
    /// c at most.
    pub context: usize,
    /// Whether tensor axes may be larger than a node.
    pub beyond_node: bool,
    /// Whether tensor axes may not divide the heads: the fullest rank then has one more.
    pub uneven_heads: bool,
}

impl Space {
    /// What DeepSpeed ran on Frontier: 1F1B, ZeRO-0 or 1, every layer recomputed, flash attention.
    pub fn deepspeed(batch: usize) -> Self {
        Space {
            batch,
            precision: Precision::Fp16,
            policy: Policy::Deepspeed,
            schedules: vec![Schedule::OneFOneB],
            zero: vec![0, 1],
            micro: vec![1, 2, 4],
            recompute: vec![Recompute::Full],
            flash: vec![true],
            sequence: vec![false],
            orders: vec![TENSOR_FIRST],
            context: 1,
            beyond_node: false,
            uneven_heads: false,
        }
    }

    /// What `advect run language` does: flush schedules, all stages of ZeRO, recomputed or not, positions
    /// cut over tensor or context ranks, heads as uneven as they come.
    pub fn advect(batch: usize, precision: Precision) -> Self {
        Space {
            schedules: vec![
                Schedule::OneFOneB,
                Schedule::Gpipe,
                Schedule::Interleaved(2),
                Schedule::Interleaved(3),
            ],
            context: 8,
            uneven_heads: true,
            ..Self::wide(batch, precision, Policy::Advect)
        }
    }

    /// All schedules, all stages of ZeRO, with and without recomputation and cut positions.
    pub fn wide(batch: usize, precision: Precision, policy: Policy) -> Self {
        Space {
            precision,
            policy,
            schedules: vec![
                Schedule::Gpipe,
                Schedule::OneFOneB,
                Schedule::Interleaved(2),
                Schedule::Interleaved(3),
                Schedule::ZbH1,
                Schedule::Zb2p,
            ],
            zero: vec![0, 1, 2, 3],
            recompute: vec![Recompute::None, Recompute::Full],
            sequence: vec![false, true],
            ..Self::deepspeed(batch)
        }
    }

    /// All configurations of `workers`, fit or not. Knobs that a mesh makes void are not varied:
    /// with one stage there is one schedule, with one replica one stage of ZeRO.
    pub fn runs(&self, workers: usize) -> Vec<Run> {
        let first = |axes: Axes| Run {
            axes,
            order: TENSOR_FIRST,
            sequence: false,
            keys: Keys::GATHER,
            schedule: Schedule::OneFOneB,
            split: None,
            zero: self.zero.first().copied().unwrap_or(0),
            micro: 1,
            batch: self.batch,
            precision: self.precision,
            recompute: Recompute::None,
            flash: true,
            policy: self.policy,
        };
        let mut runs: Vec<Run> = meshes(workers, self.context)
            .into_iter()
            .map(first)
            .collect();
        let piped = |r: &Run| r.axes.pipeline > 1;
        runs = vary(runs, &self.schedules, piped, |r, schedule| {
            r.schedule = schedule
        });
        runs = vary(
            runs,
            &self.zero,
            |r| r.sharers() > 1,
            |r, zero| r.zero = zero,
        );
        runs = vary(runs, &self.micro, |_| true, |r, micro| r.micro = micro);
        runs = vary(
            runs,
            &self.recompute,
            |_| true,
            |r, again| r.recompute = again,
        );
        runs = vary(runs, &self.flash, |_| true, |r, flash| r.flash = flash);
        let cut = |r: &Run| r.axes.tensor > 1;
        runs = vary(runs, &self.sequence, cut, |r, sequence| {
            r.sequence = sequence
        });
        vary(runs, &self.orders, |_| true, |r, order| r.order = order)
    }

    /// Whether `run` may run at all.
    fn allow(&self, machine: &Machine, gpt: &Gpt, run: &Run) -> Result<(), Rejection> {
        run.check(gpt)?;
        let (tensor, node) = (run.axes.tensor, machine.node());
        if tensor > node && !self.beyond_node {
            return Err(Rejection::Node { tensor, node });
        }
        let even = gpt.heads.is_multiple_of(tensor)
            && (gpt.groups.is_multiple_of(tensor) || tensor.is_multiple_of(gpt.groups));
        if !even && !self.uneven_heads {
            return Err(Rejection::Heads {
                tensor,
                heads: gpt.heads,
                groups: gpt.groups,
            });
        }
        memory::fit(machine, &memory::stages(gpt, run, None)?)
    }
}

/// Every run with every value of a knob; runs for which the knob is void stay as they are.
fn vary<T: Copy>(
    runs: Vec<Run>,
    values: &[T],
    matters: impl Fn(&Run) -> bool,
    set: impl Fn(&mut Run, T),
) -> Vec<Run> {
    let mut all = Vec::with_capacity(runs.len() * values.len());
    for run in runs {
        if !matters(&run) {
            all.push(run);
            continue;
        }
        for value in values {
            let mut other = run.clone();
            set(&mut other, *value);
            all.push(other);
        }
    }
    all
}

/// All meshes of `workers`, context up to `context`.
fn meshes(workers: usize, context: usize) -> Vec<Axes> {
    let divisors = |n: usize| (1..=n).filter(move |k| n.is_multiple_of(*k));
    let mut meshes = Vec::new();
    for tensor in divisors(workers) {
        for pipeline in divisors(workers / tensor) {
            let left = workers / tensor / pipeline;
            for context in divisors(left).filter(|c| *c <= context) {
                meshes.push(Axes {
                    tensor,
                    pipeline,
                    data: left / context,
                    context,
                });
            }
        }
    }
    meshes
}

/// A planner of one model on one machine; it remembers what it simulated.
#[derive(Debug)]
pub struct Planner<'a> {
    machine: &'a Machine,
    gpt: &'a Gpt,
    space: Space,
    cache: Cache,
}

/// All configurations of a number of workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Those that run, fastest first.
    pub ranked: Vec<Estimate>,
    /// Those that do not, and why.
    pub rejected: Vec<(Run, Rejection)>,
}

impl Ranking {
    /// The place of a configuration, from 1, among those that run.
    pub fn place(&self, run: &Run) -> Option<usize> {
        self.ranked
            .iter()
            .position(|e| e.run == *run)
            .map(|i| i + 1)
    }

    /// What came nearest to running: of those that lack memory the one that lacks least, else the
    /// first of those that have the most frequent reason.
    pub fn nearest(&self) -> Option<&(Run, Rejection)> {
        let over = |(_, why): &&(Run, Rejection)| match why {
            Rejection::Memory { over, .. } => *over,
            _ => u64::MAX,
        };
        let alike = |(_, why): &&(Run, Rejection)| {
            let kind = std::mem::discriminant(why);
            let same = self.rejected.iter();
            same.filter(|(_, other)| std::mem::discriminant(other) == kind)
                .count()
        };
        let lacking = self.rejected.iter().filter(|(_, why)| why.is_memory());
        // every configuration may have its own reason: a look at some of them is enough
        let others = self.rejected.iter().take(1000);
        lacking
            .min_by_key(over)
            .or_else(|| others.rev().max_by_key(alike))
    }
}

impl<'a> Planner<'a> {
    /// A planner of `gpt` on `machine`.
    pub fn new(machine: &'a Machine, gpt: &'a Gpt, space: Space) -> Self {
        Planner {
            machine,
            gpt,
            space,
            cache: Cache::default(),
        }
    }

    /// The model.
    pub(super) fn gpt(&self) -> &'a Gpt {
        self.gpt
    }

    /// What `run` does, or why it does not run.
    ///
    /// # Errors
    /// If a schedule stops with work left.
    pub fn judge(&mut self, run: &Run) -> Result<Result<Estimate, Rejection>> {
        if let Err(why) = self.space.allow(self.machine, self.gpt, run) {
            return Ok(Err(why));
        }
        match estimate_with(self.machine, self.gpt, run, &mut self.cache) {
            Err(PlannerError::Rejected { why, .. }) => Ok(Err(*why)),
            other => other.map(Ok),
        }
    }

    /// Ranks all configurations of `workers` by time, then memory, then name.
    ///
    /// # Errors
    /// As [`Planner::judge`].
    pub fn rank(&mut self, workers: usize) -> Result<Ranking> {
        let mut ranking = Ranking {
            ranked: Vec::new(),
            rejected: Vec::new(),
        };
        for run in self.space.runs(workers) {
            match self.judge(&run)? {
                Ok(estimate) => ranking.ranked.push(estimate),
                Err(why) => ranking.rejected.push((run, why)),
            }
        }
        ranking.ranked.sort_by(|a, b| {
            let time = a.step.total_cmp(&b.step);
            let memory = a.memory.1.cmp(&b.memory.1);
            time.then(memory)
                .then_with(|| a.run.to_string().cmp(&b.run.to_string()))
        });
        Ok(ranking)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::recipes::{gpt_175b, recipe_175b};

    /// Every mesh of the workers is tried once, and spans them all.
    #[test]
    fn meshes_are_all_factorizations() {
        let all = meshes(12, 12);
        assert!(all.iter().all(|axes| axes.workers() == 12));
        // ordered factorizations of 2 2 3 in four: 10 ways for the twos, 4 for the three
        assert_eq!(all.len(), 40);
    }

    /// What is ranked fits, what is rejected has a reason, and together they are the space.
    #[test]
    fn ranking_is_the_whole_space() {
        let (machine, gpt) = (Machine::built_in("frontier").unwrap(), gpt_175b());
        let space = Space::deepspeed(640);
        let count = space.runs(128).len();
        let ranking = Planner::new(&machine, &gpt, space).rank(128).unwrap();
        assert_eq!(ranking.ranked.len() + ranking.rejected.len(), count);
        assert!(ranking.ranked.is_sorted_by(|a, b| a.step <= b.step));
        let usable = machine.usable() as u64;
        assert!(ranking.ranked.iter().all(|e| e.memory.1 <= usable));
        assert!(ranking.place(&recipe_175b()).is_some());
    }

    /// Whatever the workers, the heads and the axes, a configuration is predicted or rejected: its
    /// parts sum to its step, no rank works longer than a step, and nothing is below 0.
    #[test]
    fn every_configuration_is_predicted_or_rejected() {
        let machine = Machine::built_in("dgx-h100").unwrap();
        let gpt = Gpt {
            groups: 3,
            tied: false,
            ..Gpt::plain(11, 768, 6, 512, 1000)
        };
        let mut space = Space::wide(24, Precision::F32, Policy::Advect);
        space.context = 4;
        space.uneven_heads = true;
        space.beyond_node = true;
        space.flash = vec![true, false];
        space
            .orders
            .push([Axis::Data, Axis::Pipeline, Axis::Context, Axis::Tensor]);
        for workers in [1, 5, 12] {
            let runs = space.runs(workers).len();
            let mut planner = Planner::new(&machine, &gpt, space.clone());
            let ranking = planner.rank(workers).unwrap();
            assert_eq!(ranking.ranked.len() + ranking.rejected.len(), runs);
            assert!(!ranking.ranked.is_empty(), "{workers}");
            for e in &ranking.ranked {
                let parts = e.parts.named();
                let sum: f64 = parts.iter().map(|(_, s)| s).sum();
                assert!(parts.iter().all(|(_, s)| *s >= 0.0), "{e:?}");
                assert!((sum / e.step - 1.0).abs() < 1e-3, "{e:?}");
                assert!(e.mfu > 0.0 && e.hfu <= machine.kernel_efficiency, "{e:?}");
            }
        }
    }
}
