//! What a process knows of its run: a page for each worker, and the times still open.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use timely::logging::TimelyEventBuilder;
use timely::worker::Worker;

use super::meter;
use super::options::Options;
use super::page::{Page, dotted};
use super::sample::Probe;
use super::times::{Front, Held, Times};
use super::trace::Feed;

/// Marks that a worker gathers before it hands them to the writer of the trace.
const GATHERED: usize = 1024;

/// Where in the job a process is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The fabric as printed.
    pub(crate) fabric: String,
    pub(crate) process: usize,
    /// Names of all processes.
    pub(crate) hosts: Vec<String>,
    /// The first worker of this process, and how many it has.
    pub(crate) first: usize,
    pub(crate) local: usize,
    /// Workers of the job.
    pub(crate) peers: usize,
}

impl Place {
    /// Process of a worker.
    pub(crate) fn process_of(&self, worker: usize) -> usize {
        worker / (self.peers / self.hosts.len().max(1)).max(1)
    }

    /// A worker as printed: with its process and host where there are several.
    pub(crate) fn worker(&self, worker: usize) -> String {
        let process = self.process_of(worker);
        match self.hosts.get(process) {
            Some(host) if self.hosts.len() > 1 => {
                format!("worker {worker} (process {process}, {host})")
            }
            _ => format!("worker {worker}"),
        }
    }
}

/// What a process knows of its run.
pub(crate) struct Board {
    pub(crate) start: Instant,
    pub(crate) place: Place,
    pub(crate) options: Options,
    pub(crate) pages: Vec<Mutex<Page>>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) trace: Option<Feed>,
    pub(super) times: Mutex<Vec<Arc<Mutex<dyn Times>>>>,
    /// When the progress of each worker of the job was last heard of, in ns since the start.
    pub(super) heard: Vec<AtomicU64>,
    /// Messages of progress received.
    pub(super) moves: AtomicU64,
}

pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(crate) fn new(
        options: &Options,
        place: Place,
        address: Option<SocketAddr>,
        trace: Option<Feed>,
    ) -> Arc<Self> {
        let page = |i: usize| Page::new(place.first + i, trace.is_some());
        Arc::new(Board {
            start: Instant::now(),
            options: options.clone(),
            pages: (0..place.local).map(|i| Mutex::new(page(i))).collect(),
            address,
            trace,
            times: Mutex::new(Vec::new()),
            heard: (0..place.peers).map(|_| AtomicU64::new(0)).collect(),
            moves: AtomicU64::new(0),
            place,
        })
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Begins to observe a worker, until what is returned is dropped.
    pub(crate) fn attach(self: &Arc<Self>, worker: &Worker) -> Attached {
        let local = worker.index().saturating_sub(self.place.first);
        let attached = Attached {
            board: Arc::clone(self),
            local,
        };
        let Some(page) = self.pages.get(local).filter(|_| self.options.events) else {
            return attached;
        };
        {
            let mut page = locked(page);
            page.alive = true;
            page.seen = self.now();
            page.probe = Probe::here();
        }
        meter::open(Some((Arc::clone(self), local)));
        let offset = worker
            .timer()
            .map_or(Duration::ZERO, |t| t.saturating_duration_since(self.start));
        if let Some(mut register) = worker.log_register() {
            let board = Arc::clone(self);
            let (mut ended, mut earlier): (Vec<usize>, Vec<usize>) = Default::default();
            register.insert::<TimelyEventBuilder, _>("timely", move |at, batch| {
                if local == 0 && batch.is_none() {
                    // since the flush before, the logs of progress have been handed over as well
                    if !earlier.is_empty() {
                        board.forget(&std::mem::take(&mut earlier));
                    }
                    earlier.append(&mut ended);
                }
                let Some(page) = board.pages.get(local) else {
                    return;
                };
                let mut page = locked(page);
                for (time, event) in batch.iter_mut().flat_map(|b| b.drain(..)) {
                    page.digest(offset + time, event);
                }
                page.seen = offset + *at;
                let now_ended = std::mem::take(&mut page.ended);
                if local == 0 {
                    ended.extend(now_ended);
                }
                board.hand_over(&mut page, GATHERED);
            });
        }
        // one worker of a process hears of the progress of all
        if local == 0 {
            for subscribe in &self.options.times {
                subscribe(worker, self);
            }
        }
        attached
    }

    /// Hands the marks of a page to the writer of the trace once there are `enough`.
    fn hand_over(&self, page: &mut Page, enough: usize) {
        if let (Some(marks), Some(feed)) = (&mut page.marks, &self.trace)
            && marks.len() >= enough
            && !marks.is_empty()
        {
            feed.send(page.worker, std::mem::take(marks));
        }
    }

    fn forget(&self, scopes: &[usize]) {
        let times: Vec<_> = locked(&self.times).clone();
        for typed in times {
            let mut typed = locked(&typed);
            scopes.iter().for_each(|&s| typed.forget(s));
        }
    }

    /// What is held, of dataflows that are not done.
    pub(crate) fn held(&self) -> Vec<Held> {
        let times: Vec<_> = locked(&self.times).clone();
        times.iter().flat_map(|t| locked(t).held()).collect()
    }

    /// The frontiers of all scopes.
    pub(crate) fn fronts(&self) -> Vec<Front> {
        let times: Vec<_> = locked(&self.times).clone();
        times.iter().flat_map(|t| locked(t).fronts()).collect()
    }

    /// How long ago the progress of a worker was last heard of.
    pub(crate) fn unheard(&self, worker: usize) -> Duration {
        let heard = self
            .heard
            .get(worker)
            .map_or(0, |h| h.load(Ordering::Relaxed));
        self.now().saturating_sub(Duration::from_nanos(heard))
    }

    /// A number that changes while the job gets on.
    pub(crate) fn motion(&self) -> u64 {
        let pages = self.pages.iter().map(|p| {
            let p = locked(p);
            p.messages + p.operators.len() as u64
        });
        pages.sum::<u64>() + self.moves.load(Ordering::Relaxed)
    }

    /// Name and address of a child of a scope, as the first worker of this process knows it.
    pub(crate) fn name_of(&self, scope: usize, node: usize) -> Option<(usize, String, String)> {
        let page = locked(self.pages.first()?);
        let mut addr = page.operators.get(scope)?.as_ref()?.addr.clone();
        addr.push(node);
        let id = page.find(&addr)?;
        let operator = page.operators.get(id)?.as_ref()?;
        Some((id, operator.name.clone(), dotted(&addr)))
    }

    /// Name and address of a scope.
    pub(crate) fn scope_name(&self, scope: usize) -> Option<(String, String)> {
        let page = locked(self.pages.first()?);
        let operator = page.operators.get(scope)?.as_ref()?;
        Some((operator.name.clone(), dotted(&operator.addr)))
    }

    /// Where a worker that has failed was: the operator being scheduled, and its time.
    pub(crate) fn last_words(&self, worker: &Worker) -> String {
        let local = worker.index().saturating_sub(self.place.first);
        let who = self.place.worker(worker.index());
        if let Some(mut register) = worker.log_register() {
            register.flush();
        }
        let Some(page) = self.pages.get(local) else {
            return who;
        };
        let mut page = locked(page);
        let found = page
            .current()
            .map(|(o, _)| (o.name.clone(), o.addr.clone()));
        page.close(self.now());
        drop(page);
        match found {
            Some((name, addr)) => {
                let time = self
                    .time_of(&addr)
                    .map_or(String::new(), |t| format!(" at {t}"));
                format!("{who}, operator '{name}' ({}){time}", dotted(&addr))
            }
            None => who,
        }
    }

    /// The earliest time that an operator may still see: what it holds itself, or else the
    /// frontier of its scope.
    pub(crate) fn time_of(&self, addr: &[usize]) -> Option<String> {
        let (&node, scope) = addr.split_last()?;
        let scope = locked(self.pages.first()?).find(scope)?;
        let own = self.held().into_iter().filter(|h| h.scope == scope);
        if let Some(h) = own.filter(|h| h.node == node).min_by_key(|h| h.number) {
            return Some(h.time);
        }
        let front = self.fronts().into_iter().find(|f| f.scope == scope)?;
        front.time.map(|(t, _)| t)
    }
}

/// A worker under observation.
pub(crate) struct Attached {
    board: Arc<Board>,
    local: usize,
}

impl Drop for Attached {
    fn drop(&mut self) {
        meter::open(None);
        Probe::leave();
        if let Some(page) = self.board.pages.get(self.local) {
            let mut page = locked(page);
            page.alive = false;
            page.probe = None;
            page.close(self.board.now());
            self.board.hand_over(&mut page, 0);
        }
    }
}
