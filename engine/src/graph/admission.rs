//! Admission: how many moments a worker has in work at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use timely::scheduling::Activator;

use crate::graph::Site;

/// A moment, as two counters, and the key of its tensors.
type Slot = ([u64; 2], u64);

/// The moments that are in work on one worker: begun forward and not yet through with their adjoints.
///
/// An operator begins no further moment while as many as allowed are in work, so that what is kept for
/// the adjoint is that of a few micro-batches, not of a whole step. Moments are admitted as they come:
/// sources give them in one order, the same on every worker, or workers wait for each other.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    /// Operators and adjoints that every moment passes on this worker.
    works: Cell<usize>,
    /// How many of them each moment in work has passed.
    live: RefCell<BTreeMap<Slot, usize>>,
    waiting: RefCell<Vec<Activator>>,
}

impl Admission {
    /// At most `limit` moments at once; at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Admission {
            limit: limit.max(1),
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
        if live.contains_key(&slot) || live.len() < self.limit {
            live.entry(slot).or_default();
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
}
