//! A pipeline in virtual time: what a schedule costs, exactly.
//!
//! No schedule is a table. Every rank takes the first ready action by priority, forward before
//! backward before gradients of weights, and may start a forward only while its [`Limit`] of
//! moments in flight has room: back-pressure makes 1F1B of a limit of $p - i$, and the zero-bubble
//! schedules (Qi et al. 2023) of two limits and the gradients of weights as actions of their own.
//! Times are integers, so fractions of idle time are rationals and compare exactly with the closed
//! forms.

mod limit;
mod outcome;
mod rank;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub use limit::Limit;
pub use outcome::{Action, Kind, Outcome};
use rank::Rank;

use super::error::{PlannerError, Result};
use super::run::Schedule;

/// Time of the actions of one virtual stage on one micro-batch, in any unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cost {
    /// F, forward.
    pub forward: u64,
    /// B, gradient of the input, and whatever is computed twice for it.
    pub backward: u64,
    /// W, gradient of the weights; done with B unless the schedule splits them.
    pub weight: u64,
}

/// What a rank takes first when both are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// The forward, where the limit has room: it feeds the ranks that follow, and the limit already
    /// bounds memory. Meets every closed form.
    Forward,
    /// The backward: it frees memory sooner. Two backwards in a row starve the ranks that follow,
    /// so all schedules but 1F1B on even stages lose time.
    Backward,
}

/// A pipeline to simulate.
///
/// ```
/// use advect_pipelines::planner::run::Schedule;
/// use advect_pipelines::planner::simulate::{Cost, Pipeline};
/// let cost = Cost { forward: 1, backward: 1, weight: 1 };
/// let pipeline = Pipeline::even(Schedule::OneFOneB, 4, 8, cost);
/// let outcome = pipeline.simulate()?;
/// assert_eq!(outcome.makespan, 3 * (8 + 3)); // bubble (p - 1) / (m + p - 1)
/// assert_eq!(outcome.moments, [4, 3, 2, 1]);
/// # Ok::<(), advect_pipelines::planner::error::PlannerError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pipeline {
    /// The order of work.
    pub schedule: Schedule,
    /// What goes first.
    pub priority: Priority,
    /// Moments that every rank may have in flight; those of the schedule, if nobody changes them.
    pub limits: Vec<Limit>,
    /// p, ranks.
    pub ranks: usize,
    /// m, micro-batches.
    pub micro: usize,
    /// Costs of the p v virtual stages; stage k is on rank k mod p.
    pub costs: Vec<Cost>,
    /// Time from the end of an action to the start of the next on the neighbour: entry i is between
    /// rank i and rank (i + 1) mod p, both ways. It delays, and does not keep a rank busy.
    pub delays: Vec<u64>,
}

/// Something that happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// An action of a rank ends.
    Ends(usize),
    /// The activation for a virtual stage arrives.
    Activation(usize),
    /// The gradient for a virtual stage arrives.
    Gradient(usize),
}

struct Clock {
    events: BinaryHeap<Reverse<(u64, Event)>>,
    now: u64,
}

impl Clock {
    fn after(&mut self, delay: u64, event: Event) {
        self.events.push(Reverse((self.now + delay, event)));
    }
}

impl Pipeline {
    /// A pipeline whose virtual stages all cost the same, without delays, under the limits of its
    /// schedule.
    pub fn even(schedule: Schedule, ranks: usize, micro: usize, cost: Cost) -> Self {
        Pipeline {
            schedule,
            priority: Priority::Forward,
            limits: Limit::all(schedule, ranks, micro),
            ranks,
            micro,
            costs: vec![cost; ranks * schedule.chunks()],
            delays: vec![0; ranks],
        }
    }

    /// Runs one step.
    ///
    /// # Errors
    /// If the numbers do not fit each other, or the schedule stops with work left.
    pub fn simulate(&self) -> Result<Outcome> {
        self.run(&mut |_| ())
    }

    /// Runs one step, and tells every action in the order in which they start.
    ///
    /// # Errors
    /// As [`Pipeline::simulate`].
    pub fn trace(&self) -> Result<(Outcome, Vec<Action>)> {
        let mut actions = Vec::new();
        let outcome = self.run(&mut |action| actions.push(action))?;
        Ok((outcome, actions))
    }

    fn run(&self, told: &mut dyn FnMut(Action)) -> Result<Outcome> {
        self.check()?;
        let (p, stages) = (self.ranks, self.costs.len());
        let mut ranks: Vec<Rank> = (0..p).map(|i| Rank::new(self, i, self.limits[i])).collect();
        let mut clock = Clock {
            events: BinaryHeap::new(),
            now: 0,
        };
        let mut woken: Vec<usize> = (0..p).collect();
        loop {
            for i in woken.drain(..) {
                if let Some(action) = ranks[i].start(self, clock.now) {
                    told(action);
                    clock.after(action.end - action.start, Event::Ends(i));
                }
            }
            let Some(Reverse((now, _))) = clock.events.peek() else {
                break;
            };
            clock.now = *now;
            // all that happens at this time, before any rank chooses
            while let Some(Reverse((now, event))) = clock.events.peek().copied()
                && now == clock.now
            {
                clock.events.pop();
                match event {
                    Event::Activation(k) => ranks[k % p].arrived_forward(k / p),
                    Event::Gradient(k) => ranks[k % p].arrived_backward(k / p),
                    Event::Ends(i) => {
                        let Some(done) = ranks[i].end(p) else {
                            continue;
                        };
                        self.follow(done, stages, &mut clock);
                    }
                }
                let i = match event {
                    Event::Ends(i) => i,
                    Event::Activation(k) | Event::Gradient(k) => k % p,
                };
                woken.push(i);
            }
            woken.sort_unstable();
            woken.dedup();
        }
        let left: usize = ranks.iter().map(|rank| rank.left(self.micro)).sum();
        if left > 0 {
            return Err(PlannerError::Deadlock {
                schedule: self.schedule.to_string(),
                stages,
                micro: self.micro,
                left,
            });
        }
        Ok(Outcome::of(&ranks))
    }

    /// What the end of an action sets off.
    fn follow(&self, (kind, k): (Kind, usize), stages: usize, clock: &mut Clock) {
        let p = self.ranks;
        match kind {
            Kind::Forward if k + 1 < stages => {
                clock.after(self.delays[k % p], Event::Activation(k + 1));
            }
            Kind::Forward => clock.after(0, Event::Gradient(k)),
            Kind::Backward if k > 0 => {
                clock.after(self.delays[(k - 1) % p], Event::Gradient(k - 1));
            }
            Kind::Backward | Kind::Weight => {}
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |what, got: String, mend| {
            Err(PlannerError::Value {
                place: "pipeline".to_owned(),
                what,
                got,
                mend,
            })
        };
        if self.ranks == 0 || self.micro == 0 {
            let got = format!("{} ranks, {} micro-batches", self.ranks, self.micro);
            return refuse("its extent", got, "give at least 1 of both");
        }
        if self.schedule.chunks() == 0 {
            let got = self.schedule.to_string();
            return refuse("its schedule", got, "give at least 1 piece a rank");
        }
        if self.costs.len() != self.ranks * self.schedule.chunks() {
            let got = format!("{} costs", self.costs.len());
            return refuse("its cost", got, "give one for each virtual stage");
        }
        if self.limits.len() != self.ranks {
            let got = format!("{} limits", self.limits.len());
            return refuse("its limit", got, "give one for each rank");
        }
        if self.delays.len() != self.ranks {
            let got = format!("{} delays", self.delays.len());
            return refuse("its delay", got, "give one for each rank");
        }
        Ok(())
    }
}
