//! The baton, and what the threads of the workers ask of the network.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use timely::bytes::arc::Bytes;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::worker::Worker;

use super::faults::Faults;
use super::queue;
use super::state::{State, Trace};
use crate::fabric::{Alarm, alarm};

/// Turns that a worker which waits without [`Context::drive`](crate::fabric::Context::drive) can
/// take after its alarm was raised; then it is ended where it is.
const GRACE: u64 = 1_000;

/// A simulated network.
pub(crate) struct Net {
    state: Mutex<State>,
    /// One per worker: it has the baton, or never will.
    go: Vec<Condvar>,
    alarms: Vec<Arc<Alarm>>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("trace", &self.trace()).finish()
    }
}

impl Net {
    /// The workers of a job and the network between them.
    pub(crate) fn assemble(
        workers: usize,
        seed: u64,
        faults: &Faults,
    ) -> (Vec<AllocatorBuilder>, Arc<Net>) {
        let alarms: Vec<Arc<Alarm>> = (0..workers).map(|_| Arc::default()).collect();
        let net = Arc::new(Net {
            state: Mutex::new(State::new(workers, seed, faults.clone(), alarms.clone())),
            go: (0..workers).map(|_| Condvar::new()).collect(),
            alarms,
        });
        let refill = timely::communication::Hooks::default().refill;
        let policy = queue::policy(Arc::clone(&net));
        let builders = ProcessBuilder::new_bytes_vector(workers, refill, Some(policy));
        let builders = builders.into_iter().map(AllocatorBuilder::Process);
        (builders.collect(), net)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, me: usize) -> MutexGuard<'a, State> {
        while state.holder() != Some(me) {
            state = self.go[me]
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn hand_on(&self, state: &State, me: usize) {
        match state.holder() {
            Some(next) if next != me => self.go[next].notify_one(),
            _ => {}
        }
    }

    /// The worker `me` has started; returns its alarm when its first turn comes.
    pub(crate) fn join(&self, me: usize) -> Arc<Alarm> {
        queue::arrive(me);
        let mut state = self.lock();
        state.join();
        self.hand_on(&state, me);
        drop(self.wait(state, me));
        Arc::clone(&self.alarms[me])
    }

    /// The worker `me` has ended a step: others run until its next turn comes.
    pub(super) fn turn(&self, me: usize) {
        let mut state = self.lock();
        state.pass();
        self.hand_on(&state, me);
        let mut state = self.wait(state, me);
        if state.begin(me) > GRACE {
            drop(state);
            self.alarms[me].check();
            return;
        }
        // an idle worker now wants to sleep until something comes: that it has just done
        std::thread::current().unpark();
    }

    /// The worker runs no more. If it failed, its dataflows are dropped here, while it still has
    /// the baton and does not unwind: timely would end the others by a panic of their queues.
    pub(crate) fn finish<R>(
        &self,
        worker: &mut Worker,
        outcome: std::thread::Result<R>,
    ) -> Result<R, String> {
        let outcome = outcome.map_err(|panic| alarm::message(panic.as_ref()));
        if outcome.is_err() {
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        }
        let me = worker.index();
        let mut state = self.lock();
        state.leave(me, outcome.as_ref().err());
        self.hand_on(&state, me);
        drop(state);
        outcome
    }

    /// Something happened that is the worker's own affair.
    pub(super) fn nudge(&self, me: usize) {
        self.lock().nudge(me);
    }

    pub(super) fn send(&self, from: usize, to: usize, bytes: Bytes) {
        self.lock().send(from, to, bytes);
    }

    pub(super) fn arrived(&self, from: usize, to: usize) -> impl Iterator<Item = Bytes> + use<> {
        self.lock().arrived(from, to).into_iter()
    }

    /// What has happened until now.
    pub(crate) fn trace(&self) -> Trace {
        self.lock().trace()
    }
}
