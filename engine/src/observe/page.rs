//! What one worker has done, digested from timely's log of it.

use std::collections::BTreeSet;
use std::time::Duration;

use timely::logging::{MessagesEvent, ParkEvent, StartStop, TimelyEvent};

use super::trace::Mark;

/// Operators of ended dataflows are forgotten once there are this many: a job that builds
/// dataflows for ever stays bounded.
const REMEMBERED: usize = 1 << 16;

/// An operator or scope of one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Operator {
    pub(crate) name: String,
    /// Indices from the dataflow down to the operator.
    pub(crate) addr: Vec<usize>,
    pub(crate) activations: u64,
    /// Time inside the operator (of a scope: with its children).
    pub(crate) busy: Duration,
    pub(crate) bytes: u64,
    pub(crate) planned: Option<u64>,
    pub(crate) credits: Option<i64>,
    pub(crate) memory: Option<u64>,
    /// Waits for something outside the job, as a live source does.
    pub(crate) outside: bool,
    pub(crate) done: bool,
}

/// A channel of one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Channel {
    pub(crate) scope: Vec<usize>,
    /// Operator (index in the scope) and output.
    pub(crate) source: (usize, usize),
    /// Operator (index in the scope) and input.
    pub(crate) target: (usize, usize),
    /// Type of the messages.
    pub(crate) typ: String,
    pub(crate) records_sent: u64,
    pub(crate) records_received: u64,
    /// Messages sent, by receiving worker.
    pub(crate) to: Vec<u64>,
    /// Messages received, by sending worker.
    pub(crate) from: Vec<u64>,
}

#[derive(Debug)]
struct Frame {
    id: usize,
    start: Duration,
    records_in: u64,
    records_out: u64,
}

/// The digest of one worker.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) worker: usize,
    /// By timely's identifiers, which operators and channels share.
    pub(crate) operators: Vec<Option<Operator>>,
    pub(crate) channels: Vec<Option<Channel>>,
    /// Addresses that have operators below them.
    pub(crate) scopes: BTreeSet<Vec<usize>>,
    stack: Vec<Frame>,
    /// When the log was last handed over, which happens at every step.
    pub(crate) seen: Duration,
    /// Messages sent and received: what changes while the worker gets on.
    pub(crate) messages: u64,
    pub(crate) idle: Duration,
    parked: Option<Duration>,
    /// Whether the worker has begun and not ended.
    pub(crate) alive: bool,
    pub(crate) probe: Option<super::sample::Probe>,
    live: usize,
    /// Scopes that have ended since this was last emptied.
    pub(crate) ended: Vec<usize>,
    /// Marks for the trace; `None` without one.
    pub(crate) marks: Option<Vec<Mark>>,
    tallies: Vec<(Duration, usize, u64)>,
}

fn slot<T: Default>(all: &mut Vec<Option<T>>, id: usize) -> &mut Option<T> {
    if all.len() <= id {
        all.resize_with(id + 1, || None);
    }
    &mut all[id]
}

fn count(all: &mut Vec<u64>, worker: usize) {
    if all.len() <= worker {
        all.resize(worker + 1, 0);
    }
    all[worker] += 1;
}

impl Page {
    /// The page of a worker that has done nothing yet, with marks for a trace or without.
    pub(crate) fn new(worker: usize, traced: bool) -> Self {
        Page {
            worker,
            marks: traced.then(Vec::new),
            ..Page::default()
        }
    }

    /// Takes in one event of time `at`, counted from the start of the run.
    pub(crate) fn digest(&mut self, at: Duration, event: TimelyEvent) {
        match event {
            TimelyEvent::Schedule(e) => match e.start_stop {
                StartStop::Start => self.stack.push(Frame {
                    id: e.id,
                    start: at,
                    records_in: 0,
                    records_out: 0,
                }),
                StartStop::Stop => self.stop(at),
            },
            TimelyEvent::Messages(e) => self.message(at, &e),
            TimelyEvent::Park(ParkEvent::Park(_)) => self.parked = Some(at),
            TimelyEvent::Park(ParkEvent::Unpark) => {
                if let Some(since) = self.parked.take() {
                    self.idle += at.saturating_sub(since);
                }
            }
            TimelyEvent::Operates(e) => {
                if let Some(marks) = &mut self.marks {
                    marks.push(Mark::Name {
                        id: e.id,
                        name: e.name.clone(),
                        addr: e.addr.clone(),
                    });
                }
                if let Some((_, scope)) = e.addr.split_last() {
                    self.scopes.insert(scope.to_vec());
                }
                self.live += 1;
                let early = slot(&mut self.operators, e.id).take().unwrap_or_default();
                self.operators[e.id] = Some(Operator {
                    name: e.name,
                    addr: e.addr,
                    ..early
                });
            }
            TimelyEvent::Channels(e) => {
                *slot(&mut self.channels, e.id) = Some(Channel {
                    scope: e.scope_addr,
                    source: e.source,
                    target: e.target,
                    typ: e.typ,
                    ..Channel::default()
                });
            }
            TimelyEvent::Shutdown(e) => self.shutdown(e.id),
            _ => {}
        }
    }

    fn stop(&mut self, at: Duration) {
        let Some(frame) = self.stack.pop() else {
            return;
        };
        let duration = at.saturating_sub(frame.start);
        if let Some(Some(o)) = self.operators.get_mut(frame.id) {
            o.activations += 1;
            o.busy += duration;
        }
        if let Some(marks) = &mut self.marks {
            let mut bytes = 0;
            self.tallies.retain(|&(t, id, n)| {
                let mine = id == frame.id && t <= at;
                bytes += if mine { n } else { 0 };
                !mine
            });
            marks.push(Mark::Slice {
                id: frame.id,
                start: frame.start,
                duration,
                records_in: frame.records_in,
                records_out: frame.records_out,
                bytes,
            });
        }
    }

    fn message(&mut self, at: Duration, e: &MessagesEvent) {
        let Some(Some(channel)) = self.channels.get_mut(e.channel) else {
            return;
        };
        let records = u64::try_from(e.record_count).unwrap_or(0);
        self.messages += 1;
        let frame = self.stack.last_mut();
        if e.is_send {
            channel.records_sent += records;
            count(&mut channel.to, e.target);
            frame.into_iter().for_each(|f| f.records_out += records);
        } else {
            channel.records_received += records;
            count(&mut channel.from, e.source);
            frame.into_iter().for_each(|f| f.records_in += records);
        }
        if let (Some(marks), true) = (&mut self.marks, e.source != e.target) {
            marks.push(Mark::Message {
                at,
                sent: e.is_send,
                channel: e.channel,
                source: e.source,
                target: e.target,
                number: e.seq_no,
            });
        }
    }

    fn shutdown(&mut self, id: usize) {
        let Some(Some(gone)) = self.operators.get_mut(id) else {
            return;
        };
        gone.done = true;
        let root = gone.addr.clone();
        if self.scopes.contains(&root) {
            self.ended.push(id);
        }
        if root.len() == 1 && self.live > REMEMBERED {
            let below = |addr: &[usize]| addr.starts_with(&root);
            for o in &mut self.operators {
                if o.as_ref().is_some_and(|o| below(&o.addr)) {
                    *o = None;
                    self.live -= 1;
                }
            }
            for c in &mut self.channels {
                if c.as_ref().is_some_and(|c| below(&c.scope)) {
                    *c = None;
                }
            }
            self.scopes.retain(|s| !below(s));
        }
    }

    /// The operator that `id` stands for, made if the log has not come to it yet.
    pub(crate) fn operator(&mut self, id: usize) -> &mut Operator {
        slot(&mut self.operators, id).get_or_insert_default()
    }

    /// Bytes that operator `id` sends at time `at`.
    pub(crate) fn sent(&mut self, at: Duration, id: usize, bytes: u64) {
        let o = self.operator(id);
        o.bytes += bytes;
        let total = o.bytes;
        if let Some(marks) = &mut self.marks {
            self.tallies.push((at, id, bytes));
            marks.push(Mark::Bytes { at, id, total });
        }
    }

    /// The operator being scheduled, innermost, and when it began.
    pub(crate) fn current(&self) -> Option<(&Operator, Duration)> {
        let frame = self.stack.last()?;
        Some((self.operators.get(frame.id)?.as_ref()?, frame.start))
    }

    /// Ends what a panic has left open.
    pub(crate) fn close(&mut self, at: Duration) {
        while !self.stack.is_empty() {
            self.stop(at);
        }
    }

    /// Identifier of the operator at an address.
    pub(crate) fn find(&self, addr: &[usize]) -> Option<usize> {
        self.operators
            .iter()
            .position(|o| o.as_ref().is_some_and(|o| o.addr == addr))
    }

    /// Outputs of the operators (not scopes) in the scope at `addr`: index and output.
    pub(crate) fn outputs(&self, addr: &[usize]) -> BTreeSet<(usize, usize)> {
        let channels = self.channels.iter().flatten();
        channels
            .filter(|c| c.scope == addr && c.source.0 != 0 && !self.is_scope(addr, c.source.0))
            .map(|c| c.source)
            .collect()
    }

    /// Indices of the children of the scope at `addr` that are scopes themselves.
    pub(crate) fn children(&self, addr: &[usize]) -> BTreeSet<usize> {
        let below = self.scopes.iter().filter(|s| s.len() == addr.len() + 1);
        below
            .filter(|s| s.starts_with(addr))
            .filter_map(|s| s.last().copied())
            .collect()
    }

    /// Whether the child `node` of the scope at `addr` is a scope itself.
    pub(crate) fn is_scope(&self, addr: &[usize], node: usize) -> bool {
        let mut child = addr.to_vec();
        child.push(node);
        self.scopes.contains(&child)
    }
}

/// An address as printed: `0.3.2`.
pub(crate) fn dotted(addr: &[usize]) -> String {
    let parts: Vec<String> = addr.iter().map(usize::to_string).collect();
    parts.join(".")
}
