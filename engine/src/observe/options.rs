//! What of a run is observed, and how.

use std::path::{Path, PathBuf};
use std::time::Duration;

use timely::order::Product;
use timely::progress::Timestamp;
use timely::worker::Worker;

use super::board::Board;
use crate::time::{Cycle, Tick};

/// Subscribes to the progress of one type of timestamp.
pub(crate) type Subscribe = std::sync::Arc<dyn Fn(&Worker, &std::sync::Arc<Board>) + Send + Sync>;

/// What of a run is observed: by default its operators, so that failures have names, and a
/// watchdog; on request metrics and a trace.
///
/// ```
/// use std::time::Duration;
/// use advect_engine::observe::Options;
/// let options = Options::default()
///     .metrics("127.0.0.1:9464")
///     .trace("out/trace.json")
///     .silence(Duration::from_secs(30));
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) job: u64,
    pub(crate) events: bool,
    /// Wire only: the first `drive` ends the pipeline.
    pub(crate) dry: bool,
    pub(crate) metrics: Option<String>,
    pub(crate) trace: Option<PathBuf>,
    pub(crate) trace_bytes: u64,
    pub(crate) silence: Option<Duration>,
    pub(crate) give_up: Option<Duration>,
    pub(crate) times: Vec<Subscribe>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            events: true,
            silence: Some(Duration::from_secs(10)),
            ..Options::bare()
        }
        .time::<Tick>(|t| t.step)
        .time::<Cycle>(|t| t.valid)
        .time::<u64>(|t| *t)
        .time::<u32>(|t| u64::from(*t))
        .time::<usize>(|t| *t as u64)
        .time::<()>(|()| 0)
        .time::<Product<Tick, u64>>(|t| t.outer.step)
        .time::<Product<Cycle, u64>>(|t| t.outer.valid)
        .time::<Product<u64, u64>>(|t| t.outer)
    }
}

impl Options {
    /// Nothing: for measuring the engine alone. Failures then name the worker but no operator.
    pub fn bare() -> Self {
        Options {
            job: 0,
            events: false,
            dry: false,
            metrics: None,
            trace: None,
            trace_bytes: 256 << 20,
            silence: None,
            give_up: None,
            times: Vec::new(),
        }
    }

    /// What capturing a plan takes.
    pub(crate) fn wiring() -> Self {
        Options {
            events: true,
            dry: true,
            ..Options::bare()
        }
    }

    /// What all processes of the job must have in common, such as a checksum of its configuration: a
    /// process that has another ends the job at the start, and both say so.
    pub fn job(mut self, digest: u64) -> Self {
        self.job = digest;
        self
    }

    /// Answers `GET /metrics` and `GET /health` on `address` (`host:port`) while the run lasts.
    ///
    /// Process `p` of a job listens on the port plus `p`; port 0 takes a free one
    /// ([`Context::metrics`](crate::fabric::Context::metrics) tells which).
    pub fn metrics(mut self, address: impl Into<String>) -> Self {
        self.metrics = Some(address.into());
        self.events = true;
        self
    }

    /// Writes a trace of every operator activation to `path`, in the Chrome JSON format that
    /// Perfetto opens.
    ///
    /// In a job of several processes, process `p` writes `name.p.ext` beside it.
    pub fn trace(mut self, path: impl AsRef<Path>) -> Self {
        self.trace = Some(path.as_ref().to_owned());
        self.events = true;
        self
    }

    /// Bytes after which the trace records nothing more (256 MiB); what is left out is counted.
    pub fn trace_limit(mut self, bytes: u64) -> Self {
        self.trace_bytes = bytes;
        self
    }

    /// Warns with the names of those that hold the job up, once nothing has moved for this long
    /// (10 s), and again after twice, four times … that.
    pub fn silence(mut self, after: Duration) -> Self {
        self.silence = Some(after);
        self.events = true;
        self
    }

    /// Ends the job with that warning as its error, once nothing has moved for this long (never).
    pub fn give_up(mut self, after: Duration) -> Self {
        self.give_up = Some(after);
        self.silence = Some(self.silence.map_or(after, |s| s.min(after)));
        self.events = true;
        self
    }

    /// No watchdog.
    pub fn patient(mut self) -> Self {
        self.silence = None;
        self.give_up = None;
        self
    }

    /// Follows dataflows with timestamps of type `T`; `number` counts along the main coordinate,
    /// for lag. Known from the start: [`Tick`], [`Cycle`], `u64`, `u32`, `usize`, `()`, and the
    /// products of the 64-bit ones with a round of iteration.
    pub fn time<T: Timestamp>(mut self, number: fn(&T) -> u64) -> Self {
        self.times.push(std::sync::Arc::new(move |worker, board| {
            board.follow::<T>(worker, number);
        }));
        self
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("events", &self.events)
            .field("metrics", &self.metrics)
            .field("trace", &self.trace)
            .field("trace_bytes", &self.trace_bytes)
            .field("silence", &self.silence)
            .field("give_up", &self.give_up)
            .field("times", &self.times.len())
            .finish()
    }
}
