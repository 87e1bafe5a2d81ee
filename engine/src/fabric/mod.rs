//! Fabrics: who the workers are and what connects them.
//!
//! A pipeline is a function of one worker. [`Fabric::run`] starts it on every worker of this
//! process, connected to those of all others, and returns what each gave back. Pipelines do not
//! know which fabric they run on, and give the same numbers on each.
//!
//! A worker that fails ends the job: the others notice within [`NOTICE`] and the error names the
//! first that failed, whichever process it was in.

mod alarm;
pub(crate) mod bulk;
mod connect;
mod tcp;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use timely::WorkerConfig;

use timely::communication::allocator::thread::ThreadBuilder;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::worker::Worker;

pub use alarm::Alarm;

use crate::error::{EngineError, Result};

/// How long a failed worker can go unnoticed by the others of its process.
pub const NOTICE: Duration = Duration::from_millis(100);

/// Who the workers are and what connects them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fabric {
    /// This many workers in this process; messages move as pointers.
    Threads(usize),
    /// Several processes, connected by sockets.
    Tcp {
        /// Workers in each process.
        threads: usize,
        /// Which of the processes this is, from 0.
        process: usize,
        /// `host:port` of every process, in order; each listens on its own.
        hosts: Vec<String>,
    },
}

/// What a worker knows of the job it is part of.
#[derive(Debug, Clone)]
pub struct Context {
    /// Index of this worker among all.
    pub index: usize,
    /// Number of workers of the job.
    pub peers: usize,
    /// Index of the process of this worker.
    pub process: usize,
    alarm: Arc<Alarm>,
}

impl Context {
    /// Steps the worker while `more` says so.
    ///
    /// # Panics
    /// If another worker or process of the job has failed; [`Fabric::run`] turns that into an error.
    pub fn drive(&self, worker: &mut Worker, mut more: impl FnMut() -> bool) {
        while more() {
            self.alarm.check();
            worker.step_or_park(Some(NOTICE));
        }
    }

    /// The alarm of the job, for threads beside the workers.
    pub fn alarm(&self) -> &Arc<Alarm> {
        &self.alarm
    }
}

impl Fabric {
    /// Workers of the whole job.
    pub fn workers(&self) -> usize {
        match self {
            Fabric::Threads(n) => *n,
            Fabric::Tcp { threads, hosts, .. } => threads * hosts.len(),
        }
    }

    /// Index of this process.
    pub fn process(&self) -> usize {
        match self {
            Fabric::Threads(_) => 0,
            Fabric::Tcp { process, .. } => *process,
        }
    }

    /// Runs `pipeline` on every worker of this process until all its dataflows are done, and
    /// returns the results of this process's workers in order.
    ///
    /// # Errors
    /// If the workers cannot be connected, or any worker of any process fails.
    pub fn run<R, P>(&self, pipeline: P) -> Result<Vec<R>>
    where
        R: Send + 'static,
        P: Fn(&mut Worker, &Context) -> R + Send + Sync + 'static,
    {
        let alarm = Arc::new(Alarm::default());
        let Parts {
            builders,
            guard,
            seat,
            first,
        } = self.parts(&alarm)?;
        let (process, peers) = (self.process(), self.workers());
        let shared = Arc::clone(&alarm);
        let config = WorkerConfig::default();
        let body = move |worker: &mut Worker| {
            bulk::open(Some(seat.clone()));
            let index = worker.index();
            let context = Context {
                index,
                peers,
                process,
                alarm: Arc::clone(&shared),
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let result = pipeline(worker, &context);
                // timely would park for ever beside a failed worker: drive to the end here
                while worker.has_dataflows() {
                    shared.check();
                    worker.step_or_park(Some(NOTICE));
                }
                result
            }));
            if let Err(panic) = &outcome {
                shared.raise(format!(
                    "worker {index}: {}",
                    alarm::message(panic.as_ref())
                ));
            }
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let guards =
            timely::execute::execute_from(builders, guard, config, body).map_err(|why| {
                EngineError::Connect {
                    fabric: self.to_string(),
                    why,
                }
            })?;
        // the communication threads of timely panic when a peer is lost: caught here as well
        let joined = catch_unwind(AssertUnwindSafe(|| guards.join()));
        if let Some(why) = alarm.raised() {
            return Err(EngineError::Worker { worker: first, why });
        }
        let results = joined.map_err(|p| EngineError::Worker {
            worker: first,
            why: alarm::message(p.as_ref()),
        })?;
        let numbered = results.into_iter().enumerate();
        numbered
            .map(|(i, r)| {
                r.map_err(|why| EngineError::Worker {
                    worker: first + i,
                    why,
                })
            })
            .collect()
    }

    fn parts(&self, alarm: &Arc<Alarm>) -> Result<Parts> {
        match self {
            Fabric::Threads(0) => Err(EngineError::Connect {
                fabric: self.to_string(),
                why: "there is no worker; ask for at least one".to_owned(),
            }),
            Fabric::Threads(1) => Ok(Parts {
                builders: vec![AllocatorBuilder::Thread(ThreadBuilder)],
                guard: Box::new(()),
                seat: bulk::Seat::default(),
                first: 0,
            }),
            Fabric::Threads(n) => {
                let hooks = timely::communication::Hooks::default();
                let builders = ProcessBuilder::new_typed_vector(*n, hooks.refill, hooks.spill);
                let builders = builders
                    .into_iter()
                    .map(AllocatorBuilder::Process)
                    .collect();
                Ok(Parts {
                    builders,
                    guard: Box::new(()),
                    seat: bulk::Seat::default(),
                    first: 0,
                })
            }
            Fabric::Tcp {
                threads,
                process,
                hosts,
            } => {
                let sockets = connect::connect(hosts, *process)?;
                tcp::assemble(*threads, *process, hosts, sockets, alarm)
            }
        }
    }
}

impl std::fmt::Display for Fabric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fabric::Threads(n) => write!(f, "{n} threads"),
            Fabric::Tcp { threads, hosts, .. } => {
                write!(f, "TCP: {} processes of {threads} threads", hosts.len())
            }
        }
    }
}

/// What timely needs to start the workers of this process.
pub(crate) struct Parts {
    pub(crate) builders: Vec<AllocatorBuilder>,
    pub(crate) guard: Box<dyn std::any::Any + Send>,
    /// What every worker thread is given to encode, decode and place tensors.
    pub(crate) seat: bulk::Seat,
    /// Index of the first worker of this process.
    pub(crate) first: usize,
}
