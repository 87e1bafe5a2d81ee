//! A session: trials side by side, each kept when it ends, until there is nothing to gain.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::candidates::{Candidate, Candidates};
use super::journal::{Journal, Record, keep};
use super::search::{End, LEAST, Next, Outcome, Point, Search};
use super::trial::{Common, Trial, Verdict};
use crate::config::Config;
use crate::error::{PipelineError, Result};
use crate::pipeline::{Stop, claim};
use crate::planner::Job;

/// How often trials are looked at.
const LOOK: Duration = Duration::from_millis(10);
const MEND: &str = "choose another directory with --out";

/// What is asked of a session.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where everything goes.
    pub out: PathBuf,
    /// The machine that is planned for, as it was named.
    pub machine: String,
    /// Cores, each a worker or a thread of one.
    pub workers: usize,
    /// Trials at most, those of before included.
    pub trials: usize,
    /// How long this session may take.
    pub time_limit: Option<Duration>,
    /// How long a trial may take.
    pub trial_limit: Duration,
    /// Steps of training of a trial.
    pub steps: usize,
    /// Trials in flight.
    pub parallel: usize,
    /// Candidates at most.
    pub candidates: usize,
    /// Go on with what is in `out`.
    pub resume: bool,
    /// Of the trials that are drawn.
    pub seed: u64,
}

impl Ask {
    /// What must be the same when a search is resumed, as TOML.
    pub fn to_toml(&self, pipeline: &str, config: &Config) -> String {
        format!(
            "# What `advect tune` was asked; --resume must ask the same.\nadvect = {:?}\npipeline = {pipeline:?}\n\
             machine = {:?}\nworkers = {}\nsteps = {}\ncandidates = {}\nseed = {}\n\n[configuration]\n{}",
            env!("CARGO_PKG_VERSION"),
            self.machine,
            self.workers,
            self.steps,
            self.candidates,
            self.seed,
            config.to_toml()
        )
    }

    /// Steps at the beginning of a trial that are not measured: buffers and caches fill.
    fn warm_up(&self) -> usize {
        self.steps.div_ceil(3)
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ended {
    /// As many trials as were asked for.
    Trials,
    /// The time is over.
    Time,
    /// Every candidate was tried.
    All,
    /// No other is expected to save more than this part of a step.
    Gain(f64),
    /// A signal.
    Stopped,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Trials => f.write_str("as many trials as were asked for"),
            Ended::Time => f.write_str("the time is over"),
            Ended::All => f.write_str("every candidate was tried"),
            Ended::Gain(gain) => write!(
                f,
                "no other is expected to save more than {:.2} % of a step, and {:.1} % are worth a trial",
                100.0 * gain,
                100.0 * LEAST
            ),
            Ended::Stopped => f.write_str("stopped by a signal"),
        }
    }
}

/// A search in a directory.
#[derive(Debug)]
pub struct Session<'a> {
    ask: &'a Ask,
    candidates: &'a [Candidate],
    common: Common,
    journal: Journal,
    search: Search,
    /// Trials that ended, in the order in which they did.
    pub records: Vec<Record>,
    /// Bytes of a line of before that was cut.
    pub torn: usize,
}

impl<'a> Session<'a> {
    /// Begins, or goes on, with `candidates` of a run with `config`, which the planner reads as `job`.
    ///
    /// # Errors
    /// As [`Journal::open`], or if a trial of before is of no candidate.
    pub fn open(
        ask: &'a Ask,
        pipeline: &str,
        config: &Config,
        job: &Job,
        candidates: &'a Candidates,
    ) -> Result<Self> {
        let asked = ask.to_toml(pipeline, config);
        let (journal, earlier) = Journal::open(&ask.out, &asked, ask.resume)?;
        let base = ask.out.join("base.toml");
        keep(&base, &config.to_toml())?;
        let program = std::env::current_exe().map_err(PipelineError::file(
            "find",
            Path::new("advect"),
            "start it by its path",
        ))?;
        let candidates = candidates.tried.as_slice();
        let points = candidates.iter().map(|c| Point {
            features: c.features(),
            predicted: c.predicted,
        });
        let mut search = Search::new(points.collect(), ask.seed);
        for record in &earlier.records {
            let place = candidates
                .iter()
                .position(|c| c.threads == record.threads && c.arguments() == record.set);
            let Some(place) = place else {
                let of = &record.configuration;
                return Err(PipelineError::Usage {
                    what: format!("{}, trial {}", ask.out.display(), record.trial),
                    why: format!("{of} is not among the candidates"),
                    mend:
                        "plan with the machine.toml that it was begun with, or choose another --out"
                            .to_owned(),
                });
            };
            search.tell(place, told(&record.outcome));
        }
        Ok(Session {
            ask,
            candidates,
            common: Common {
                program,
                pipeline: pipeline.to_owned(),
                config: base,
                short: short(job.gpt.sequence, ask.steps),
                steps: ask.steps,
                warm_up: ask.warm_up(),
                limit: ask.trial_limit,
                directory: ask.out.join("trials"),
            },
            journal,
            search,
            records: earlier.records,
            torn: earlier.torn,
        })
    }

    /// Tries candidates until there is nothing to gain; `heard` is told of every trial that ended. Trials in
    /// flight when time is over or `stop` is set are ended and not kept.
    ///
    /// # Errors
    /// If the system refuses. A trial that fails is no error.
    pub fn run(&mut self, stop: &Stop, mut heard: impl FnMut(&Record, &[Record])) -> Result<Ended> {
        let begun = Instant::now();
        let mut flying: Vec<Trial> = Vec::new();
        let mut number = self.last_number()?;
        loop {
            let (mut ended, mut place) = (Vec::new(), 0);
            while let Some(trial) = flying.get_mut(place) {
                match trial.poll(&self.common)? {
                    Some(outcome) => ended.push((flying.remove(place), outcome)),
                    None => place += 1,
                }
            }
            for (trial, outcome) in ended {
                let candidate = &self.candidates[trial.candidate];
                let record = Record {
                    trial: trial.number,
                    configuration: candidate.to_string(),
                    workers: candidate.workers(),
                    threads: candidate.threads,
                    set: candidate.arguments(),
                    predicted: candidate.predicted,
                    seconds: trial.elapsed().as_secs_f64(),
                    outcome,
                };
                self.journal.append(&record)?;
                self.search.tell(trial.candidate, told(&record.outcome));
                self.records.push(record.clone());
                heard(&record, &self.records);
            }
            if stop.is_set() {
                return Ok(Ended::Stopped);
            }
            if self
                .ask
                .time_limit
                .is_some_and(|limit| begun.elapsed() >= limit)
            {
                return Ok(Ended::Time);
            }
            while flying.len() < self.ask.parallel {
                if self.records.len() + flying.len() >= self.ask.trials {
                    match flying.is_empty() {
                        true => return Ok(Ended::Trials),
                        false => break,
                    }
                }
                match self.search.ask() {
                    Next::Try(place, _) => {
                        number += 1;
                        let candidate = &self.candidates[place];
                        flying.push(Trial::start(&self.common, number, place, candidate)?);
                    }
                    Next::Wait => break,
                    Next::End(End::All) => return Ok(Ended::All),
                    Next::End(End::Gain(gain)) => return Ok(Ended::Gain(gain)),
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The highest number of a trial that was ever started here, ended or not.
    fn last_number(&self) -> Result<usize> {
        let directory = &self.common.directory;
        std::fs::create_dir_all(directory)
            .map_err(PipelineError::file("create", directory, MEND))?;
        let all = std::fs::read_dir(directory);
        let all = all.map_err(PipelineError::file("read", directory, MEND))?;
        let mut named: Vec<usize> = Vec::new();
        for entry in all.flatten() {
            // a trial of a search that was killed may still run, and would be measured with the next
            drop(claim_trial(&entry.path())?);
            named.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<usize>().ok()),
            );
        }
        let kept = self
            .records
            .iter()
            .map(|r| r.trial)
            .filter(|n| *n < usize::MAX);
        Ok(named.into_iter().chain(kept).max().unwrap_or(0))
    }
}

/// The claim of a trial's directory.
fn claim_trial(directory: &Path) -> Result<Option<File>> {
    if !directory.join(".lock").is_file() {
        return Ok(None);
    }
    claim(directory, true).map_err(|e| match e {
        PipelineError::Usage { what, .. } => PipelineError::Usage {
            what,
            why: "a trial of a search that was killed still runs there".to_owned(),
            mend: "wait for its end, or end it, and go on with --resume".to_owned(),
        },
        other => other,
    })
}

fn told(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Measured(measured) => Outcome::Took(measured.step),
        Verdict::Failed { .. } => Outcome::Failed,
    }
}

/// Settings of a run of `steps` steps that does nothing else: of validation and test there is the least,
/// nothing is written or read on the way.
fn short(context: usize, steps: usize) -> Vec<String> {
    let least = context.saturating_add(1);
    let mut set = vec![
        format!("training.steps={steps}"),
        format!("validation.every={steps}"),
        "validation.samples=1".to_owned(),
        format!("text.validate={least}"),
        format!("text.test={least}"),
        "sample.tokens=0".to_owned(),
        "checkpoint.every=0".to_owned(),
    ];
    set.extend(["checkpoint.from", "model.weights"].map(|key| format!("{key}=\"\"")));
    set
}
