//! A trial: a short run of this program as a child process, with a limit of time.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::candidates::Candidate;
use super::metrics::{self, Measured};
use crate::error::{PipelineError, Result};

const MEND: &str = "choose another directory with --out";
/// Letters of what a run said last that are kept.
const LONGEST: usize = 300;

/// What all trials have in common.
#[derive(Debug, Clone)]
pub struct Common {
    /// This program.
    pub program: PathBuf,
    /// The pipeline.
    pub pipeline: String,
    /// The configuration that the settings of a candidate are laid over.
    pub config: PathBuf,
    /// Settings of every trial, which make it short.
    pub short: Vec<String>,
    /// Steps of training, and how many of them do not count.
    pub steps: usize,
    /// Steps at the beginning that are not measured.
    pub warm_up: usize,
    /// Seconds that a trial may take.
    pub limit: Duration,
    /// The directory below which every trial has its own.
    pub directory: PathBuf,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Verdict {
    /// It reached its end.
    Measured(Measured),
    /// It did not.
    Failed {
        /// Why.
        why: String,
    },
}

/// A run that was started, and is ended when this is dropped.
#[derive(Debug)]
pub struct Trial {
    /// Its number, from 1.
    pub number: usize,
    /// Which candidate it tries.
    pub candidate: usize,
    child: Child,
    begun: Instant,
    directory: PathBuf,
    memory: Option<u64>,
}

impl Trial {
    /// Starts a short run of `candidate`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn start(
        common: &Common,
        number: usize,
        place: usize,
        candidate: &Candidate,
    ) -> Result<Self> {
        let directory = common.directory.join(format!("{number:04}"));
        std::fs::create_dir_all(&directory)
            .map_err(PipelineError::file("create", &directory, MEND))?;
        let said = directory.join("stderr.txt");
        let errors = File::create(&said).map_err(PipelineError::file("create", &said, MEND))?;
        let mut command = Command::new(&common.program);
        command.args(["run", &common.pipeline, "--quiet", "--fabric", "threads"]);
        command.arg("--config").arg(&common.config);
        command.arg("--out").arg(&directory);
        command.args(["--workers", &candidate.workers().to_string()]);
        command.args(["--operator-threads", &candidate.threads.to_string()]);
        for set in common.short.iter().chain(&candidate.arguments()) {
            command.args(["--set", set]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            // a signal from the terminal is for the search, which ends its trials itself
            .process_group(0);
        let mend = "see that this program may start itself";
        let child = command
            .spawn()
            .map_err(PipelineError::file("start", &common.program, mend))?;
        Ok(Trial {
            number,
            candidate: place,
            child,
            begun: Instant::now(),
            directory,
            memory: None,
        })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn poll(&mut self, common: &Common) -> Result<Option<Verdict>> {
        self.memory = self.memory.max(peak(self.child.id()));
        let mend = "go on with --resume";
        let asked = PipelineError::file("wait for the trial in", &self.directory, mend);
        let Some(status) = self.child.try_wait().map_err(asked)? else {
            if self.begun.elapsed() < common.limit {
                return Ok(None);
            }
            self.end();
            let why = format!("stopped after {:.0?}, the limit of a trial", common.limit);
            return Ok(Some(Verdict::Failed { why }));
        };
        let verdict = match self.measured(common, status) {
            Ok(measured) => Verdict::Measured(measured),
            Err(why) => Verdict::Failed { why },
        };
        // what it learned is of no use, and may be large
        let _ = std::fs::remove_dir_all(self.directory.join("model"));
        Ok(Some(verdict))
    }

    /// Since when it runs.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    fn measured(&self, common: &Common, status: ExitStatus) -> Result<Measured, String> {
        if !status.success() {
            let said = std::fs::read(self.directory.join("stderr.txt")).unwrap_or_default();
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(9)) => "killed (signal 9), as the system does when memory ends".into(),
                (None, signal) => format!("signal {}", signal.unwrap_or(0)),
            };
            return Err(match last_words(&String::from_utf8_lossy(&said)) {
                Some(words) => format!("{how}: {words}"),
                None => how,
            });
        }
        let path = self.directory.join("metrics.jsonl");
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let measured = metrics::read(&text, common.steps, common.warm_up)?;
        Ok(Measured {
            memory: self.memory,
            ..measured
        })
    }

    /// Ends it at once.
    fn end(&mut self) {
        // one that has ended by itself meanwhile cannot be killed, and is waited for all the same
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.end();
    }
}

/// The error that a run ended with, else its last line.
fn last_words(said: &str) -> Option<String> {
    let lines = || said.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let error = lines().find_map(|line| line.strip_prefix("error: "));
    let line = error.or_else(|| lines().next())?;
    Some(line.chars().take(LONGEST).collect())
}

/// Bytes that a process had in memory at its peak, while it lives and the system says so.
fn peak(process: u32) -> Option<u64> {
    let status = Path::new("/proc").join(process.to_string()).join("status");
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::recipes::recipe_22b;

    /// The error counts, wherever it stands; else the last line; nothing if nothing was said.
    #[test]
    fn last_words_are_the_error() {
        let said = "language: 1/6\nerror: layout.mesh: too large\nnote: x\n\n";
        assert_eq!(last_words(said).as_deref(), Some("layout.mesh: too large"));
        assert_eq!(last_words("a\n b \n\n").as_deref(), Some("b"));
        assert_eq!(last_words("\n"), None);
        assert_eq!(
            last_words(&"x".repeat(9999)).map(|w| w.len()),
            Some(LONGEST)
        );
    }

    /// A program that cannot run the trial is a failure with its exit code and its last words, and one that
    /// takes too long with the limit; neither is an error of the search.
    #[test]
    fn failures_have_reasons() {
        let here = tempfile::tempdir().unwrap();
        let mut common = Common {
            // it knows no such arguments
            program: "ls".into(),
            pipeline: "language".to_owned(),
            config: here.path().join("base.toml"),
            short: Vec::new(),
            steps: 3,
            warm_up: 1,
            limit: Duration::from_secs(60),
            directory: here.path().join("trials"),
        };
        let run = recipe_22b();
        let candidate = Candidate {
            run,
            threads: 1,
            predicted: 1.0,
            settings: Vec::new(),
        };
        let end = |common: &Common, number| {
            let mut trial = Trial::start(common, number, 0, &candidate).unwrap();
            loop {
                if let Some(Verdict::Failed { why }) = trial.poll(common).unwrap() {
                    return why;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let why = end(&common, 1);
        assert!(why.starts_with("exit code ") && why.contains("ls"), "{why}");
        // it writes forever
        (common.program, common.limit) = ("yes".into(), Duration::from_millis(20));
        common.pipeline = "--".to_owned();
        let why = end(&common, 2);
        assert_eq!(why, "stopped after 20ms, the limit of a trial");
        common.program = here.path().join("none");
        let error = Trial::start(&common, 3, 0, &candidate)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot start") && error.contains("none"),
            "{error}"
        );
    }
}
