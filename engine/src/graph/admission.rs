//! Admission: how many moments a worker has in work at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use timely::scheduling::Activator;

use crate::graph::Site;

/// A moment, as two counters, and the key of its tensors.
pub(crate) type Slot = ([u64; 2], u64);

/// Part of the time of what is done later that is waited before it.
const PATIENCE: u32 = 16;

/// The moments that are in work on one worker: begun forward and not yet through with their adjoints.
///
/// An operator begins no further moment while as many as allowed are in work, so that what is kept for
/// the adjoint is that of a few micro-batches, not of a whole step. Moments are admitted as they come:
/// sources give them in one order, the same on every worker, or workers wait for each other.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    /// Moments that may be in work or wait for cotangents of parameters, if these are made later.
    deferred: Option<usize>,
    /// Cotangents of parameters that each moment waits for.
    behind: RefCell<BTreeMap<Slot, usize>>,
    /// Counts what is done, so that an operator can tell whether others had something to do.
    worked: Cell<u64>,
    /// When something was done last.
    last: Cell<Option<Instant>>,
    /// How long what was done later took the last time.
    late: Cell<Duration>,
    /// Operators and adjoints that every moment passes on this worker.
    works: Cell<usize>,
    /// How many of them each moment in work has passed.
    live: RefCell<BTreeMap<Slot, usize>>,
    waiting: RefCell<Vec<Activator>>,
}

impl Admission {
    /// At most `limit` moments at once, and `deferred` with those that wait for cotangents of
    /// parameters; at least one.
    pub(crate) fn new(limit: Option<usize>, deferred: Option<usize>) -> Self {
        Admission {
            limit: limit.unwrap_or(usize::MAX).max(1),
            deferred: deferred.map(|n| n.max(1)),
            behind: RefCell::default(),
            worked: Cell::default(),
            last: Cell::default(),
            late: Cell::default(),
            works: Cell::default(),
            live: RefCell::default(),
            waiting: RefCell::default(),
        }
    }

    /// The admission of one more operator or adjoint, if moments pass it here: it works more than once
    /// a version (`held`), and is not at another place.
    pub(crate) fn of(self: &Rc<Self>, site: &Site, held: bool) -> Option<Rc<Self>> {
        if held || site.absent {
            return None;
        }
        self.works.set(self.works.get() + 1);
        Some(Rc::clone(self))
    }

    /// Whether an operator may work on this moment; `wake` is called when that may have changed.
    pub(crate) fn enter(&self, slot: Slot, wake: &Activator) -> bool {
        let mut live = self.live.borrow_mut();
        let room = || {
            let behind = self.behind.borrow();
            let waiting = behind
                .keys()
                .filter(|slot| !live.contains_key(slot))
                .count();
            self.deferred.is_none_or(|all| live.len() + waiting < all)
        };
        if live.contains_key(&slot) || (live.len() < self.limit && room()) {
            live.entry(slot).or_default();
            self.works();
            return true;
        }
        self.waiting.borrow_mut().push(wake.clone());
        false
    }

    /// Counts an operator or adjoint as passed.
    pub(crate) fn pass(&self, slot: Slot) {
        let mut live = self.live.borrow_mut();
        let Some(passed) = live.get_mut(&slot) else {
            return;
        };
        *passed += 1;
        if *passed == self.works.get() {
            live.remove(&slot);
            self.waiting.take().iter().for_each(Activator::activate);
        }
    }

    /// Whether cotangents of parameters are made later.
    pub(crate) fn defers(&self) -> bool {
        self.deferred.is_some()
    }

    /// Notes that something was done.
    pub(crate) fn works(&self) {
        self.worked.set(self.worked.get() + 1);
        // nobody else asks how long it is ago
        if self.defers() {
            self.last.set(Some(Instant::now()));
        }
    }

    /// How long to wait yet before this worker counts as one that has nothing else to do: what would hold
    /// others up for its whole time gives a part of it for messages that are on their way.
    pub(crate) fn patience(&self) -> Duration {
        let since = self.last.get().map_or(Duration::MAX, |last| last.elapsed());
        (self.late.get() / PATIENCE).saturating_sub(since)
    }

    /// Notes how long something took that was done later.
    pub(crate) fn took(&self, time: Duration) {
        self.late.set(time);
    }

    /// What was done so far.
    pub(crate) fn worked(&self) -> u64 {
        self.worked.get()
    }

    /// Counts a cotangent that is made later.
    pub(crate) fn defer(&self, slot: Slot) {
        *self.behind.borrow_mut().entry(slot).or_default() += 1;
    }

    /// Counts a cotangent that was made later.
    pub(crate) fn caught_up(&self, slot: Slot) {
        let mut behind = self.behind.borrow_mut();
        if let Some(left) = behind.get_mut(&slot) {
            *left -= 1;
            if *left == 0 {
                behind.remove(&slot);
                self.waiting.take().iter().for_each(Activator::activate);
            }
        }
    }
}
