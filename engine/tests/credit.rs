//! Laws of credits and sources.
//!
//! * What is in flight never exceeds the credit, or one larger record, on any number of workers,
//!   whatever the order of messages; and every record arrives once.
//! * A source is never further ahead of the results than its pace.
//! * Memory before a slow consumer is bounded by the credit, not by the input, and the consumer
//!   does not starve.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use advect_engine::Fabric;
use advect_engine::credit::{Credit, Lent, credit};
use advect_engine::fabric::{Context, Faults};
use advect_engine::source::{Item, Pace, source};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::core::{Inspect, Probe, ToStream};
use timely::dataflow::operators::generic::OperatorInfo;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::probe::Handle;
use timely::scheduling::{Activations, Activator};
use timely::worker::Worker;

/// Counts bytes on the heap.
struct Counted;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// One measurement of the heap at a time.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: forwards to the system's allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static HEAP: Counted = Counted;

/// Takes one record each time it is scheduled, and keeps the others; how many it ever kept.
fn slow<'s>(
    lent: Stream<'s, u64, Vec<Lent<Vec<u8>>>>,
    kept: Rc<Cell<usize>>,
) -> Stream<'s, u64, Vec<Vec<u8>>> {
    type Records = CapacityContainerBuilder<Vec<Vec<u8>>>;
    lent.unary::<Records, _, _, _>(Pipeline, "Slow", move |_, info| {
        let wake = waker(info);
        let mut queue: VecDeque<(Capability<u64>, Lent<Vec<u8>>)> = VecDeque::new();
        move |input, output| {
            input.for_each(|cap, records| {
                let cap = cap.retain_least(0).unwrap();
                queue.extend(records.drain(..).map(|r| (cap.clone(), r)));
            });
            let bytes = queue.iter().map(|(_, r)| r.len()).sum::<usize>();
            kept.set(kept.get().max(bytes));
            if let Some((cap, record)) = queue.pop_front() {
                output.session(&cap).give(record.take());
            }
            if !queue.is_empty() {
                wake.activate();
            }
        }
    })
}

thread_local! {
    /// The scheduler of this worker, for operators that wake themselves.
    static ACTIVATIONS: RefCell<Option<Rc<RefCell<Activations>>>> =
        const { RefCell::new(None) };
}

fn waker(info: OperatorInfo) -> Activator {
    let activations = ACTIVATIONS.with_borrow(|a| a.clone()).unwrap();
    Activator::new(info.address, activations)
}

/// A record of worker `from`: its number, and bytes that follow from it.
fn record(from: usize, i: usize, bytes: usize) -> Vec<u8> {
    let mut record = vec![i as u8; bytes];
    if let [a, b, ..] = &mut record[..] {
        (*a, *b) = (from as u8, i as u8);
    }
    record
}

/// Sizes with zeros, small ones, and some larger than the whole credit of 1000.
fn size(i: usize) -> usize {
    [0, 400, 2, 3000, 0, 999, 1001, 37][i % 8]
}

/// What a worker sends, what it got, the most that was in flight, and how often it waited.
type Account = (usize, Vec<Vec<u8>>, u64, u64, u64);

fn edge(worker: &mut Worker, context: &Context) -> Account {
    ACTIVATIONS.with_borrow_mut(|a| *a = Some(worker.activations()));
    let account = Credit::new(1000);
    let got: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let sink = Rc::clone(&got);
    let index = context.index;
    let sent: Vec<Vec<u8>> = (0..80).map(|i| record(index, i, size(i))).collect();
    let bytes: usize = sent.iter().map(Vec::len).sum();
    let probe = Handle::new();
    worker.dataflow::<u64, _, _>(|scope| {
        let stream: Stream<u64, Vec<Vec<u8>>> = sent.to_stream(scope);
        let route = |r: &Vec<u8>| r.len() as u64;
        let lent = credit(stream, route, &account);
        let taken = slow(lent, Rc::default());
        let taken = taken.inspect(move |r| sink.borrow_mut().push(r.clone()));
        taken.probe_with(&probe);
    });
    context.drive(worker, || !probe.done());
    (
        bytes,
        got.take(),
        account.peak(),
        account.sent(),
        account.waits(),
    )
}

fn check(accounts: Vec<Account>, what: &str) {
    let workers = accounts.len();
    let mut got: Vec<Vec<u8>> = Vec::new();
    for (bytes, records, peak, sent, waits) in accounts {
        assert_eq!(bytes as u64, sent, "{what}");
        assert!(peak <= 3000, "{what}: {peak} bytes in flight");
        assert!(waits > 0, "{what}: the credit was never the limit");
        got.extend(records);
    }
    let mut all: Vec<Vec<u8>> = (0..workers)
        .flat_map(|w| (0..80).map(move |i| record(w, i, size(i))))
        .collect();
    got.sort();
    all.sort();
    assert!(got == all, "{what}: {} of {} records", got.len(), all.len());
}

/// Records without bytes and records larger than the credit pass, and nothing is stuck, on threads
/// and under delays and reordering.
#[test]
fn every_record_passes_within_the_credit() {
    for workers in 1..=4 {
        let fabric = Fabric::Threads(workers);
        check(fabric.run(edge).unwrap(), &fabric.to_string());
        for seed in 0..10 {
            let faults = Faults::drawn(seed, workers, 200);
            let faults = Faults {
                cuts: Vec::new(),
                crashes: Vec::new(),
                ..faults
            };
            let fabric = Fabric::Sim {
                workers,
                seed,
                faults,
            };
            check(fabric.run(edge).unwrap(), &fabric.to_string());
        }
    }
}

/// Two processes over TCP return credits to each other.
#[test]
fn credits_cross_processes() {
    let free: Vec<_> = (0..2)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let hosts: Vec<String> = free
        .iter()
        .map(|l| l.local_addr().unwrap().to_string())
        .collect();
    drop(free);
    let runs: Vec<_> = (0..2)
        .map(|process| {
            let hosts = hosts.clone();
            let fabric = Fabric::Tcp {
                threads: 2,
                process,
                hosts,
            };
            std::thread::spawn(move || fabric.run(edge).unwrap())
        })
        .collect();
    let accounts = runs.into_iter().flat_map(|r| r.join().unwrap()).collect();
    check(accounts, "TCP");
}

/// Reads `count` records of `bytes` each, 10 a time, with the given limits; returns the peak of
/// the heap above its start, the most bytes a consumer kept, and the furthest lead of the source.
fn read(count: usize, bytes: usize, limit: usize, ahead: u64) -> (usize, usize, u64) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let results = Fabric::Threads(2).run(move |worker, context| {
        ACTIVATIONS.with_borrow_mut(|a| *a = Some(worker.activations()));
        let account = Credit::new(limit);
        let pace = Pace::new(ahead, |t: &u64| *t);
        let (kept, lead) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0u64)));
        let done = Rc::new(Cell::new(0u64));
        let probe = Handle::<u64>::new();
        let (watch, farthest, index) = (probe.clone(), Rc::clone(&lead), context.index);
        let items = (0..count).flat_map(move |i| {
            let time = (i / 10) as u64;
            let reached = watch.with_frontier(|f| f.first().copied().unwrap_or(time));
            farthest.set(farthest.get().max(time.saturating_sub(reached)));
            [
                Item::Advance(time),
                Item::Record(time, record(index, i, bytes)),
            ]
        });
        let (big, total) = (Rc::clone(&kept), Rc::clone(&done));
        worker.dataflow::<u64, _, _>(|scope| {
            // each worker reads for the other one
            let route = move |r: &Vec<u8>| u64::from(r[0]) + 1;
            let lent = source(scope, "Reports", items, route, &account, &pace);
            let slow = slow(lent, big).inspect(move |_| total.set(total.get() + 1));
            pace.follow(slow).probe_with(&probe);
        });
        context.drive(worker, || !probe.done());
        assert_eq!(done.get(), count as u64);
        assert!(account.peak() <= limit as u64);
        (kept.get(), lead.get())
    });
    let results = results.unwrap();
    let kept = results.iter().map(|r| r.0).max().unwrap();
    let lead = results.iter().map(|r| r.1).max().unwrap();
    (PEAK.load(Ordering::Relaxed) - before, kept, lead)
}

/// Ten times the input takes no more memory, and the bound is the credit.
#[test]
fn a_slow_consumer_bounds_memory() {
    let limit = 256 << 10;
    let (_, kept, _) = read(400, 16 << 10, limit, u64::MAX);
    assert!(kept <= limit, "{kept} bytes before the consumer");
    let begun = std::time::Instant::now();
    let (peak, kept, _) = read(4_000, 16 << 10, limit, u64::MAX);
    let bounded = begun.elapsed();
    let begun = std::time::Instant::now();
    let (free, hoard, _) = read(4_000, 16 << 10, usize::MAX >> 1, u64::MAX);
    let unbounded = begun.elapsed();
    println!(
        "credit {limit}: heap peak {peak}, kept {kept}, {bounded:?}; without: heap peak {free}, \
         kept {hoard}, {unbounded:?}"
    );
    assert!(kept <= limit, "{kept} bytes before the consumer");
    assert!(hoard > 8 * limit, "the consumer was not slow: {hoard}");
    assert!(peak < free / 4, "heap {peak} with credit, {free} without");
}

/// A source does not run further ahead than its pace, though its credit would suffice.
#[test]
fn a_source_keeps_its_pace() {
    for ahead in [0, 1, 5] {
        let (_, _, lead) = read(1_000, 64, 1 << 30, ahead);
        // one item is read and held until the pace allows it
        assert!(lead <= ahead + 1, "{lead} times ahead, {ahead} allowed");
    }
}
