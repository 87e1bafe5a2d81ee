//! The account of a producer, and records that are lent to a consumer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

use timely::scheduling::Activator;

/// What has a size in memory or on the wire.
pub trait Cargo {
    /// Bytes that it takes from the credit.
    fn bytes(&self) -> usize;
}

impl Cargo for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Cargo for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len()
    }
}

#[derive(Debug, Default)]
struct Account {
    limit: u64,
    flying: Cell<u64>,
    peak: Cell<u64>,
    sent: Cell<u64>,
    waits: Cell<u64>,
}

/// The credit of one producer on one worker; clones are the same account.
#[derive(Debug, Clone)]
pub struct Credit {
    account: Rc<Account>,
}

impl Credit {
    /// A credit of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let account = Account {
            limit: bytes as u64,
            ..Account::default()
        };
        Credit {
            account: Rc::new(account),
        }
    }

    /// Bytes that are sent and not yet given back.
    pub fn in_flight(&self) -> u64 {
        self.account.flying.get()
    }

    /// The most bytes that ever were in flight: at most the limit, or one larger record.
    pub fn peak(&self) -> u64 {
        self.account.peak.get()
    }

    /// Bytes that were sent in all.
    pub fn sent(&self) -> u64 {
        self.account.sent.get()
    }

    /// How often a record had to wait for credit.
    pub fn waits(&self) -> u64 {
        self.account.waits.get()
    }

    /// Spends `bytes` if they fit, or if nothing else is in flight.
    pub(crate) fn spend(&self, bytes: u64) -> bool {
        let account = &self.account;
        let flying = account.flying.get();
        let after = flying.saturating_add(bytes);
        if bytes > 0 && flying > 0 && after > account.limit {
            account.waits.set(account.waits.get() + 1);
            return false;
        }
        account.flying.set(after);
        account.peak.set(account.peak.get().max(after));
        account.sent.set(account.sent.get().saturating_add(bytes));
        true
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        let account = &self.account;
        account
            .flying
            .set(account.flying.get().saturating_sub(bytes));
    }

    /// Tells the metrics what is left.
    pub(crate) fn report(&self) {
        let left = i128::from(self.account.limit) - i128::from(self.account.flying.get());
        crate::observe::credits(left.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64);
    }
}

/// What a worker has to give back, by producer.
pub(crate) struct Owed {
    pub(super) bytes: RefCell<BTreeMap<u32, u64>>,
    pub(super) wake: Activator,
}

/// A record that a producer has lent to this worker. Its bytes go back when it is dropped or
/// [taken](Lent::take).
pub struct Lent<D> {
    record: D,
    back: Back,
}

struct Back {
    from: u32,
    bytes: u64,
    owed: Rc<Owed>,
}

impl Drop for Back {
    fn drop(&mut self) {
        if self.bytes > 0 {
            *self.owed.bytes.borrow_mut().entry(self.from).or_default() += self.bytes;
            self.owed.wake.activate();
        }
    }
}

impl<D> Lent<D> {
    pub(super) fn new(record: D, from: u32, bytes: u64, owed: &Rc<Owed>) -> Self {
        let owed = Rc::clone(owed);
        let back = Back { from, bytes, owed };
        Lent { record, back }
    }

    /// The record; its bytes go back now.
    pub fn take(self) -> D {
        self.record
    }

    /// Index of the worker that lent it.
    pub fn lender(&self) -> usize {
        self.back.from as usize
    }
}

impl<D> Deref for Lent<D> {
    type Target = D;
    fn deref(&self) -> &D {
        &self.record
    }
}

impl<D: std::fmt::Debug> std::fmt::Debug for Lent<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, bytes) = (self.back.from, self.back.bytes);
        write!(f, "{:?} ({bytes} bytes from worker {from})", self.record)
    }
}
