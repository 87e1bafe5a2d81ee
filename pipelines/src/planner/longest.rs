//! The longest sequence that fits.

use super::error::{PlannerError, Result};
use super::machine::Machine;
use super::memory;
use super::model::Gpt;
use super::run::{Keys, Recompute, Run};

/// No sequence is searched beyond this many grains.
const MOST: usize = 1 << 24;

/// The longest sequence, a multiple of `grain` positions, with which every stage of `run` fits its
/// device; 0 if not even one grain does. Memory grows with the sequence, so halving finds it.
///
/// ```
/// use advect_pipelines::planner::{longest::longest, machine::Machine, recipes};
/// let machine = Machine::built_in("frontier")?;
/// let (gpt, run) = (recipes::gpt_175b(), recipes::recipe_175b());
/// let plain = longest(&machine, &gpt, &run, 1024)?;
/// let cut = longest(&machine, &gpt, &advect_pipelines::planner::run::Run { sequence: true, ..run }, 1024)?;
/// assert!(plain >= 2048 && cut > 2 * plain);
/// # Ok::<(), advect_pipelines::planner::error::PlannerError>(())
/// ```
///
/// # Errors
/// If `grain` is 0 or the axes that cut positions do not divide it, or the configuration is none.
pub fn longest(machine: &Machine, gpt: &Gpt, run: &Run, grain: usize) -> Result<usize> {
    let with = |grains: usize| Gpt {
        sequence: grains * grain,
        ..gpt.clone()
    };
    run.check(&with(1))
        .map_err(|why| PlannerError::rejected(run, why))?;
    let fits = |grains: usize| {
        let stages = memory::stages(&with(grains), run, None);
        stages.is_ok_and(|all| memory::fit(machine, &all).is_ok())
    };
    let mut high = 1;
    while high < MOST && fits(high) {
        high *= 2;
    }
    let mut low = high / 2;
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low * grain)
}

/// A way to hold less of a sequence on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode {
    /// What it does.
    pub name: String,
    /// The configuration.
    pub run: Run,
}

/// What can be done for a longer sequence on the workers of `run`: recomputing, cutting positions over
/// tensor ranks, turning replicas into context ranks, and for comparison attention that keeps its
/// scores.
pub fn modes(run: &Run) -> Vec<Mode> {
    let mut all = Vec::new();
    let mut push = |name: &str, run: Run| {
        all.push(Mode {
            name: name.to_owned(),
            run,
        });
    };
    let with = |recompute, flash| Run {
        recompute,
        flash,
        ..run.clone()
    };
    push("scores kept", with(Recompute::None, false));
    push("activations kept", with(Recompute::None, true));
    let again = with(Recompute::Full, true);
    push("layers recomputed", again.clone());
    let mut cut = again;
    if run.axes.tensor > 1 {
        cut.sequence = true;
        push("and cut over tensor ranks", cut.clone());
    }
    let mut parts = 2;
    while run.axes.data.is_multiple_of(parts) {
        let mut context = cut.clone();
        context.axes.context *= parts;
        context.axes.data /= parts;
        push(
            &format!("and {} context ranks", context.axes.context),
            context,
        );
        parts *= 2;
    }
    all
}

/// A way to share one sequence among all replicas of a configuration, as it is and with layers recomputed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// What it does.
    pub name: &'static str,
    /// The configuration, nothing recomputed and every layer.
    pub runs: [Run; 2],
}

/// Ways to share a sequence among the replicas and context ranks of `run`, after what does not: attention that keeps
/// its scores. Megatron makes them tensor ranks that cut positions between the products; the others are context
/// ranks. None if there is one replica.
pub fn ways(run: &Run) -> Vec<Way> {
    let replicas = run.replicas();
    if replicas == 1 {
        return Vec::new();
    }
    let with = |name, change: &dyn Fn(&mut Run)| {
        let runs = [Recompute::None, Recompute::Full].map(|recompute| {
            let mut run = Run {
                recompute,
                flash: true,
                ..run.clone()
            };
            (run.axes.data, run.axes.context) = (1, 1);
            change(&mut run);
            run
        });
        Way { name, runs }
    };
    let tensor = |run: &mut Run| {
        run.axes.tensor *= replicas;
        run.sequence = true;
    };
    let context = |keys| {
        move |run: &mut Run| {
            run.axes.context = replicas;
            run.keys = keys;
        }
    };
    vec![
        with("not shared, scores kept (baseline)", &|run| {
            run.axes.data = replicas;
            run.flash = false;
        }),
        with("Megatron, scores kept (baseline)", &|run| {
            tensor(run);
            run.flash = false;
        }),
        with("Megatron (baseline)", &tensor),
        with("keys gathered and kept", &context(Keys::GATHER)),
        with("keys gathered again", &context(Keys::GATHER_AGAIN)),
        with("keys around", &context(Keys::RING)),
        with("heads for positions", &context(Keys::HEADS)),
    ]
}

/// Positions that every axis of `run` cuts evenly, about a hundred.
pub fn grain(run: &Run) -> usize {
    let parts = run.axes.context * if run.sequence { run.axes.tensor } else { 1 };
    parts.max(1) * 128usize.div_ceil(parts.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::recipes::{gpt_22b, recipe_22b};
    use crate::planner::run::Policy;

    /// What is found fits, and one grain more does not.
    #[test]
    fn longest_is_the_last_that_fits() {
        let machine = Machine::built_in("frontier").unwrap();
        for policy in [Policy::Deepspeed, Policy::Advect] {
            for flash in [true, false] {
                let mut run = Run {
                    policy,
                    flash,
                    zero: 1,
                    ..recipe_22b()
                };
                run.axes.tensor = 2;
                let found = longest(&machine, &gpt_22b(), &run, 64).unwrap();
                assert!(found > 0);
                let fits = |sequence: usize| {
                    let gpt = Gpt {
                        sequence,
                        ..gpt_22b()
                    };
                    memory::fit(&machine, &memory::stages(&gpt, &run, None).unwrap()).is_ok()
                };
                assert!(fits(found) && !fits(found + 64), "{found}");
            }
        }
    }

    /// Cutting positions over c context ranks lengthens the sequence by nearly c, where weights
    /// stay the same.
    #[test]
    fn context_ranks_lengthen_the_sequence() {
        let machine = Machine::built_in("frontier").unwrap();
        let with = |context| {
            let mut run = Run {
                zero: 1,
                policy: Policy::Advect,
                ..recipe_22b()
            };
            (run.axes.context, run.axes.tensor) = (context, 2);
            longest(&machine, &gpt_22b(), &run, 1024).unwrap() as f64
        };
        let ratio = with(4) / with(1);
        assert!((2.0..4.5).contains(&ratio), "{ratio}");
    }

    /// Every mode spans the same workers, and none holds a shorter sequence than the one before.
    #[test]
    fn modes_lengthen_the_sequence() {
        let machine = Machine::built_in("frontier").unwrap();
        let mut run = recipe_22b();
        (run.axes.tensor, run.axes.data, run.zero) = (8, 8, 1);
        let modes = modes(&run);
        assert_eq!(modes.len(), 7);
        let mut last = 0;
        for mode in modes {
            assert_eq!(mode.run.axes.workers(), run.axes.workers());
            let found = longest(&machine, &gpt_22b(), &mode.run, grain(&mode.run)).unwrap();
            assert!(found > last, "{}: {found} after {last}", mode.name);
            last = found;
        }
    }

    /// Keys that go around hold a longer sequence than keys that are gathered, these than attention that keeps its
    /// scores, and what is gathered and kept no longer one than what is gathered again; recomputing layers never
    /// shortens it.
    #[test]
    fn what_goes_around_is_longest() {
        let machine = Machine::built_in("frontier").unwrap();
        let mut run = Run {
            policy: Policy::Advect,
            ..recipe_22b()
        };
        (run.axes.tensor, run.axes.data, run.zero) = (2, 8, 0);
        let ways = ways(&run);
        let of = |name: &str| {
            let way = ways.iter().find(|way| way.name.starts_with(name)).unwrap();
            let found = way.runs.clone().map(|run| {
                assert_eq!(run.axes.workers(), 128);
                longest(&machine, &gpt_22b(), &run, grain(&run)).unwrap()
            });
            assert!(found[1] >= found[0], "{name}: {found:?}");
            found[0]
        };
        let dense = of("not shared, scores kept");
        let [kept, again, around] =
            ["keys gathered and", "keys gathered again", "keys around"].map(of);
        assert!(around >= again && again >= kept && kept >= dense && dense > 0);
        assert!(
            around > kept + kept / 2 && kept > 4 * dense,
            "{around} {kept} {dense}"
        );
        assert!(of("Megatron, scores kept") <= of("Megatron (baseline)"));
    }

    /// A grain that the axes do not divide is refused with its reason.
    #[test]
    fn grain_must_be_cut() {
        let mut run = recipe_22b();
        run.axes.context = 3;
        let machine = Machine::built_in("frontier").unwrap();
        assert!(longest(&machine, &gpt_22b(), &run, 64).is_err());
    }
}
