//! What a pipeline is: a name, a configuration, and how to check, plan and run it.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use advect_engine::Fabric;
use advect_engine::observe::Options;

use crate::config::Config;
use crate::error::{PipelineError, Result};
use crate::plan::Plan;
use crate::progress::Progress;

/// One job of the `advect` command.
///
/// The text of [`default_config`](Pipeline::default_config) is the reference of its configuration:
/// every key stands there with its default and a comment, and a key that stands neither there nor
/// in a preset is an error.
pub trait Pipeline: Sync {
    /// The name on the command line, in kebab-case.
    fn name(&self) -> &'static str;

    /// What it does, in one line.
    fn about(&self) -> &'static str;

    /// The documented default configuration, TOML.
    fn default_config(&self) -> &'static str;

    /// Named layers between the default and the user's file; [`preset_key`](Self::preset_key)
    /// picks one.
    fn presets(&self) -> &'static [Preset] {
        &[]
    }

    /// The top-level key whose value names the preset.
    fn preset_key(&self) -> &'static str {
        "data"
    }

    /// Tables that hold one of several alternatives, such as `model` with `model.lorenz96` or
    /// `model.lorenz63`: a layer that gives one of them takes the others away. A segment `*`
    /// stands for any key.
    fn choices(&self) -> &'static [Choice] {
        &[]
    }

    /// Whether a run makes snapshots, so that `--resume` has something to go on from.
    fn resumes(&self) -> bool {
        false
    }

    /// Reads the configuration and the inputs and runs nothing; returns what was found, a line
    /// each.
    ///
    /// # Errors
    /// If the configuration is out of range or an input is missing or damaged.
    fn check(&self, config: &Config) -> Result<Vec<String>>;

    /// The graph before it runs on `fabric`: operators, bytes an edge, memory a worker.
    ///
    /// # Errors
    /// If the configuration is out of range or an input is missing or damaged.
    fn plan(&self, config: &Config, fabric: &Fabric) -> Result<Plan>;

    /// Runs to the end, or until [`Run::stop`] is set: then everything is sealed and saved and the
    /// result is `Ok`.
    ///
    /// # Errors
    /// Whatever ends the run early.
    fn run(&self, run: &Run) -> Result<()>;
}

/// A named layer of configuration between the default and the user's file.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The value of the preset key that picks it.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// The layer, TOML.
    pub text: &'static str,
}

/// A dotted path of a table that holds one of several alternatives.
pub type Choice = &'static str;

/// Everything a run is given.
#[derive(Debug, Clone)]
pub struct Run {
    /// The configuration, all layers merged.
    pub config: Config,
    /// Who the workers are.
    pub fabric: Fabric,
    /// Where results go; exists when the run starts.
    pub out: PathBuf,
    /// Start from the last snapshot in [`out`](Self::out).
    pub resume: bool,
    /// Write a trace of the run to this file, as Chrome trace JSON.
    pub trace: Option<PathBuf>,
    /// Serve metrics at this address.
    pub metrics: Option<String>,
    /// No progress and no tables.
    pub quiet: bool,
    /// Set when the run is to end early and in order.
    pub stop: Stop,
}

impl Run {
    /// A progress line over `total` steps: a bar on a terminal, plain lines elsewhere, nothing if
    /// quiet or on any process but the first.
    pub fn progress(&self, what: &str, total: u64) -> Progress {
        Progress::new(what, total, self.quiet || !self.is_first_process())
    }

    /// Whether this process is the one that prints and writes results.
    pub fn is_first_process(&self) -> bool {
        self.fabric.process() == 0
    }

    /// Prints a line of the result to standard output, on the first process and unless quiet.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.quiet && self.is_first_process() {
            crate::cli::print_line(line.as_ref());
        }
    }

    /// What to observe of the run (metrics and trace as asked for), and what its processes must have
    /// in common.
    pub fn observe(&self) -> Options {
        self.observe_from("")
    }

    /// [`Run::observe`] of processes that must also agree on where they begin.
    pub(crate) fn observe_from(&self, start: &str) -> Options {
        let words = [
            env!("CARGO_PKG_VERSION"),
            &self.config.to_toml(),
            &self.resume.to_string(),
            start,
        ];
        let digest = crc32fast::hash(words.join("\n").as_bytes());
        let mut options = Options::default().job(digest.into());
        if let Some(address) = &self.metrics {
            options = options.metrics(address.clone());
        }
        if let Some(path) = &self.trace {
            options = options.trace(path);
        }
        options
    }

    /// The path of a result below [`out`](Self::out).
    pub fn result(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// Writes the settings, with which the same run can be made again, on the first process. A pipeline
    /// calls it when it has accepted them: what lay there before is that of the run before.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn keep_settings(&self) -> Result<()> {
        if !self.is_first_process() {
            return Ok(());
        }
        let path = self.result("config.toml");
        let mend = "choose another directory with --out";
        std::fs::write(&path, self.config.to_toml())
            .map_err(PipelineError::file("write", &path, mend))
    }

    /// Creates [`out`](Self::out) and, on the first process, keeps other runs out of it for as long as
    /// the returned claim lives; the system gives it up if the process is killed.
    ///
    /// # Errors
    /// If the system refuses, or another run writes there.
    pub fn claim_out(&self) -> Result<Option<File>> {
        claim(&self.out, self.is_first_process())
    }
}

/// Creates `out` and, on the first process, keeps other runs out of it for as long as the returned claim
/// lives.
///
/// # Errors
/// If the system refuses, or another run writes there.
pub(crate) fn claim(out: &Path, first: bool) -> Result<Option<File>> {
    const MEND: &str = "choose another directory with --out";
    std::fs::create_dir_all(out).map_err(PipelineError::file("create", out, MEND))?;
    if !first {
        return Ok(None);
    }
    let path = out.join(".lock");
    let claim = File::create(&path).map_err(PipelineError::file("create", &path, MEND))?;
    match claim.try_lock() {
        Ok(()) => Ok(Some(claim)),
        Err(TryLockError::WouldBlock) => Err(PipelineError::Usage {
            what: out.display().to_string(),
            why: "another run writes its results there".to_owned(),
            mend: format!("wait for its end or {MEND}"),
        }),
        // a file system without locks: nothing to ask
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => Ok(None),
        Err(TryLockError::Error(e)) => Err(PipelineError::file("lock", &path, MEND)(e)),
    }
}

/// A flag that asks a run to end early and in order; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether the run is to end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks the run to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The flag itself, for a signal handler.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}
