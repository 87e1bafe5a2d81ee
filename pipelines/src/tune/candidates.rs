//! Candidates: every configuration of a number of cores that the planner lets run, fastest first.
//!
//! A core is a worker, or several cores are the threads of one: with two cores, two workers of one thread
//! and one worker of two. What does not fit the memory is refused here, with its reason, and never runs.

use std::collections::BTreeSet;
use std::fmt;

use super::translate::{Setting, settings};
use crate::planner::Job;
use crate::planner::error::Result;
use crate::planner::machine::Machine;
use crate::planner::rejection::Rejection;
use crate::planner::run::{Recompute, Run, Schedule};
use crate::planner::search::{Planner, Space};

/// A configuration that can run.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// What the planner calls it.
    pub run: Run,
    /// Threads of an operator of every worker.
    pub threads: usize,
    /// Seconds of a step, predicted.
    pub predicted: f64,
    /// Settings that make a run of it.
    pub settings: Vec<Setting>,
}

impl Candidate {
    /// Its workers.
    pub fn workers(&self) -> usize {
        self.run.axes.workers()
    }

    /// What the surrogate sees of it: logarithms of extents, and a number for every choice.
    pub fn features(&self) -> Vec<f64> {
        let (run, axes) = (&self.run, self.run.axes);
        let log = |n: usize| (n.max(1) as f64).log2();
        let is = |yes: bool| f64::from(u8::from(yes));
        vec![
            log(axes.tensor),
            log(axes.pipeline),
            log(axes.data),
            log(axes.context),
            log(run.micro),
            log(self.threads),
            is(run.zero == 1),
            is(run.zero == 2),
            is(run.zero == 3),
            is(run.schedule == Schedule::Gpipe),
            is(run.schedule == Schedule::ZbH1),
            log(run.schedule.chunks()),
            is(run.recompute == Recompute::Full),
            is(run.sequence),
        ]
    }

    /// The arguments of `advect run` that choose it.
    pub fn arguments(&self) -> Vec<String> {
        let set = self
            .settings
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        set.collect()
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.threads {
            1 => f.pad(&self.run.to_string()),
            n => f.pad(&format!("{} threads {n}", self.run)),
        }
    }
}

/// All that a number of cores allows.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates {
    /// Those that are searched, least predicted time first.
    pub tried: Vec<Candidate>,
    /// How many more could run, slower than all that are searched.
    pub beyond: usize,
    /// Predicted failures: those that do not fit the memory, and why.
    pub refused: Vec<(String, Rejection)>,
    /// How many cannot be, since numbers do not divide each other.
    pub impossible: usize,
}

/// The `most` fastest configurations of `job` on `cores` of `machine`.
///
/// # Errors
/// If the planner cannot say what one does.
pub fn enumerate(job: &Job, machine: &Machine, cores: usize, most: usize) -> Result<Candidates> {
    let mut all = Candidates {
        tried: Vec::new(),
        beyond: 0,
        refused: Vec::new(),
        impossible: 0,
    };
    let mut seen = BTreeSet::new();
    for threads in (1..=cores).filter(|threads| cores.is_multiple_of(*threads)) {
        let machine = joined(machine, threads);
        let space = space(job);
        let runs = space.runs(cores / threads);
        let mut planner = Planner::new(&machine, &job.gpt, space);
        // pieces are those of replicas: without them there is nothing to store in pieces
        for run in runs.into_iter().filter(|r| r.zero == 0 || r.axes.data > 1) {
            let estimate = match planner.judge(&run)? {
                Ok(estimate) => estimate,
                Err(why) if why.is_memory() => {
                    all.refused.push((named(&run, threads), why));
                    continue;
                }
                Err(_) => {
                    all.impossible += 1;
                    continue;
                }
            };
            let settings = settings(&run, &job.gpt);
            if seen.insert((threads, settings.clone())) {
                all.tried.push(Candidate {
                    run,
                    threads,
                    predicted: estimate.step,
                    settings,
                });
            }
        }
    }
    let name = |c: &Candidate| named(&c.run, c.threads);
    all.tried.sort_by(|a, b| {
        let time = a.predicted.total_cmp(&b.predicted);
        time.then_with(|| name(a).cmp(&name(b)))
    });
    all.beyond = all.tried.len().saturating_sub(most);
    all.tried.truncate(most);
    Ok(all)
}

fn named(run: &Run, threads: usize) -> String {
    match threads {
        1 => run.to_string(),
        n => format!("{run} threads {n}"),
    }
}

/// What `language` can do, with micro-batches of all powers of two.
fn space(job: &Job) -> Space {
    let mut space = Space::advect(job.batch, job.precision);
    space.schedules.push(Schedule::ZbH1);
    let powers = (0..usize::BITS).map(|k| 1 << k);
    space.micro = powers.take_while(|b| *b <= job.batch).collect();
    if !space.micro.contains(&job.micro) {
        space.micro.push(job.micro);
    }
    space
}

/// The same machine with so many cores joined to a device: as fast as all of them, with the memory of all.
fn joined(machine: &Machine, cores: usize) -> Machine {
    let (mut machine, n) = (machine.clone(), cores as f64);
    let (peak, memory) = (&mut machine.peak, &mut machine.memory);
    for rate in [&mut peak.fp16, &mut peak.bf16, &mut peak.f32, &mut peak.f64] {
        *rate *= n;
    }
    memory.bytes *= n;
    memory.bandwidth *= n;
    for level in &mut machine.levels {
        level.size = (level.size / cores).max(1);
    }
    machine
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use advect_engine::Fabric;

    use super::*;
    use crate::config::{Config, Sources, resolve};
    use crate::language::Language;
    use crate::language::settings::Settings;
    use crate::planner::machine::{Hbm, Level, Peak};

    fn machine(cores: usize, bytes: f64) -> Machine {
        Machine {
            name: "test".to_owned(),
            kernel_efficiency: 0.7,
            link_efficiency: 1.0,
            jitter: 0.0,
            dispatch: 0.0,
            peak: Peak {
                fp16: 0.0,
                bf16: 0.0,
                f32: 1e11,
                f64: 5e10,
            },
            memory: Hbm {
                bytes,
                bandwidth: 1e10,
                reserve: 0.1,
            },
            levels: vec![Level {
                name: "threads".to_owned(),
                size: cores,
                latency: 5e-6,
                bandwidth: 5e9,
                shared_by: 1,
                rails: 1,
            }],
        }
    }

    fn config(set: &[String]) -> Config {
        let sources = Sources {
            set: set.to_vec(),
            ..Sources::default()
        };
        resolve(&Language, &sources).unwrap()
    }

    /// What is run is what was predicted: a run accepts the settings of every candidate, and read back they
    /// are its configuration.
    #[test]
    fn settings_are_the_configuration() {
        let mut schedules = BTreeMap::new();
        for (cores, layers) in [(1, 3), (2, 3), (4, 5), (8, 6)] {
            let base = [
                format!("model.layers={layers}"),
                "samples.step=24".to_owned(),
            ];
            let job = Job::read(&config(&base), None).unwrap();
            let all = enumerate(&job, &machine(cores, 1e10), cores, usize::MAX).unwrap();
            assert!(!all.tried.is_empty() && all.beyond == 0);
            for candidate in &all.tried {
                let set = [&base[..], &candidate.arguments()].concat();
                let config = config(&set);
                let fabric = Fabric::Threads(candidate.workers());
                let settings = Settings::read(&config, &fabric).unwrap();
                let read = Job::read(&config, None).unwrap().given.unwrap();
                let run = &candidate.run;
                let schedule = match (settings.zero_bubble, settings.training.in_flight) {
                    (true, _) => Schedule::ZbH1,
                    _ if run.accumulation() == Ok(1) => run.schedule,
                    (_, n) if run.axes.pipeline > 1 && Ok(n) == run.accumulation() => {
                        Schedule::Gpipe
                    }
                    _ => read.schedule,
                };
                let same = match run.schedule {
                    Schedule::Interleaved(_) => read.schedule,
                    _ => schedule,
                };
                assert_eq!(
                    Run {
                        schedule: same,
                        ..read
                    },
                    *run,
                    "{candidate}"
                );
                assert_eq!(settings.training.batching.step(), 24);
                assert_eq!(candidate.workers() * candidate.threads, cores);
                *schedules.entry(run.schedule).or_insert(0) += 1;
            }
        }
        assert_eq!(schedules.len(), 5, "{schedules:?}");
    }

    /// What does not fit is refused with its reason and is no candidate, and the fastest are kept.
    #[test]
    fn what_does_not_fit_never_runs() {
        let job = Job::read(&config(&[]), None).unwrap();
        let all = enumerate(&job, &machine(2, 1e10), 2, usize::MAX).unwrap();
        assert!(all.refused.is_empty());
        let few = enumerate(&job, &machine(2, 6e7), 2, 10).unwrap();
        assert!(!few.refused.is_empty() && few.tried.len() == 10);
        assert!(few.tried.is_sorted_by(|a, b| a.predicted <= b.predicted));
        let rest = few.tried.len() + few.beyond + few.refused.len();
        assert_eq!((rest, few.impossible), (all.tried.len(), all.impossible));
        for (name, why) in &few.refused {
            assert!(why.to_string().contains("more than fit"), "{name}: {why}");
            assert!(few.tried.iter().all(|c| c.to_string() != *name));
        }
        let threads: BTreeSet<usize> = all.tried.iter().map(|c| c.threads).collect();
        assert_eq!(threads, BTreeSet::from([1, 2]));
    }

    /// Candidates that differ differ in what the surrogate sees.
    #[test]
    fn features_tell_candidates_apart() {
        let job = Job::read(&config(&["model.layers=4".to_owned()]), None).unwrap();
        let all = enumerate(&job, &machine(4, 1e10), 4, usize::MAX).unwrap();
        let seen: BTreeSet<Vec<u64>> = all
            .tried
            .iter()
            .map(|c| c.features().iter().map(|x| x.to_bits()).collect())
            .collect();
        assert_eq!(seen.len(), all.tried.len());
    }
}
