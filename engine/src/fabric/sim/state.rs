//! Simulated time: whose turn it is, what is under way, what is lost and who learns of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use timely::bytes::arc::Bytes;

use super::faults::Faults;
use crate::fabric::Alarm;

/// A worker that took this many turns since a message came or went has nothing to do: time may
/// jump to the next event. One turn does not suffice, as some queues are read before the others.
const SETTLED: u64 = 3;
/// One turn in this many goes to any worker, busy or not.
const STRAY: u32 = 8;

/// What happened on a simulated network. Two runs with the same digest were the same, message for
/// message, byte for byte and turn for turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trace {
    /// Simulated time that has gone by.
    pub clock: u64,
    /// Turns that were taken.
    pub turns: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Messages that were lost.
    pub lost: u64,
    /// CRC-32 of all turns and arrivals in their order.
    pub digest: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Runs,
    /// By itself, with a result.
    Ended,
    /// By a crash or an error, at this time.
    Failed(u64),
}

struct Seat {
    life: Life,
    turns: u64,
    /// Own turns since a message came or went.
    quiet: u64,
    /// Own turns since the alarm was raised.
    alarmed: u64,
    /// When it last heard of each other worker.
    heard: Vec<Option<u64>>,
}

pub(super) struct State {
    random: ChaCha8Rng,
    faults: Faults,
    trace: Trace,
    joined: usize,
    holder: Option<usize>,
    seats: Vec<Seat>,
    alarms: Vec<Arc<Alarm>>,
    /// Messages under way, by arrival and number.
    flight: BTreeMap<(u64, u64), (usize, usize, Bytes)>,
    sent: u64,
    /// The latest arrival of each link: what is sent later does not overtake.
    latest: BTreeMap<(usize, usize), u64>,
    /// Messages that the receiver has not yet taken.
    inbox: BTreeMap<(usize, usize), VecDeque<Bytes>>,
    /// Links that are closed, since when.
    closed: BTreeMap<(usize, usize), u64>,
    /// Who learns what, when.
    notices: BTreeMap<(u64, usize), String>,
}

impl State {
    pub(super) fn new(workers: usize, seed: u64, faults: Faults, alarms: Vec<Arc<Alarm>>) -> Self {
        let seat = |_| Seat {
            life: Life::Runs,
            turns: 0,
            quiet: 0,
            alarmed: 0,
            heard: vec![None; workers],
        };
        State {
            random: ChaCha8Rng::seed_from_u64(seed),
            faults,
            trace: Trace::default(),
            joined: 0,
            holder: None,
            seats: (0..workers).map(seat).collect(),
            alarms,
            flight: BTreeMap::new(),
            sent: 0,
            latest: BTreeMap::new(),
            inbox: BTreeMap::new(),
            closed: BTreeMap::new(),
            notices: BTreeMap::new(),
        }
    }

    pub(super) fn holder(&self) -> Option<usize> {
        self.holder
    }

    pub(super) fn trace(&self) -> Trace {
        self.trace
    }

    /// One more worker is ready; the last one starts the clock.
    pub(super) fn join(&mut self) {
        self.joined += 1;
        if self.joined == self.seats.len() {
            self.pass();
        }
    }

    fn runs(&self, worker: usize) -> bool {
        self.seats[worker].life == Life::Runs
    }

    fn paused_until(&self, worker: usize) -> Option<u64> {
        let now = self.trace.clock;
        let pauses = self.faults.pauses.iter();
        pauses
            .filter(|p| p.worker == worker && p.at <= now)
            .map(|p| p.at.saturating_add(p.turns))
            .filter(|&end| end > now)
            .max()
    }

    /// Chooses who holds the baton next.
    pub(super) fn pass(&mut self) {
        self.trace.clock += 1;
        loop {
            self.happen();
            let live: Vec<usize> = (0..self.seats.len()).filter(|&w| self.runs(w)).collect();
            if live.is_empty() {
                self.holder = None;
                return;
            }
            let awake = live.iter().copied();
            let awake: Vec<usize> = awake.filter(|&w| self.paused_until(w).is_none()).collect();
            let busy = awake.iter().copied();
            let busy: Vec<usize> = busy.filter(|&w| self.seats[w].quiet < SETTLED).collect();
            if busy.is_empty()
                && let Some(next) = self.next_event(&live)
            {
                self.trace.clock = self.trace.clock.max(next);
                continue;
            }
            if live
                .iter()
                .all(|&w| self.seats[w].quiet >= self.faults.patience)
            {
                self.stuck(&live);
            }
            let stray = busy.is_empty() || self.random.random_ratio(1, STRAY);
            let among = if stray { &awake } else { &busy };
            let next = among[self.random.random_range(0..among.len())];
            self.holder = Some(next);
            self.note(&[next as u64]);
            return;
        }
    }

    fn note(&mut self, words: &[u64]) {
        let mut crc = crc32fast::Hasher::new_with_initial(self.trace.digest);
        for word in words {
            crc.update(&word.to_le_bytes());
        }
        self.trace.digest = crc.finalize();
    }

    /// When something comes that does not need a turn to happen.
    fn next_event(&self, live: &[usize]) -> Option<u64> {
        let arrival = self.flight.keys().next().map(|&(due, _)| due);
        let notice = self.notices.keys().next().map(|&(due, _)| due);
        let waking = live.iter().filter_map(|&w| self.paused_until(w)).min();
        [arrival, notice, waking].into_iter().flatten().min()
    }

    /// Lets happen what is due.
    fn happen(&mut self) {
        let now = self.trace.clock;
        let due: Vec<(usize, usize)> = self
            .faults
            .cuts
            .iter()
            .filter(|cut| cut.at <= now && !self.closed.contains_key(&cut.between))
            .map(|cut| cut.between)
            .collect();
        for (a, b) in due {
            self.cut(a, b);
        }
        while let Some(entry) = self.flight.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (from, to, bytes) = entry.remove();
            if !self.runs(to) {
                continue;
            }
            self.trace.messages += 1;
            self.trace.bytes += bytes.len() as u64;
            let sum = crc32fast::hash(&bytes);
            self.note(&[
                now,
                from as u64,
                to as u64,
                bytes.len() as u64,
                u64::from(sum),
            ]);
            self.seats[to].quiet = 0;
            self.seats[to].heard[from] = Some(now);
            self.inbox.entry((from, to)).or_default().push_back(bytes);
        }
        while let Some(entry) = self.notices.first_entry() {
            let (at, worker) = *entry.key();
            if at > now {
                break;
            }
            let why = entry.remove();
            if self.runs(worker) {
                self.alarms[worker].raise(why);
                self.seats[worker].quiet = 0;
            }
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        let now = self.trace.clock;
        self.closed.insert((a, b), now);
        self.closed.insert((b, a), now);
        let before = self.flight.len();
        self.flight
            .retain(|_, &mut (from, to, _)| (from, to) != (a, b) && (from, to) != (b, a));
        self.trace.lost += (before - self.flight.len()) as u64;
        for (one, other) in [(a, b), (b, a)] {
            let why = format!(
                "the connection to worker {other} was closed at turn {now} ({}); see its own log, \
                 then resume",
                self.last_heard(one, other)
            );
            self.notify(one, why);
        }
    }

    fn notify(&mut self, worker: usize, why: String) {
        if worker >= self.seats.len() {
            return;
        }
        let wait = self.random.random_range(1..=self.faults.notice.max(1));
        let key = (self.trace.clock + wait, worker);
        self.notices.entry(key).or_insert(why);
    }

    fn last_heard(&self, one: usize, other: usize) -> String {
        let heard = self.seats.get(one).and_then(|s| s.heard.get(other));
        match heard.copied().flatten() {
            Some(at) => format!("last heard of at turn {at}"),
            None => "never heard of".to_owned(),
        }
    }

    /// Nothing moves: whoever still waits is told so.
    fn stuck(&mut self, live: &[usize]) {
        let mut waits = Vec::new();
        for &w in live {
            let others = (0..self.seats.len()).filter(|&o| o != w).map(|o| {
                let end = match self.seats[o].life {
                    Life::Runs => String::new(),
                    Life::Ended => ", has ended".to_owned(),
                    Life::Failed(at) => format!(", failed at turn {at}"),
                };
                format!("worker {o} ({}{end})", self.last_heard(w, o))
            });
            let others: Vec<String> = others.collect();
            let others = if others.is_empty() {
                "itself".to_owned()
            } else {
                others.join(", ")
            };
            waits.push(format!("worker {w} waits for {others}"));
        }
        let why = format!(
            "nothing has moved for {} turns at turn {}, and no message is under way: {}; look for \
             an input that is not advanced or closed, or a worker without the dataflow",
            self.faults.patience,
            self.trace.clock,
            waits.join("; ")
        );
        for &w in live {
            self.alarms[w].raise(why.clone());
            self.seats[w].quiet = 0;
        }
    }

    /// The turn of `me` begins; returns how many it has taken since its alarm was raised.
    pub(super) fn begin(&mut self, me: usize) -> u64 {
        let now = self.trace.clock;
        self.trace.turns += 1;
        let seat = &mut self.seats[me];
        seat.turns += 1;
        seat.quiet += 1;
        let turn = seat.turns;
        let crash = self.faults.crashes.iter();
        if crash.clone().any(|c| c.worker == me && c.at == turn) {
            self.alarms[me].raise(format!(
                "crashed in its turn {turn}, at turn {now} of the job"
            ));
            // what it would still say is lost
            self.silence(me);
        }
        let alarmed = self.alarms[me].raised().is_some();
        let seat = &mut self.seats[me];
        seat.alarmed += u64::from(alarmed);
        seat.alarmed
    }

    fn silence(&mut self, worker: usize) {
        let now = self.trace.clock;
        for other in 0..self.seats.len() {
            self.closed.entry((worker, other)).or_insert(now);
            self.closed.entry((other, worker)).or_insert(now);
        }
    }

    /// `me` takes no more turns.
    pub(super) fn leave(&mut self, me: usize, failed: Option<&String>) {
        let now = self.trace.clock;
        self.inbox.retain(|&(_, to), _| to != me);
        match failed {
            None => self.seats[me].life = Life::Ended,
            Some(why) => {
                self.seats[me].life = Life::Failed(now);
                self.silence(me);
                for other in 0..self.seats.len() {
                    if self.runs(other) {
                        self.notify(other, format!("worker {me} was lost at turn {now}: {why}"));
                    }
                }
            }
        }
        self.pass();
    }

    pub(super) fn nudge(&mut self, me: usize) {
        self.seats[me].quiet = 0;
    }

    pub(super) fn send(&mut self, from: usize, to: usize, bytes: Bytes) {
        self.seats[from].quiet = 0;
        if self.closed.contains_key(&(from, to)) {
            self.trace.lost += 1;
            return;
        }
        let wait = self.random.random_range(0..=self.faults.delay);
        let latest = self.latest.entry((from, to)).or_default();
        *latest = (*latest).max(self.trace.clock + wait);
        let due = *latest;
        self.sent += 1;
        self.flight.insert((due, self.sent), (from, to, bytes));
    }

    pub(super) fn arrived(&mut self, from: usize, to: usize) -> VecDeque<Bytes> {
        self.inbox.remove(&(from, to)).unwrap_or_default()
    }
}
