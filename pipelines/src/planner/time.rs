//! Time of a step: the pipeline by simulation, then what follows it.
//!
//! $T = (T_p + T_r + T_n + T_u)(1 + j)$: the pipeline, the reduction of gradients, their norm, the
//! update with the gather that follows it, and jitter. Every rank reduces when it ends, so
//! reductions of late stages hide behind the last backwards of the first. HFU counts FLOPs that
//! were executed, MFU those that were needed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::error::{PlannerError, Result};
use super::machine::Machine;
use super::memory;
use super::model::Gpt;
use super::pass::{Setup, Wire, seconds};
use super::rejection::Rejection;
use super::run::{Axis, Policy, Recompute, Run, Schedule};
use super::simulate::{Outcome, Pipeline};

/// What a configuration is predicted to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The configuration.
    pub run: Run,
    /// T, seconds of a step: the sum of `parts` and of jitter.
    pub step: f64,
    /// What the busiest rank does with them.
    pub parts: Parts,
    /// Share of the pipeline's time in which ranks idle, uneven stages and waits for messages
    /// included.
    pub bubble: f64,
    /// FLOP/s per device that were executed.
    pub rate: f64,
    /// The same as a part of the peak.
    pub hfu: f64,
    /// FLOP/s that were needed, as a part of the peak.
    pub mfu: f64,
    /// Tokens per second over all devices.
    pub tokens: f64,
    /// The stage that needs most memory, and its bytes.
    pub memory: (usize, u64),
    /// Bytes that the busiest rank sends in a step.
    pub wire: Wire,
}

/// Seconds of a step on the busiest rank, without jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// Arithmetic.
    pub compute: f64,
    /// Messages inside passes: reductions over tensor ranks, gathers that arithmetic does not hide.
    pub messages: f64,
    /// Waits for other stages.
    pub waiting: f64,
    /// After the pipeline: reductions, norm, update, gather.
    pub tail: f64,
}

impl Parts {
    /// Name and seconds of each.
    pub fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("arithmetic", self.compute),
            ("messages in passes", self.messages),
            ("waits for stages", self.waiting),
            ("after the pipeline", self.tail),
        ]
    }
}

/// Predicts a step of `run`.
///
/// ```
/// use advect_pipelines::planner::{machine::Machine, recipes, time::estimate};
/// let frontier = Machine::built_in("frontier")?;
/// let step = estimate(&frontier, &recipes::gpt_175b(), &recipes::recipe_175b())?;
/// assert!((step.rate / 69.2e12 - 1.0).abs() < 0.03); // the published 69.2 TFLOP/s per GCD
/// # Ok::<(), advect_pipelines::planner::error::PlannerError>(())
/// ```
///
/// # Errors
/// If the configuration is none, or the machine has no arithmetic in its precision. Whether it fits
/// the memory is not asked.
pub fn estimate(machine: &Machine, gpt: &Gpt, run: &Run) -> Result<Estimate> {
    estimate_with(machine, gpt, run, &mut Cache::default())
}

/// Outcomes of pipelines that were simulated before.
pub(super) type Cache = HashMap<Pipeline, Outcome>;

/// [`estimate`] that simulates no pipeline twice.
pub(super) fn estimate_with(
    machine: &Machine,
    gpt: &Gpt,
    run: &Run,
    cache: &mut Cache,
) -> Result<Estimate> {
    let stages = memory::stages(gpt, run, None).map_err(|why| PlannerError::rejected(run, why))?;
    let setup = setup(machine, gpt, run)?;
    let (step, outcome) = step(&setup, cache)?;
    let p = run.axes.pipeline;
    let peak = machine.peak(run.precision);
    let needed = gpt.model_flops(run.batch);
    let executed = match run.recompute {
        Recompute::Full => gpt.hardware_flops(run.batch),
        Recompute::None => needed,
    };
    let all = step * run.axes.workers() as f64;
    let (busiest, busy) = (0..p)
        .map(|i| (i, outcome.busy[i]))
        .max_by_key(|(i, busy)| (*busy, p - i))
        .unwrap_or((0, 0));
    let own = (busiest..run.stages()).step_by(p);
    let compute = setup.micro as f64 * own.map(|k| setup.pass(k).compute).sum::<f64>();
    let chained = run.schedule == Schedule::Zb2p;
    let span = if chained {
        outcome.period
    } else {
        outcome.makespan
    };
    let (idle, time) = outcome.bubble(chained);
    let wires: Vec<Wire> = (0..p).map(|i| setup.wire(i)).collect();
    let most = |axis| wires.iter().map(|w| w.over(axis)).fold(0.0, f64::max);
    Ok(Estimate {
        run: run.clone(),
        step,
        parts: Parts {
            compute,
            // rounding to nanoseconds may leave less than nothing
            messages: (seconds(busy) - compute).max(0.0),
            waiting: seconds(span - busy),
            tail: step / (1.0 + machine.jitter) - seconds(span),
        },
        bubble: idle as f64 / time as f64,
        rate: executed / all,
        hfu: executed / all / peak,
        mfu: needed / all / peak,
        tokens: (run.batch * gpt.sequence) as f64 / step,
        memory: memory::largest(&stages),
        wire: Wire {
            tensor: most(Axis::Tensor),
            context: most(Axis::Context),
            data: most(Axis::Data),
            pipeline: most(Axis::Pipeline),
        },
    })
}

pub(super) fn setup<'a>(machine: &'a Machine, gpt: &'a Gpt, run: &'a Run) -> Result<Setup<'a>> {
    run.check(gpt)
        .map_err(|why| PlannerError::rejected(run, why))?;
    if machine.peak(run.precision) <= 0.0 {
        let why = Rejection::Precision {
            machine: machine.name.clone(),
            precision: run.precision,
        };
        return Err(PlannerError::rejected(run, why));
    }
    let micro = run
        .accumulation()
        .map_err(|why| PlannerError::rejected(run, why))?;
    Ok(Setup::new(machine, gpt, run, micro))
}

/// T in seconds, and the pipeline's outcome.
pub(super) fn step(setup: &Setup<'_>, cache: &mut Cache) -> Result<(f64, Outcome)> {
    let outcome = match cache.entry(setup.pipeline()) {
        Entry::Occupied(known) => known.get().clone(),
        Entry::Vacant(new) => {
            let outcome = new.key().simulate()?;
            new.insert(outcome).clone()
        }
    };
    let run = setup.run;
    let p = run.axes.pipeline;
    let chained = run.schedule == Schedule::Zb2p;
    let mut ready = 0.0f64;
    let mut after = 0.0f64;
    for i in 0..p {
        let end = if chained {
            outcome.period
        } else {
            outcome.ends[i]
        };
        let [reduce, update] = tail(setup, i);
        ready = ready.max(seconds(end) + reduce);
        after = after.max(update);
    }
    // one number of every rank, up and down a tree
    let slowest = setup
        .machine
        .levels
        .iter()
        .map(|l| l.latency)
        .fold(0.0, f64::max);
    let rounds = (run.axes.workers() as f64).log2().ceil();
    let norm = 2.0 * rounds * slowest;
    let time = (ready + tied(setup) + norm + after) * (1.0 + setup.machine.jitter);
    Ok((time, outcome))
}

/// Seconds on rank `i` to reduce its gradient, and to update and gather its parameters.
fn tail(setup: &Setup<'_>, i: usize) -> [f64; 2] {
    let run = setup.run;
    let e = run.learned() as f64;
    let deepspeed = run.policy != Policy::Advect;
    let part = run.rank(setup.gpt, i);
    let n = setup.gpt.parameters(part, run.axes.tensor, deepspeed) as f64;
    let of = |seconds| setup.unless(Axis::Data, seconds);
    let all = of(setup.gathered(part, deepspeed).seconds);
    let sum = of(setup.summed(part, deepspeed).seconds);
    let (reduce, gather) = match run.sharding() {
        0 => (sum, 0.0),
        1 => (all + sum, all),
        2 => (sum, all),
        _ => (sum, 0.0),
    };
    let own = match run.sharding() {
        0 => n,
        _ => n / run.sharers() as f64,
    };
    // AdamW reads gradient, parameter and both moments, and writes all but the gradient; with a
    // copy in single precision the parameter is only written
    let touched = if deepspeed && e == 2.0 {
        2.0 * e + 6.0 * 4.0
    } else {
        7.0 * e
    };
    let update = own * touched / setup.machine.memory.bandwidth;
    [reduce, update + gather]
}

/// Seconds to add the gradients of a tied table on the first and the last stage.
fn tied(setup: &Setup<'_>) -> f64 {
    let (run, gpt) = (setup.run, setup.gpt);
    if !gpt.tied || run.axes.pipeline == 1 {
        return 0.0;
    }
    let table = gpt.vocabulary.div_ceil(run.axes.tensor) * gpt.width;
    let bytes = table as f64 * run.learned() as f64;
    let back = setup.hops.last().map_or(0.0, |hop| hop.send(bytes));
    setup.unless(Axis::Pipeline, back)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::recipes::{gpt_175b, recipe_175b};
    use crate::planner::run::Precision;

    fn frontier() -> Machine {
        Machine::built_in("frontier").unwrap()
    }

    /// Bytes on the wire are the closed forms: six reductions of 2 (t - 1) / t of the residual
    /// stream a layer and micro-batch, 4 N (d - 1) / d a step, two messages of 2 s b h / t a
    /// boundary.
    #[test]
    fn bytes_on_the_wire_are_the_closed_forms() {
        let estimate = estimate(&frontier(), &gpt_175b(), &recipe_175b()).unwrap();
        let residual = 2.0f64 * 2048.0 * 12288.0;
        let once = 0.75 * residual;
        // an inner stage: six layers, and the gather of what two neighbours send; the first stage
        // has one neighbour and sums the embedding
        let inner = 320.0 * (6.0 * 6.0 * 2.0 * once + 2.0 * once);
        let first = 320.0 * (6.0 * 6.0 * 2.0 * once + 2.0 * once + once);
        assert_eq!(estimate.wire.tensor, first.max(inner));
        assert_eq!(estimate.wire.pipeline, 320.0 * 2.0 * residual / 4.0);
        assert!(estimate.wire.data >= 2.0 * 2_718_480_384.0);
    }

    /// A step is no shorter than the arithmetic of its busiest rank, and its parts sum to it.
    #[test]
    fn arithmetic_bounds() {
        let (machine, gpt, run) = (frontier(), gpt_175b(), recipe_175b());
        let whole = estimate(&machine, &gpt, &run).unwrap();
        assert!(whole.step > whole.parts.compute);
        assert!(whole.mfu < whole.hfu);
        let sum: f64 = whole.parts.named().iter().map(|(_, s)| s).sum();
        assert!((sum / whole.step - 1.0).abs() < 1e-6);
    }

    /// Every built-in machine predicts in the precisions that it has, and rejects the others.
    #[test]
    fn machines_without_units_are_rejected() {
        for name in Machine::names() {
            let machine = Machine::built_in(name).unwrap();
            for precision in [
                Precision::Fp16,
                Precision::Bf16,
                Precision::F32,
                Precision::F64,
            ] {
                let run = Run {
                    precision,
                    ..recipe_175b()
                };
                let has = machine.peak(precision) > 0.0;
                let told = estimate(&machine, &gpt_175b(), &run);
                assert_eq!(told.is_ok(), has, "{name} {precision}");
            }
        }
    }

    /// Jitter lengthens every step by its share, and nothing else does.
    #[test]
    fn jitter_is_a_share_of_its_own() {
        let (gpt, run) = (gpt_175b(), recipe_175b());
        let still = estimate(&frontier(), &gpt, &run).unwrap().step;
        let shaken = Machine {
            jitter: 0.1,
            dispatch: 0.0,
            ..frontier()
        };
        let moved = estimate(&shaken, &gpt, &run).unwrap().step;
        assert!((moved / still - 1.1).abs() < 1e-12);
    }

    /// Shards of parameters are gathered in every micro-batch, whole ones once a step: ZeRO-3 sends
    /// 6 N (d - 1) / d bytes a micro-batch, ZeRO-1 4 N (d - 1) / d a step.
    #[test]
    fn zero_3_sends_in_every_micro_batch() {
        let wire = |zero| {
            let run = Run {
                zero,
                ..recipe_175b()
            };
            estimate(&frontier(), &gpt_175b(), &run).unwrap().wire.data
        };
        assert_eq!(wire(0), wire(1));
        assert!((wire(3) / wire(1) - 320.0 * 6.0 / 4.0).abs() < 1e-9);
    }
}
