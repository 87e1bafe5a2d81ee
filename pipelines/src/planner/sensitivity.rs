//! What the axes of a mesh and the levels of a network are worth.

use super::error::Result;
use super::machine::{Level, Machine};
use super::model::Gpt;
use super::run::{Axis, Run};
use super::time::{Cache, estimate, setup, step};

/// What one axis costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposed {
    /// The axis.
    pub axis: Axis,
    /// Seconds that a step would be shorter if its messages took no time.
    pub seconds: f64,
    /// Bytes that the busiest rank sends over it in a step.
    pub bytes: f64,
    /// The level that its messages cross.
    pub level: usize,
}

/// How much a step hangs on one level of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensitivity {
    /// The level.
    pub level: String,
    /// ∂T/∂β, seconds per B/s.
    pub slope: f64,
    /// (β/T) ∂T/∂β: percent of T for a percent of β.
    pub elasticity: f64,
}

/// What every axis costs: the step is predicted again with the messages of one axis at no time.
///
/// # Errors
/// As [`estimate`].
pub fn exposed(machine: &Machine, gpt: &Gpt, run: &Run) -> Result<Vec<Exposed>> {
    let whole = estimate(machine, gpt, run)?;
    let mut all = Vec::new();
    for axis in [Axis::Tensor, Axis::Context, Axis::Data, Axis::Pipeline] {
        if run.axes.extent(axis) == 1 {
            continue;
        }
        let mut setup = setup(machine, gpt, run)?;
        setup.free = Some(axis);
        let level = match axis {
            Axis::Tensor => setup.tensor.level,
            Axis::Context => setup.context.level,
            Axis::Data => setup.replicas.level,
            Axis::Pipeline => setup.hops.iter().map(|h| h.level).max().unwrap_or(0),
        };
        all.push(Exposed {
            axis,
            seconds: whole.step - step(&setup, &mut Cache::default())?.0,
            bytes: whole.wire.over(axis),
            level,
        });
    }
    Ok(all)
}

/// How much a step hangs on the bandwidth of every level, by central differences of 1 %.
///
/// # Errors
/// As [`estimate`].
pub fn sensitivities(machine: &Machine, gpt: &Gpt, run: &Run) -> Result<Vec<Sensitivity>> {
    const PART: f64 = 0.01;
    let at = |level: usize, factor: f64| {
        let mut other = machine.clone();
        other.levels[level].bandwidth *= factor;
        let setup = setup(&other, gpt, run)?;
        step(&setup, &mut Cache::default()).map(|(time, _)| time)
    };
    let whole = step(&setup(machine, gpt, run)?, &mut Cache::default())?.0;
    let one = |(i, level): (usize, &Level)| {
        let change = at(i, 1.0 + PART)? - at(i, 1.0 - PART)?;
        Ok(Sensitivity {
            level: level.name.clone(),
            slope: change / (2.0 * PART * level.bandwidth),
            elasticity: change / (2.0 * PART * whole),
        })
    };
    machine.levels.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::recipes::{gpt_175b, recipe_175b};

    fn frontier() -> Machine {
        Machine::built_in("frontier").unwrap()
    }

    /// Free messages shorten a step, and by no more than they take.
    #[test]
    fn messages_cost() {
        let (machine, gpt, run) = (frontier(), gpt_175b(), recipe_175b());
        let whole = estimate(&machine, &gpt, &run).unwrap();
        for axis in exposed(&machine, &gpt, &run).unwrap() {
            assert!(
                axis.seconds > 0.0 && axis.seconds < 0.2 * whole.step,
                "{axis:?}"
            );
        }
    }

    /// More bandwidth never lengthens a step, and levels that the run does not cross have no say.
    #[test]
    fn sensitivities_are_of_the_levels_that_are_crossed() {
        let all = sensitivities(&frontier(), &gpt_175b(), &recipe_175b()).unwrap();
        assert!(all.iter().all(|s| s.elasticity <= 1e-9));
        let of = |name: &str| all.iter().find(|s| s.level == name).unwrap().elasticity;
        assert_eq!(of("module"), 0.0);
        assert!(of("half node") < of("system"));
    }
}
