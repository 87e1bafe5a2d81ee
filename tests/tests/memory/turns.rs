//! Workers that take turns, so that nothing depends on which of them is faster.

use std::sync::{Barrier, Condvar, Mutex, MutexGuard, PoisonError};

/// Who goes on.
#[derive(Debug)]
struct State {
    /// `None` while all wait for each other.
    whose: Option<usize>,
    /// Those whose turn does not come.
    out: Vec<bool>,
}

/// One worker goes on at a time, in their order.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    all: Barrier,
}

impl Turns {
    pub(super) fn new(workers: usize) -> Self {
        Turns {
            state: Mutex::new(State {
                whose: Some(0),
                out: vec![false; workers],
            }),
            changed: Condvar::new(),
            all: Barrier::new(workers),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of worker `me`, when it comes.
    pub(super) fn take(&self, me: usize) -> Turn<'_> {
        let state = self.state();
        let waits = |state: &mut State| state.whose != Some(me);
        let state = self.changed.wait_while(state, waits);
        drop(state.unwrap_or_else(PoisonError::into_inner));
        Turn { turns: self, me }
    }

    /// Lets the others go on, for as long as this worker has its turn, until all are here; then `look`s while
    /// none goes on.
    pub(super) fn together<T>(&self, me: usize, look: impl FnOnce() -> T) -> T {
        self.pass(me, true);
        self.all.wait();
        let seen = look();
        if self.all.wait().is_leader() {
            let mut state = self.state();
            state.out.fill(false);
            state.whose = Some(0);
            self.changed.notify_all();
        }
        // the turn that was given up goes on
        std::mem::forget(self.take(me));
        seen
    }

    /// To the next whose turn comes.
    fn pass(&self, me: usize, out: bool) {
        let mut state = self.state();
        state.out[me] = out;
        let workers = state.out.len();
        let next = (1..=workers).map(|k| (me + k) % workers);
        state.whose = next.into_iter().find(|&w| !state.out[w]);
        self.changed.notify_all();
    }
}

/// A worker goes on until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    me: usize,
}

impl Turn<'_> {
    /// The last one of this worker.
    pub(super) fn last(self) {
        self.turns.pass(self.me, true);
        std::mem::forget(self);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // who fails is not waited for: the run ends
        self.turns.pass(self.me, std::thread::panicking());
    }
}
