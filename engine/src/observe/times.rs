//! Which times are still open, and who holds them, from timely's log of progress.
//!
//! A worker sends every change of its capabilities and messages to all; one worker of a process
//! that listens therefore knows those of the whole job, by sender. Every operator begins with one
//! capability at the least time for each output and worker; scopes do not speak for themselves
//! but through their children, in a log of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use timely::logging::TimelyProgressEvent;
use timely::progress::Timestamp;

/// A time that is held.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// Identifier of the scope.
    pub(crate) scope: usize,
    /// Index of the operator in the scope.
    pub(crate) node: usize,
    /// Who holds it; `None` for a message on its way to the operator.
    pub(crate) worker: Option<usize>,
    pub(crate) time: String,
    pub(crate) number: u64,
    /// When what the operator holds last moved.
    pub(crate) moved: Duration,
    /// Whether no earlier time is held in the scope.
    pub(crate) first: bool,
    /// Capabilities, or records on their way, at all times.
    pub(crate) count: u64,
}

/// The state of a scope.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    pub(crate) scope: usize,
    /// The earliest time held by an operator of the scope; `None` when all is done.
    pub(crate) time: Option<(String, u64)>,
    /// The latest time seen.
    pub(crate) newest: u64,
    pub(crate) moved: Duration,
}

/// Open times of all scopes of one type of timestamp.
pub(crate) trait Times: Send {
    /// What is held in a scope: for each operator the earliest time of each holder.
    fn held(&self) -> Vec<Held>;
    fn fronts(&self) -> Vec<Front>;
    /// Stops to follow a scope that has ended.
    fn forget(&mut self, scope: usize);
}

const MAIL: usize = usize::MAX;

struct Place<T> {
    /// By time and worker ([`MAIL`]: messages).
    counts: BTreeMap<(T, usize), i64>,
    moved: Duration,
}

struct Scope<T> {
    /// By operator and whether messages (or capabilities).
    places: BTreeMap<(usize, bool), Place<T>>,
    /// Children that are scopes.
    children: BTreeSet<usize>,
    /// How many hold each time.
    open: BTreeMap<T, i64>,
    newest: u64,
    moved: Duration,
}

pub(crate) struct Typed<T> {
    number: fn(&T) -> u64,
    peers: usize,
    scopes: BTreeMap<usize, Scope<T>>,
}

impl<T: Timestamp> Typed<T> {
    pub(crate) fn new(number: fn(&T) -> u64, peers: usize) -> Self {
        Typed {
            number,
            peers,
            scopes: BTreeMap::new(),
        }
    }

    pub(crate) fn knows(&self, scope: usize) -> bool {
        self.scopes.contains_key(&scope)
    }

    /// Begins to follow a scope whose operators have these outputs (index, output), and some of
    /// whose children are scopes.
    pub(crate) fn open(
        &mut self,
        scope: usize,
        outputs: &BTreeSet<(usize, usize)>,
        children: BTreeSet<usize>,
    ) {
        let mut new = Scope {
            children,
            places: BTreeMap::new(),
            open: BTreeMap::new(),
            newest: 0,
            moved: Duration::ZERO,
        };
        for &(node, _) in outputs {
            for worker in 0..self.peers {
                new.update((node, false), worker, T::minimum(), 1, Duration::ZERO);
            }
        }
        self.scopes.insert(scope, new);
    }

    /// Takes in a message of progress; the new frontier of the scope if that has moved.
    pub(crate) fn digest(&mut self, at: Duration, event: &TimelyProgressEvent<T>) -> Option<Front> {
        let scope = self.scopes.get_mut(&event.identifier)?;
        let before = scope.open.keys().next().cloned();
        for (node, _, time, diff) in &event.internal {
            if *node != 0 {
                scope.newest = scope.newest.max((self.number)(time));
                scope.update((*node, false), event.source, time.clone(), *diff, at);
            }
        }
        for (node, _, time, diff) in &event.messages {
            if *node != 0 && !scope.children.contains(node) {
                scope.newest = scope.newest.max((self.number)(time));
                scope.update((*node, true), MAIL, time.clone(), *diff, at);
            }
        }
        let after = scope.open.keys().next();
        if before.as_ref() == after {
            return None;
        }
        scope.moved = at;
        Some(front(event.identifier, scope, self.number))
    }
}

fn front<T: Timestamp>(id: usize, scope: &Scope<T>, number: fn(&T) -> u64) -> Front {
    Front {
        scope: id,
        time: scope
            .open
            .keys()
            .next()
            .map(|t| (format!("{t:?}"), number(t))),
        newest: scope.newest,
        moved: scope.moved,
    }
}

impl<T: Timestamp> Scope<T> {
    fn update(&mut self, place: (usize, bool), worker: usize, time: T, diff: i64, at: Duration) {
        let place = self.places.entry(place).or_insert_with(|| Place {
            counts: BTreeMap::new(),
            moved: at,
        });
        let key = (time.clone(), worker);
        let old = place.counts.get(&key).copied().unwrap_or(0);
        let new = old + diff;
        if new == 0 {
            place.counts.remove(&key);
        } else {
            place.counts.insert(key, new);
        }
        // a consumer's word may come before that of the producer: below zero nothing is held
        let change = i64::from(new > 0) - i64::from(old > 0);
        if change != 0 {
            place.moved = at;
            let open = self.open.entry(time.clone()).or_insert(0);
            *open += change;
            if *open == 0 {
                self.open.remove(&time);
            }
        }
    }
}

impl<T: Timestamp> Times for Typed<T> {
    fn held(&self) -> Vec<Held> {
        let mut all = Vec::new();
        for (&id, scope) in &self.scopes {
            for (&(node, _), place) in &scope.places {
                let mut first: BTreeMap<usize, (&T, u64)> = BTreeMap::new();
                for ((time, worker), &count) in place.counts.iter().filter(|(_, c)| **c > 0) {
                    first.entry(*worker).or_insert((time, 0)).1 += count.unsigned_abs();
                }
                for (worker, (time, count)) in first {
                    all.push(Held {
                        scope: id,
                        node,
                        worker: (worker != MAIL).then_some(worker),
                        time: format!("{time:?}"),
                        number: (self.number)(time),
                        moved: place.moved,
                        first: !scope.open.keys().any(|t| t.less_than(time)),
                        count,
                    });
                }
            }
        }
        all
    }

    fn fronts(&self) -> Vec<Front> {
        self.scopes
            .iter()
            .map(|(&id, scope)| front(id, scope, self.number))
            .collect()
    }

    fn forget(&mut self, scope: usize) {
        self.scopes.remove(&scope);
    }
}
