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
mod choose;
mod connect;
mod link;
#[cfg(feature = "mpi")]
mod mpi;
pub mod sim;
mod tcp;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use timely::WorkerConfig;

use timely::communication::allocator::thread::ThreadBuilder;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::worker::Worker;

pub use alarm::Alarm;
pub use choose::under_mpi;
#[cfg(feature = "mpi")]
pub use mpi::Job;
pub use sim::Faults;

use crate::error::{EngineError, Result};
use crate::observe::{Options, Place, Session};
use crate::threads::Counted;

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
    /// This many workers in this process, one at a time in an order that the seed decides, over a
    /// simulated network: a run that fails fails again with the same seed.
    Sim {
        /// Number of workers; each is as a process of its own.
        workers: usize,
        /// Decides the order of the workers and the delay of every message.
        seed: u64,
        /// What goes wrong, and when.
        faults: Faults,
    },
    /// The ranks of an MPI job, each a process.
    #[cfg(feature = "mpi")]
    Mpi {
        /// Workers in each rank.
        threads: usize,
        /// The ranks.
        job: Job,
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
    metrics: Option<SocketAddr>,
    net: Option<Arc<sim::Net>>,
    dry: bool,
}

/// What ends a pipeline that is only to be wired.
pub(crate) struct Captured;

impl Context {
    /// Steps the worker while `more` says so.
    ///
    /// # Panics
    /// If another worker or process of the job has failed; [`Fabric::run`] turns that into an error.
    pub fn drive(&self, worker: &mut Worker, mut more: impl FnMut() -> bool) {
        if self.dry {
            std::panic::resume_unwind(Box::new(Captured));
        }
        while more() {
            self.alarm.check();
            worker.step_or_park(Some(NOTICE));
        }
    }

    /// Where this process answers for its metrics, if it was asked to.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// What has happened on the simulated network until now; `None` on a real one.
    pub fn simulated(&self) -> Option<sim::Trace> {
        self.net.as_ref().map(|net| net.trace())
    }

    /// Whether the pipeline is only to be wired, and touches nothing outside.
    pub(crate) fn is_dry(&self) -> bool {
        self.dry
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
            Fabric::Sim { workers, .. } => *workers,
            #[cfg(feature = "mpi")]
            Fabric::Mpi { threads, job } => threads * job.size(),
        }
    }

    /// Index of this process.
    pub fn process(&self) -> usize {
        match self {
            Fabric::Threads(_) | Fabric::Sim { .. } => 0,
            Fabric::Tcp { process, .. } => *process,
            #[cfg(feature = "mpi")]
            Fabric::Mpi { job, .. } => job.rank(),
        }
    }

    /// Indices of the workers of this process.
    pub fn local(&self) -> std::ops::Range<usize> {
        let here = match self {
            Fabric::Threads(n) | Fabric::Sim { workers: n, .. } => *n,
            Fabric::Tcp { threads, .. } => *threads,
            #[cfg(feature = "mpi")]
            Fabric::Mpi { threads, .. } => *threads,
        };
        let first = self.process() * here;
        first..first + here
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
        self.run_with(&Options::default(), pipeline)
    }

    /// The same, observed as `options` say.
    ///
    /// # Errors
    /// If the workers cannot be connected, any worker of any process fails, or what was asked for
    /// cannot be observed (the address is taken, the file cannot be written).
    pub fn run_with<R, P>(&self, options: &Options, pipeline: P) -> Result<Vec<R>>
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
            net,
        } = self.parts(options.job, &alarm)?;
        let (process, peers) = (self.process(), self.workers());
        let _counted = Counted::new(self.processes_here() * builders.len());
        let place = Place {
            fabric: self.to_string(),
            process,
            hosts: self.hosts(),
            first,
            local: builders.len(),
            peers,
        };
        let session = Session::start(options, place, &alarm)?;
        let board = session.board();
        let shared = Arc::clone(&alarm);
        let config = match net {
            // how often an idle worker looks for messages must not depend on the clock
            Some(_) => WorkerConfig::default().idle_spin(Duration::ZERO),
            None => WorkerConfig::default(),
        };
        let body = move |worker: &mut Worker| {
            bulk::open(Some(seat.clone()));
            let index = worker.index();
            // on a simulated network each worker learns of a failure in its own time
            let own = net.as_ref().map(|net| net.join(index));
            let own = own.unwrap_or_else(|| Arc::clone(&shared));
            let observed = board.attach(worker);
            let context = Context {
                index,
                peers,
                process: if net.is_some() { index } else { process },
                alarm: Arc::clone(&own),
                metrics: board.address,
                net: net.clone(),
                dry: board.options.dry,
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let result = pipeline(worker, &context);
                // timely would park for ever beside a failed worker: drive to the end here
                while worker.has_dataflows() {
                    own.check();
                    worker.step_or_park(Some(NOTICE));
                }
                result
            }));
            if let Err(panic) = &outcome {
                let (who, why) = (board.last_words(worker), alarm::message(panic.as_ref()));
                shared.raise(format!("{who}: {why}"));
            }
            drop(observed);
            if let Some(net) = &net {
                return net.finish(worker, outcome);
            }
            outcome.map_err(|panic| {
                // peers see the loss at once; and nothing is dropped while a thread unwinds, where a
                // second panic would abort the process
                shared.cut();
                for dataflow in worker.installed_dataflows() {
                    let _ = catch_unwind(AssertUnwindSafe(|| worker.drop_dataflow(dataflow)));
                }
                alarm::message(panic.as_ref())
            })
        };
        let guards = timely::execute::execute_from(builders, guard, config, body).map_err(|why| {
            EngineError::Connect {
                fabric: self.to_string(),
                why,
            }
        });
        let guards = match guards {
            Ok(guards) => guards,
            Err(e) => {
                session.finish(Some(&e.to_string()));
                return Err(e);
            }
        };
        // timely's communication threads panic when a message is cut in half: caught here as well
        let joined = catch_unwind(AssertUnwindSafe(|| guards.join()));
        let failed = alarm.raised();
        let lost = joined.is_err().then_some("a peer was lost");
        session.finish(failed.as_deref().or(lost));
        if let Some(why) = failed {
            let worker = named(&why).unwrap_or(first);
            return Err(EngineError::Worker { worker, why });
        }
        let results = joined.map_err(|p| EngineError::Worker {
            worker: first,
            why: alarm::message(p.as_ref()),
        })?;
        let numbered = results.into_iter().enumerate();
        numbered
            .map(|(i, r)| {
                r.flatten().map_err(|why| EngineError::Worker {
                    worker: first + i,
                    why,
                })
            })
            .collect()
    }

    /// Names of the processes: `host:port`, or this machine's name.
    fn hosts(&self) -> Vec<String> {
        match self {
            Fabric::Tcp { hosts, .. } => hosts.clone(),
            Fabric::Threads(_) | Fabric::Sim { .. } => vec!["this machine".to_owned()],
            #[cfg(feature = "mpi")]
            Fabric::Mpi { job, .. } => job.hosts().to_vec(),
        }
    }

    /// Processes of the job on the machine of this one.
    fn processes_here(&self) -> usize {
        let hosts = self.hosts();
        let machine = |host: &String| host.rsplit_once(':').map_or(&**host, |(m, _)| m).to_owned();
        let own = hosts.get(self.process()).map(machine);
        let here = hosts.iter().filter(|host| Some(machine(host)) == own);
        here.count().max(1)
    }

    fn parts(&self, digest: u64, alarm: &Arc<Alarm>) -> Result<Parts> {
        match self {
            Fabric::Threads(0) | Fabric::Sim { workers: 0, .. } => Err(EngineError::Connect {
                fabric: self.to_string(),
                why: "there is no worker; ask for at least one".to_owned(),
            }),
            Fabric::Threads(1) => Ok(Parts {
                builders: vec![AllocatorBuilder::Thread(ThreadBuilder)],
                guard: Box::new(()),
                seat: bulk::Seat::default(),
                first: 0,
                net: None,
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
                    net: None,
                })
            }
            Fabric::Tcp {
                threads,
                process,
                hosts,
            } => {
                let terms = connect::Terms {
                    processes: hosts.len(),
                    threads: *threads,
                    digest,
                };
                let sockets = connect::connect(hosts, *process, terms)?;
                tcp::assemble(*threads, *process, hosts, sockets, alarm)
            }
            Fabric::Sim {
                workers,
                seed,
                faults,
            } => {
                let (builders, net) = sim::Net::assemble(*workers, *seed, faults);
                Ok(Parts {
                    builders,
                    guard: Box::new(()),
                    seat: bulk::Seat::default(),
                    first: 0,
                    net: Some(net),
                })
            }
            #[cfg(feature = "mpi")]
            Fabric::Mpi { threads, job } => job.parts(*threads, digest, alarm),
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
            Fabric::Sim { workers, seed, .. } => {
                write!(f, "{workers} workers on a simulated network, seed {seed}")
            }
            #[cfg(feature = "mpi")]
            Fabric::Mpi { threads, job } => {
                write!(f, "MPI: {} ranks of {threads} threads", job.size())
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
    /// The network, where it is simulated.
    pub(crate) net: Option<Arc<sim::Net>>,
}

/// The worker that last words begin with, if they name one.
fn named(why: &str) -> Option<usize> {
    let rest = why.strip_prefix("worker ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..digits].parse().ok()
}
