//! Why not: every configuration that is one knob away, and what it would cost.

use super::error::Result;
use super::model::Gpt;
use super::rejection::Rejection;
use super::run::{Axis, Keys, Recompute, Run, Schedule};
use super::search::Planner;
use super::time::Estimate;

/// What becomes of a configuration when one knob is turned.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It runs: how many seconds slower, below 0 if faster, and the part of a step that changed
    /// most that way, with its seconds.
    Runs {
        /// Seconds of a step more than before.
        slower: f64,
        /// What changed most.
        part: &'static str,
        /// By how many seconds.
        by: f64,
        /// Bytes of the stage that needs most.
        memory: u64,
    },
    /// It does not run.
    Rejected(Rejection),
}

/// A configuration one knob away.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// What was turned: "d 2 → 1, t 4 → 8".
    pub change: String,
    /// The configuration.
    pub run: Run,
    /// What becomes of it.
    pub verdict: Verdict,
}

impl Planner<'_> {
    /// All neighbours of a configuration, in the order of the knobs. They may lie outside the
    /// space: its rules hold, its lists do not.
    ///
    /// # Errors
    /// As [`Planner::judge`].
    pub fn neighbours(&mut self, best: &Estimate) -> Result<Vec<Neighbour>> {
        let mut all = Vec::new();
        for (change, run) in turned(self.gpt(), &best.run) {
            let verdict = match self.judge(&run)? {
                Ok(estimate) => compare(best, &estimate),
                Err(why) => Verdict::Rejected(why),
            };
            all.push(Neighbour {
                change,
                run,
                verdict,
            });
        }
        Ok(all)
    }
}

fn compare(best: &Estimate, other: &Estimate) -> Verdict {
    let slower = other.step - best.step;
    let changes = best.parts.named().into_iter().zip(other.parts.named());
    let sign = if slower < 0.0 { -1.0 } else { 1.0 };
    let (part, by) = changes
        .map(|((name, before), (_, after))| (name, after - before))
        .max_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)))
        .unwrap_or(("", 0.0));
    Verdict::Runs {
        slower,
        part,
        by,
        memory: other.memory.1,
    }
}

/// Every configuration with one knob turned by one notch.
fn turned(gpt: &Gpt, run: &Run) -> Vec<(String, Run)> {
    let mut all = meshes(run);
    let mut push = |change: String, turn: &dyn Fn(&mut Run)| {
        let mut other = run.clone();
        turn(&mut other);
        all.push((change, other));
    };
    for micro in [run.micro * 2, run.micro / 2] {
        if micro > 0 && micro != run.micro {
            push(format!("b {} → {micro}", run.micro), &|r| r.micro = micro);
        }
    }
    for zero in 0..=3 {
        if zero != run.zero && run.sharers() > 1 {
            push(format!("zero {} → {zero}", run.zero), &|r| r.zero = zero);
        }
    }
    let v = run.schedule.chunks();
    let mut schedules = vec![
        Schedule::Gpipe,
        Schedule::OneFOneB,
        Schedule::ZbH1,
        Schedule::Zb2p,
    ];
    schedules.extend(
        [v - 1, v + 1]
            .into_iter()
            .filter(|v| *v > 1)
            .map(Schedule::Interleaved),
    );
    for schedule in schedules {
        if schedule != run.schedule && run.axes.pipeline > 1 {
            push(format!("{} → {schedule}", run.schedule), &|r| {
                r.schedule = schedule;
                r.split = None;
            });
        }
    }
    match run.recompute {
        Recompute::Full => push("recompute full → none".to_owned(), &|r| {
            r.recompute = Recompute::None;
        }),
        Recompute::None => push("recompute none → full".to_owned(), &|r| {
            r.recompute = Recompute::Full;
        }),
    }
    let flip = |on: bool| if on { "on → off" } else { "off → on" };
    push(format!("flash {}", flip(run.flash)), &|r| {
        r.flash = !r.flash
    });
    if run.axes.tensor > 1 {
        push(format!("sequence {}", flip(run.sequence)), &|r| {
            r.sequence = !r.sequence
        });
    }
    let others = Keys::ALL.into_iter().filter(|keys| *keys != run.keys);
    for keys in others.filter(|_| run.axes.context > 1) {
        push(format!("keys {} → {keys}", run.keys), &|r| r.keys = keys);
    }
    if let Some(split) = lighter(gpt, run) {
        push("a layer from the last stage to another".to_owned(), &|r| {
            r.split = Some(split.clone());
        });
    }
    for i in 0..3 {
        let mut order = run.order;
        order.swap(i, i + 1);
        if order
            .iter()
            .filter(|a| run.axes.extent(**a) > 1)
            .ne(run.order.iter().filter(|a| run.axes.extent(**a) > 1))
        {
            push(
                format!("{:?} before {:?}", order[i], order[i + 1]).to_lowercase(),
                &|r| {
                    r.order = order;
                },
            );
        }
    }
    all
}

/// Meshes in which one prime factor moves from one axis to another.
fn meshes(run: &Run) -> Vec<(String, Run)> {
    let axes = [Axis::Tensor, Axis::Pipeline, Axis::Data, Axis::Context];
    let mut all = Vec::new();
    for from in axes {
        for to in axes.into_iter().filter(|to| *to != from) {
            let (a, b) = (run.axes.extent(from), run.axes.extent(to));
            let prime = |q: &usize| (2..*q).all(|k| !q.is_multiple_of(k));
            for q in (2..=a).filter(|q| a.is_multiple_of(*q)).filter(prime) {
                let mut other = run.clone();
                for (axis, extent) in [(from, a / q), (to, b * q)] {
                    match axis {
                        Axis::Tensor => other.axes.tensor = extent,
                        Axis::Context => other.axes.context = extent,
                        Axis::Data => other.axes.data = extent,
                        Axis::Pipeline => other.axes.pipeline = extent,
                    }
                }
                if other.axes.pipeline != run.axes.pipeline {
                    other.split = None;
                }
                if other.axes.pipeline == 1 {
                    other.schedule = Schedule::OneFOneB;
                }
                let name = |axis| match axis {
                    Axis::Tensor => "t",
                    Axis::Context => "c",
                    Axis::Data => "d",
                    Axis::Pipeline => "p",
                };
                let change = format!(
                    "{} {a} → {}, {} {b} → {}",
                    name(from),
                    a / q,
                    name(to),
                    b * q
                );
                all.push((change, other));
            }
        }
    }
    all
}

/// The split with a layer less on the last stage, which has the head, and one more on the lightest
/// of the others.
fn lighter(gpt: &Gpt, run: &Run) -> Option<Vec<usize>> {
    let mut split: Vec<usize> = (0..run.stages()).map(|k| run.layers(gpt, k)).collect();
    let (last, others) = split.split_last_mut()?;
    // of several the latest: early stages hold more moments
    let (_, light) = others
        .iter_mut()
        .enumerate()
        .min_by_key(|(k, n)| (**n, usize::MAX - k))?;
    if *last < 2 {
        return None;
    }
    *last -= 1;
    *light += 1;
    Some(split)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::machine::Machine;
    use crate::planner::recipes::{gpt_175b, recipe_175b};
    use crate::planner::search::Space;

    fn neighbours(space: Space) -> Vec<Neighbour> {
        let (machine, gpt) = (Machine::built_in("frontier").unwrap(), gpt_175b());
        let mut planner = Planner::new(&machine, &gpt, space);
        let best = planner.judge(&recipe_175b()).unwrap().unwrap();
        planner.neighbours(&best).unwrap()
    }

    /// Every neighbour spans the same workers and differs; each has a verdict of its own kind.
    #[test]
    fn neighbours_differ_in_one_knob() {
        let all = neighbours(Space::deepspeed(640));
        for n in &all {
            assert_eq!(n.run.axes.workers(), 128);
            assert_ne!(n.run, recipe_175b(), "{}", n.change);
        }
        let of = |change: &str| {
            let found = all.iter().find(|n| n.change == change);
            found
                .unwrap_or_else(|| panic!("no {change}"))
                .verdict
                .clone()
        };
        let part = |change| match of(change) {
            Verdict::Runs { slower, part, .. } if slower > 0.0 => part,
            other => panic!("{change}: {other:?}"),
        };
        assert_eq!(part("d 2 → 1, t 4 → 8"), "messages in passes");
        assert_eq!(part("b 1 → 2"), "waits for stages");
        assert!(matches!(
            of("1f1b → gpipe"),
            Verdict::Rejected(Rejection::Memory { .. })
        ));
        assert!(matches!(
            of("p 16 → 8, t 4 → 8"),
            Verdict::Runs { slower, .. } if slower > 0.0
        ));
    }

    /// Whatever beats the published configuration is found, and is below 2 % in its own space.
    #[test]
    fn published_configuration_is_near_the_best_of_its_space() {
        let (machine, gpt) = (Machine::built_in("frontier").unwrap(), gpt_175b());
        let mut planner = Planner::new(&machine, &gpt, Space::deepspeed(640));
        let ranking = planner.rank(128).unwrap();
        let own = ranking.place(&recipe_175b()).unwrap();
        let ratio = ranking.ranked[own - 1].step / ranking.ranked[0].step;
        assert!(own <= 3 && ratio < 1.02, "place {own}, {ratio}");
    }
}
