//! Admission: how many moments a worker has in work at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use timely::scheduling::Activator;

use crate::graph::Site;
use crate::graph::order::{Order, Pair, Sections};

/// A moment, as two counters, and the key of its tensors.
pub(crate) type Slot = ([u64; 2], u64);

/// Part of the time of a cotangent that is waited for what may be on its way and comes first.
const PATIENCE: u32 = 16;

/// The moments that are in work on one worker: begun forward and not yet through with their adjoints.
///
/// An operator begins no further moment while as many as allowed are in work, so that what is kept for
/// the adjoint is that of a few micro-batches, not of a whole step. On a worker with several sections each
/// is counted by itself, and they begin in an [`Order`]. Moments are admitted as they come: sources give them in
/// one order, the same on every worker, or workers wait for each other.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    sections: Sections,
    /// Moments that may be in work or wait for cotangents of parameters, if these are made later.
    deferred: Option<usize>,
    order: RefCell<Order>,
    /// Cotangents of parameters that each moment waits for.
    behind: RefCell<BTreeMap<Pair, usize>>,
    /// Counts what is done, so that an operator can tell whether others had something to do.
    worked: Cell<u64>,
    /// When something was done last.
    last: Cell<Option<Instant>>,
    /// How long what was done later took the last time.
    late: Cell<Duration>,
    /// Operators and adjoints that every moment passes on each section of this worker.
    works: RefCell<BTreeMap<usize, usize>>,
    /// How many of them each moment in work has passed.
    live: RefCell<BTreeMap<Pair, usize>>,
    waiting: RefCell<Vec<Activator>>,
}

impl Admission {
    /// At most `limit` moments at once, and `deferred` with those that wait for cotangents of
    /// parameters; at least as many as it takes to come through.
    pub(crate) fn new(limit: Option<usize>, deferred: Option<usize>, sections: Sections) -> Self {
        let least = sections.least();
        Admission {
            limit: limit.unwrap_or(usize::MAX).max(least),
            deferred: deferred.map(|n| n.max(least)),
            order: RefCell::new(Order::new(&sections)),
            sections,
            behind: RefCell::default(),
            worked: Cell::default(),
            last: Cell::default(),
            late: Cell::default(),
            works: RefCell::default(),
            live: RefCell::default(),
            waiting: RefCell::default(),
        }
    }

    /// The admission of one more operator or adjoint, that of a node, if moments pass it here: it works more than once
    /// a version (`held`), and is not at another place.
    pub(crate) fn of(self: &Rc<Self>, site: &Site, held: bool, node: usize) -> Option<Entry> {
        let section = self.sections.of(node);
        let section = section.filter(|_| !held && !site.absent)?;
        *self.works.borrow_mut().entry(section).or_default() += 1;
        let all = Rc::clone(self);
        Some(Entry { all, section })
    }

    /// For how many more pairs there is room.
    fn room(&self) -> usize {
        let live = self.live.borrow().len();
        let all = self.deferred.unwrap_or(usize::MAX);
        let room = all.saturating_sub(live + self.later());
        room.min(self.limit.saturating_sub(live))
    }

    /// Whether more of them do than may, beside those that are in work when a step is in its full course: then their turn
    /// has come, one for each that comes back (Qi et al. 2023, ZB-H1).
    fn owes(&self) -> bool {
        let beside = self.deferred.and_then(|all| all.checked_sub(self.limit));
        beside.is_some_and(|beside| self.later() > beside)
    }

    /// Pairs that only wait for cotangents of parameters.
    fn later(&self) -> usize {
        let (live, behind) = (self.live.borrow(), self.behind.borrow());
        behind
            .keys()
            .filter(|pair| !live.contains_key(pair))
            .count()
    }

    fn enter(&self, pair: Pair, wake: &Activator) -> bool {
        let mut order = self.order.borrow_mut();
        let live = self.live.borrow().contains_key(&pair);
        let next = |room| room > 0 && order.comes_next(pair, room);
        if !live && !next(self.room()) {
            order.withdraw(false, pair);
            self.waiting.borrow_mut().push(wake.clone());
            return false;
        }
        self.works();
        if !live && !order.turn(false, pair) {
            wake.activate();
            return false;
        }
        if !live {
            self.live.borrow_mut().insert(pair, 0);
            // what comes after it may begin
            self.wake();
        }
        true
    }

    fn returns(&self, pair: Pair, ready: bool, wake: &Activator) -> bool {
        let mut order = self.order.borrow_mut();
        if !ready {
            order.withdraw(true, pair);
            return false;
        }
        if order.returns(pair) {
            return true;
        }
        if order.is_free() && self.owes() {
            self.waiting.borrow_mut().push(wake.clone());
            return false;
        }
        if order.is_free() {
            // the next one to go forward comes first, if it is on its way
            let waits = self.grace();
            if self.defers() && self.room() > 0 && !order.is_through() && !waits.is_zero() {
                wake.activate_after(waits);
                return false;
            }
        }
        let turn = order.turn(true, pair);
        if !turn {
            // or what is made when there is nothing else to do would come first
            self.works();
            wake.activate();
        }
        turn
    }

    fn wake(&self) {
        self.waiting.take().iter().for_each(Activator::activate);
    }

    fn pass(&self, pair: Pair) {
        self.rests();
        let mut live = self.live.borrow_mut();
        let Some(passed) = live.get_mut(&pair) else {
            return;
        };
        *passed += 1;
        if self.works.borrow().get(&pair.1) == Some(passed) {
            live.remove(&pair);
            self.order.borrow_mut().end(pair);
            self.wake();
        }
    }

    /// Whether cotangents of parameters are made later.
    pub(crate) fn defers(&self) -> bool {
        self.deferred.is_some()
    }

    /// Notes that something is done.
    pub(crate) fn works(&self) {
        self.worked.set(self.worked.get() + 1);
        self.rests();
    }

    /// Notes when something was done last.
    fn rests(&self) {
        // nobody else asks how long it is ago
        if self.defers() {
            self.last.set(Some(Instant::now()));
        }
    }

    /// How long to wait yet before this worker counts as one that has nothing else to do: what would hold
    /// others up for its whole time gives a part of it for messages that are on their way, unless its turn has come or
    /// nothing is.
    pub(crate) fn patience(&self) -> Duration {
        let last = self.live.borrow().is_empty() && self.order.borrow().is_through();
        match last || self.owes() {
            true => Duration::ZERO,
            false => self.grace(),
        }
    }

    /// What is left of the time that messages have to come in.
    fn grace(&self) -> Duration {
        let since = self.last.get().map_or(Duration::MAX, |last| last.elapsed());
        (self.late.get() / PATIENCE).saturating_sub(since)
    }

    /// Notes how long a cotangent took: that of a parameter which was made `later`, or, before there is one, another.
    pub(crate) fn took(&self, later: bool, time: Duration) {
        if later || self.late.get().is_zero() {
            self.late.set(time);
        }
    }

    /// What was done so far.
    pub(crate) fn worked(&self) -> u64 {
        self.worked.get()
    }

    fn defer(&self, pair: Pair) {
        *self.behind.borrow_mut().entry(pair).or_default() += 1;
    }

    fn caught_up(&self, pair: Pair) {
        let mut behind = self.behind.borrow_mut();
        if let Some(left) = behind.get_mut(&pair) {
            *left -= 1;
            if *left == 0 {
                behind.remove(&pair);
                self.wake();
            }
        }
    }
}

/// The admission of one operator or adjoint.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    all: Rc<Admission>,
    section: usize,
}

impl std::ops::Deref for Entry {
    type Target = Admission;

    fn deref(&self) -> &Admission {
        &self.all
    }
}

impl Entry {
    fn pair(&self, slot: Slot) -> Pair {
        (slot, self.section)
    }

    /// Whether an operator may work on this moment; `wake` is called when that may have changed.
    pub(crate) fn enter(&self, slot: Slot, wake: &Activator) -> bool {
        self.all.enter(self.pair(slot), wake)
    }

    /// Whether an adjoint may work on this moment, if it is `ready` to; `wake` is called when another answer than that may
    /// have changed.
    pub(crate) fn returns(&self, slot: Slot, ready: bool, wake: &Activator) -> bool {
        self.all.returns(self.pair(slot), ready, wake)
    }

    /// Counts an operator or adjoint as passed.
    pub(crate) fn pass(&self, slot: Slot) {
        self.all.pass(self.pair(slot));
    }

    /// Counts a cotangent that is made later.
    pub(crate) fn defer(&self, slot: Slot) {
        self.all.defer(self.pair(slot));
    }

    /// Counts a cotangent that was made later.
    pub(crate) fn caught_up(&self, slot: Slot) {
        self.all.caught_up(self.pair(slot));
    }

    /// Whether it matters which moments still come here.
    pub(crate) fn asks(&self) -> bool {
        self.section == 0 && (self.defers() || !self.all.order.borrow().is_free())
    }

    /// Notes that no moment before `bound` comes here any more.
    pub(crate) fn close(&self, bound: [u64; 2]) {
        if self.all.order.borrow_mut().close(bound) {
            self.all.wake();
        }
    }
}
