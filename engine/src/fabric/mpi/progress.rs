//! The thread that sees sends to their end and watches for the failure of the job.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::job::Job;
use super::raw::Request;
use crate::fabric::bulk::{self, Seat};
use crate::fabric::{Alarm, NOTICE};
use crate::shard::payload::View;
use crate::shard::pool::Pool;

/// How long a failed rank has to end by itself and say why, before it ends all ranks.
const GRACE: Duration = Duration::from_secs(2);
/// How long payloads that nobody took are waited for at the end of a job.
const LINGER: Duration = Duration::from_secs(1);

/// How often a receiver looks without a pause: a transfer inside a machine is done by then.
const LOOKS: u32 = 200;
/// The shortest and the longest sleep.
const SLEEP: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(10));

/// Waits in ever longer steps: others must not keep a core busy. A sleep is a twentieth of what was
/// slept before, so that it adds as little to the wait.
#[derive(Default)]
pub(super) struct Backoff {
    looks: u32,
    slept: Duration,
}

impl Backoff {
    /// Gives way to others for a moment.
    pub(super) fn wait(&mut self) {
        if self.looks < LOOKS {
            self.looks += 1;
            thread::yield_now();
        } else {
            self.sleep();
        }
    }

    /// Leaves the core to others.
    fn sleep(&mut self) {
        let time = (self.slept / 20).clamp(SLEEP.0, SLEEP.1);
        self.slept += time;
        thread::sleep(time);
    }
}

/// A payload on its way out: its memory is kept until MPI has read it.
pub(super) struct Outgoing {
    pub(super) requests: Vec<Request>,
    pub(super) view: View,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    fresh: Vec<Outgoing>,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running thread; dropped, it waits for the sends under way.
pub(super) struct Progress {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    alarm: Arc<Alarm>,
}

impl Progress {
    pub(super) fn start(job: &Job, pool: &Arc<Pool>, alarm: &Arc<Alarm>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (theirs, job, watched) = (Arc::clone(&shared), job.clone(), Arc::clone(alarm));
        let seat = Seat {
            lane: None,
            pool: Arc::clone(pool),
        };
        let thread = thread::Builder::new()
            .name("mpi progress".to_owned())
            .spawn(move || {
                bulk::open(Some(seat));
                work(&theirs, &job, &watched);
            })?;
        Ok(Progress {
            shared,
            thread: Some(thread),
            alarm: Arc::clone(alarm),
        })
    }

    /// Sees a send to its end.
    pub(super) fn follow(&self, outgoing: Outgoing) {
        let mut state = self.shared.lock();
        state.fresh.push(outgoing);
        // it looks at new sends between two looks at old ones, and waits only when it has none
        self.shared.wake.notify_one();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        // of a job that has failed it stays behind to end the other ranks
        if self.alarm.raised().is_none()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, job: &Job, alarm: &Alarm) {
    let mut under_way: Vec<Outgoing> = Vec::new();
    let mut backoff = Backoff::default();
    let mut last: Option<Instant> = None;
    loop {
        let mut state = shared.lock();
        if under_way.is_empty() && state.fresh.is_empty() && !state.stop {
            let waited = shared.wake.wait_timeout(state, NOTICE);
            state = waited.map_or_else(|e| e.into_inner().0, |w| w.0);
        }
        let stop = state.stop;
        if !state.fresh.is_empty() {
            under_way.append(&mut state.fresh);
            backoff = Backoff::default();
        }
        drop(state);
        if !under_way.is_empty() {
            // first of all the descriptor has to leave, then the receiver does most of the work: a
            // sender that looks all the time takes the core from both
            backoff.sleep();
        }
        let before = under_way.len();
        under_way.retain_mut(|out| !finished(out, alarm));
        if under_way.len() < before {
            backoff = Backoff::default();
        }
        if let Some(why) = alarm.raised() {
            end(job, &why);
        }
        if stop {
            let end = *last.get_or_insert_with(|| Instant::now() + LINGER);
            if under_way.is_empty() || Instant::now() > end {
                // MPI may still read this memory: it is never given back
                std::mem::forget(under_way);
                return;
            }
        }
    }
}

fn finished(out: &mut Outgoing, alarm: &Alarm) -> bool {
    while let Some(request) = out.requests.last_mut() {
        match request.done() {
            Ok(true) => drop(out.requests.pop()),
            Ok(false) => return false,
            Err(why) => {
                let size = out.view.bytes().len();
                alarm.raise(format!("a payload of {size} bytes was not sent: {why}"));
                return false;
            }
        }
    }
    true
}

/// Ends all ranks, unless this process ends before.
fn end(job: &Job, why: &str) {
    thread::sleep(GRACE);
    job.abort(why);
}
