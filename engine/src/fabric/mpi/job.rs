//! MPI as this process is part of it: who the ranks are, and its end.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

use super::lane::MpiLane;
use super::raw::Comm;
use crate::error::{EngineError, Result};
use crate::fabric::bulk::Seat;
use crate::fabric::{Alarm, Parts, connect, tcp};

/// Room for the name of a host.
const NAME: usize = 256;

/// The ranks that this process was started with. MPI ends when the last clone goes, and can not be
/// started again in the same process.
#[derive(Clone)]
pub struct Job {
    shared: Arc<Shared>,
}

struct Shared {
    rank: usize,
    hosts: Vec<String>,
    payloads: Comm,
    tags: u64,
    next: AtomicU64,
    /// Of the latest run.
    alarm: Mutex<Option<Arc<Alarm>>>,
    universe: Mutex<Option<Universe>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.name(self.rank()), self.size())
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Job {}

impl Job {
    /// Starts MPI; all ranks do so together.
    ///
    /// # Errors
    /// If MPI runs already in this process, or does not allow calls from all threads.
    pub fn start() -> Result<Self> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Multiple)
            .ok_or_else(|| {
                fail("MPI was started before in this process; start it once and clone the fabric")
            })?;
        if threading != Threading::Multiple {
            return Err(fail(&format!(
                "this MPI offers {threading:?} only; use one built with MPI_THREAD_MULTIPLE"
            )));
        }
        let world = universe.world();
        let name = mpi::environment::processor_name().unwrap_or_default();
        let mut own = [0u8; NAME];
        let len = name.len().min(NAME);
        own[..len].copy_from_slice(&name.as_bytes()[..len]);
        let mut all = vec![0u8; NAME * world.size() as usize];
        world.all_gather_into(&own[..], &mut all[..]);
        let hosts = all.chunks(NAME).map(|raw| {
            let raw: Vec<u8> = raw.iter().copied().take_while(|&b| b != 0).collect();
            String::from_utf8_lossy(&raw).into_owned()
        });
        let payloads = Comm::of_the_world().map_err(|e| fail(&e))?;
        Ok(Job {
            shared: Arc::new(Shared {
                rank: world.rank() as usize,
                hosts: hosts.collect(),
                tags: payloads.largest_tag(),
                payloads,
                next: AtomicU64::new(0),
                alarm: Mutex::new(None),
                universe: Mutex::new(Some(universe)),
            }),
        })
    }

    /// Index of this process among the ranks.
    pub fn rank(&self) -> usize {
        self.shared.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.shared.hosts.len()
    }

    /// A rank with its host, for messages.
    pub fn name(&self, rank: usize) -> String {
        let host = self.shared.hosts.get(rank).map_or("?", String::as_str);
        format!("rank {rank} ({host})")
    }

    /// The host of every rank.
    pub fn hosts(&self) -> &[String] {
        &self.shared.hosts
    }

    pub(super) fn payloads(&self) -> &Comm {
        &self.shared.payloads
    }

    /// A tag that no payload under way has: tags are used again after at least 32767 payloads.
    pub(super) fn next_tag(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed) % (self.shared.tags + 1)
    }

    /// Ends all ranks with code 1, naming this one.
    pub(super) fn abort(&self, why: &str) {
        eprintln!("{} ends the job: {why}", self.name(self.rank()));
        self.shared.payloads.abort(1);
    }

    /// Connects the workers of this rank to those of all others; all ranks do so together.
    pub(crate) fn parts(&self, threads: usize, digest: u64, alarm: &Arc<Alarm>) -> Result<Parts> {
        *locked(&self.shared.alarm) = Some(Arc::clone(alarm));
        let io = |e: std::io::Error| fail(&e.to_string());
        let listener = TcpListener::bind("0.0.0.0:0").map_err(io)?;
        let port = listener.local_addr().map_err(io)?.port();
        let world = SimpleCommunicator::world();
        let mut ports = vec![0u16; self.size()];
        world.all_gather_into(&port, &mut ports[..]);
        let own = &self.shared.hosts[self.rank()];
        let addresses = self.shared.hosts.iter().zip(ports).map(|(host, port)| {
            // ranks of one machine need no name service
            let host = if host == own { "127.0.0.1" } else { host };
            format!("{host}:{port}")
        });
        let addresses: Vec<String> = addresses.collect();
        let terms = connect::Terms {
            processes: self.size(),
            threads,
            digest,
        };
        let sockets = connect::connect_with(listener, &addresses, self.rank(), terms)?;
        let control = sockets.into_iter().map(|pair| pair.map(|s| s.control));
        let names: Vec<String> = (0..self.size()).map(|rank| self.name(rank)).collect();
        let (builders, guard) =
            tcp::channels(threads, self.rank(), &names, control.collect(), alarm)?;
        let seat = Seat::default();
        let lane = MpiLane::start(self, threads, &seat.pool, alarm).map_err(io)?;
        Ok(Parts {
            builders,
            guard,
            seat: Seat {
                lane: Some(lane),
                ..seat
            },
            first: self.rank() * threads,
            net: None,
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let failed = locked(&self.alarm).as_ref().and_then(|a| a.raised());
        let failed = failed
            .or_else(|| std::thread::panicking().then(|| "a panic outside the workers".to_owned()));
        if let Some(why) = failed {
            // MPI_Finalize would wait for ranks that wait for this one
            let host = &self.hosts[self.rank];
            eprintln!("rank {} ({host}) ends the job: {why}", self.rank);
            self.payloads.abort(1);
        }
        self.payloads.free();
        drop(locked(&self.universe).take());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fail(why: &str) -> EngineError {
    EngineError::Connect {
        fabric: "MPI".to_owned(),
        why: why.to_owned(),
    }
}
