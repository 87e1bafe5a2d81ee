//! Laws of the simulated network.
//!
//! * A seed decides everything: the same seed gives the same run, byte for byte and turn for turn.
//! * Delays, reordering and pauses change no result.
//! * Cuts and crashes give the right answer or an error that names the worker, never a hang.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use advect_engine::fabric::Context;
use advect_engine::fabric::sim::{Crash, Cut, Pause, Trace};
use advect_engine::{
    Cycle, DType, Data, Fabric, Layout, Mesh, Monoid, Placement, Relayout, Shard, fabric::Faults,
    relayout,
};
use differential_dataflow::AsCollection;
use differential_dataflow::operators::Iterate;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::core::{Inspect, Probe, ToStream, UnorderedInput};
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

/// A run may take this long on a busy machine; a hang is longer.
const WATCHDOG: Duration = Duration::from_secs(60);

/// The result of `run` on another thread, or a failed test if it hangs.
fn watched<R: Send + 'static>(what: String, run: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(run()));
    let result = result.recv_timeout(WATCHDOG);
    result.unwrap_or_else(|e| panic!("{what}: {e}"))
}

type Pipeline<R> = fn(&mut Worker, &Context) -> R;
type Answer<R> = Result<Vec<R>, String>;

fn run<R: Send + 'static>(fabric: Fabric, pipeline: Pipeline<R>) -> Answer<(R, Option<Trace>)> {
    watched(fabric.to_string(), move || {
        let traced = move |worker: &mut Worker, context: &Context| {
            let result = pipeline(worker, context);
            context.drive(worker, || false);
            (result, context.simulated())
        };
        fabric.run(traced).map_err(|e| e.to_string())
    })
}

fn sim(workers: usize, seed: u64, faults: Faults) -> Fabric {
    Fabric::Sim {
        workers,
        seed,
        faults,
    }
}

/// Row shards to columns, to everywhere, to partial sums and back to rows, five tensors in turn.
fn relayouts(worker: &mut Worker, context: &Context) -> Vec<Data> {
    let mesh = Mesh::line("x", context.peers);
    let shape = [7usize, 5];
    let way = [
        Placement::Split { dim: 0 },
        Placement::Split { dim: 1 },
        Placement::Same,
        Placement::Partial(Monoid::Sum),
        Placement::Split { dim: 0 },
    ]
    .map(|p| Layout::new([p]));
    let rows = way[0].indices(&mesh, &shape, context.index).swap_remove(0);
    let mine = (0..5u64).map(|key| {
        let cells = rows.iter().flat_map(|&r| (0..5).map(move |c| r * 5 + c));
        let values: Vec<f64> = cells.map(|i| (i as f64 + 0.1 * key as f64).sin()).collect();
        Shard::new(key, vec![rows.len(), 5], values.into())
    });
    let mine: Vec<Shard> = mine.collect();
    let got = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&got);
    worker.dataflow::<u64, _, _>(|scope| {
        let mut stream = mine.to_stream(scope);
        for pair in way.windows(2) {
            let plan = Relayout::plan(&mesh, &shape, DType::F64, &pair[0], &pair[1]).unwrap();
            stream = relayout(stream, &plan);
        }
        stream.inspect_core(move |event| {
            if let Ok((_, batch)) = event {
                let shards = batch.shards.iter();
                sink.borrow_mut()
                    .extend(shards.map(|s| (s.key, s.data().clone())));
            }
        });
    });
    context.drive(worker, || got.borrow().len() < 5);
    let mut got = got.take();
    got.sort_by_key(|(key, _)| *key);
    got.into_iter().map(|(_, data)| data).collect()
}

type Builder = CapacityContainerBuilder<Vec<((u64, u64), Cycle, isize)>>;
type Update = ((u64, u64), Cycle, isize);

/// Smallest reachable label by edges that come and go: a loop of joins and reductions within
/// [`Cycle`] times, with the frontier awaited after each.
fn labels(worker: &mut Worker, context: &Context) -> Vec<Update> {
    let got: Rc<RefCell<Vec<Update>>> = Rc::default();
    let sink = Rc::clone(&got);
    let probe = Handle::new();
    let (mut edges, mut at_edges) = (None, None);
    let (mut nodes, mut at_nodes) = (None, None);
    worker.dataflow::<Cycle, _, _>(|scope| {
        let ((edge_input, edge_cap), edge_stream) = scope.new_unordered_input::<Builder>();
        let ((node_input, node_cap), node_stream) = scope.new_unordered_input::<Builder>();
        (edges, at_edges) = (Some(edge_input), Some(edge_cap));
        (nodes, at_nodes) = (Some(node_input), Some(node_cap));
        let (edge_list, node_list) = (edge_stream.as_collection(), node_stream.as_collection());
        let labels = node_list.clone().iterate(|inner_scope, inner| {
            let edge_list = edge_list.enter(inner_scope);
            let node_list = node_list.enter(inner_scope);
            let steps = inner.join_map(edge_list, |_, &label, &to| (to, label));
            let best = steps.concat(node_list);
            best.reduce(|_, all, out| out.push((*all[0].0, 1)))
        });
        let seen = labels.inspect(move |&(label, time, change)| {
            sink.borrow_mut().push((label, time, change));
        });
        seen.inner.probe_with(&probe);
    });
    let (mut edges, mut at_edges) = (edges.unwrap(), at_edges.unwrap());
    let (mut nodes, at_nodes) = (nodes.unwrap(), at_nodes.unwrap());
    let mine = |i: u64| i as usize % context.peers == context.index;
    let start = Cycle::default();
    for i in (0..12).filter(|&i| mine(i)) {
        nodes.activate().session(&at_nodes).give(((i, i), start, 1));
    }
    drop((nodes, at_nodes));
    for cycle in 0..4u64 {
        // what is known of the first cycles is revised later
        let time = Cycle::new(cycle / 2, cycle);
        at_edges = at_edges.delayed(&time);
        for i in (0..12).filter(|&i| mine(i)) {
            let mut input = edges.activate();
            let mut session = input.session(&at_edges);
            session.give(((i, (i * 5 + cycle) % 12), time, 1));
            if cycle > 0 && i % 3 == 0 {
                session.give(((i, (i * 5 + cycle - 1) % 12), time, -1));
            }
        }
        let next = Cycle::new(time.valid, cycle + 1);
        at_edges = at_edges.delayed(&next);
        context.drive(worker, || probe.less_than(&next));
    }
    drop((edges, at_edges));
    context.drive(worker, || !probe.done());
    got.take()
}

/// The updates of all workers, as one multiset.
fn together(parts: Vec<Vec<Update>>) -> Vec<Update> {
    let mut all = parts.concat();
    all.sort_unstable();
    let mut sum: Vec<Update> = Vec::new();
    for (label, time, change) in all {
        match sum.last_mut() {
            Some(last) if (last.0, last.1) == (label, time) => last.2 += change,
            _ => sum.push((label, time, change)),
        }
    }
    sum.retain(|u| u.2 != 0);
    sum
}

fn results<R>(answer: Vec<(R, Option<Trace>)>) -> Vec<R> {
    answer.into_iter().map(|(r, _)| r).collect()
}

fn length<R>(answer: &[(R, Option<Trace>)]) -> u64 {
    let clocks = answer
        .iter()
        .filter_map(|(_, trace)| trace.map(|t| t.clock));
    clocks.max().unwrap_or(0)
}

/// The same seed gives the same turns, messages and bytes; another one does not.
#[test]
fn a_seed_decides_everything() {
    let faults = Faults {
        pauses: vec![Pause {
            worker: 1,
            at: 30,
            turns: 100,
        }],
        ..Faults::default()
    };
    let one = run(sim(3, 7, faults.clone()), relayouts).unwrap();
    let two = run(sim(3, 7, faults.clone()), relayouts).unwrap();
    let other = run(sim(3, 8, faults.clone()), relayouts).unwrap();
    assert_eq!(one, two);
    assert_ne!(one[0].1.unwrap().digest, other[0].1.unwrap().digest);
    assert!(one.iter().all(|(_, t)| t.unwrap().messages > 0));
    let one = run(sim(3, 7, faults.clone()), labels).unwrap();
    assert_eq!(one, run(sim(3, 7, faults.clone()), labels).unwrap());
}

/// 200 seeds with delays, pauses, cuts and crashes: the answer of threads or an error that names a
/// worker; both occur, and an error occurs again.
#[test]
fn right_or_named_never_a_hang() {
    let (mut right, mut failed) = (0, 0);
    for workers in [2, 3, 4] {
        let moved = results(run(Fabric::Threads(workers), relayouts).unwrap());
        let labelled = together(results(run(Fabric::Threads(workers), labels).unwrap()));
        assert!(!labelled.is_empty());
        let fine = Faults::default;
        let moving = length(&run(sim(workers, 0, fine()), relayouts).unwrap());
        let labelling = length(&run(sim(workers, 0, fine()), labels).unwrap());
        for seed in (0..200).filter(|s| s % 3 + 2 == workers as u64) {
            let faults = Faults::drawn(seed, workers, moving);
            let answer = run(sim(workers, seed, faults.clone()), relayouts);
            match answer {
                Ok(answer) => {
                    assert_eq!(results(answer), moved, "seed {seed}");
                    right += 1;
                }
                Err(why) => {
                    assert!(named(&why), "seed {seed}: {why}");
                    failed += 1;
                    if seed % 10 == 0 {
                        let again = run(sim(workers, seed, faults), relayouts);
                        assert_eq!(again.unwrap_err(), why, "seed {seed}");
                    }
                }
            }
            let faults = Faults::drawn(seed, workers, labelling);
            match run(sim(workers, seed, faults), labels) {
                Ok(answer) => {
                    assert_eq!(together(results(answer)), labelled, "seed {seed}");
                    right += 1;
                }
                Err(why) => {
                    assert!(named(&why), "seed {seed}: {why}");
                    failed += 1;
                }
            }
        }
    }
    println!("{right} right, {failed} named errors");
    assert_eq!(right + failed, 400);
    assert!(right > 80 && failed > 80, "{right} right, {failed} failed");
}

/// An error of ours: which worker, and what happened to it or to which of its peers.
fn named(why: &str) -> bool {
    let what = [
        "crashed in its turn",
        "was closed at turn",
        "was lost at turn",
    ];
    why.contains("worker ") && what.iter().any(|w| why.contains(w))
}

/// The error of a crash names the worker that crashed, that of a cut one end and the other.
#[test]
fn errors_name_the_worker() {
    let crash = Faults {
        crashes: vec![Crash { worker: 2, at: 9 }],
        ..Faults::default()
    };
    let why = run(sim(3, 1, crash), labels).unwrap_err();
    assert!(
        why.contains("worker 2") && why.contains("crashed in its turn 9"),
        "{why}"
    );
    let cut = Faults {
        cuts: vec![Cut {
            between: (0, 1),
            at: 40,
        }],
        ..Faults::default()
    };
    let why = run(sim(3, 1, cut), labels).unwrap_err();
    let ends = [
        "connection to worker 0 was closed",
        "connection to worker 1 was closed",
    ];
    assert!(ends.iter().any(|e| why.contains(e)), "{why}");
}

/// A worker that waits for what will never come is told for whom it waits.
#[test]
fn a_stuck_job_is_ended() {
    fn forgets(worker: &mut Worker, context: &Context) {
        use differential_dataflow::input::Input;
        let probe = Handle::new();
        let mut input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, all) = scope.new_collection::<u64, isize>();
            all.inner.probe_with(&probe);
            input
        });
        if context.index != 1 {
            input.advance_to(1);
        }
        input.flush();
        context.drive(worker, || probe.less_than(&1));
    }
    let faults = Faults {
        patience: 2_000,
        ..Faults::default()
    };
    let why = run(sim(3, 5, faults), forgets).unwrap_err();
    assert!(why.contains("worker 0 waits for worker 1"), "{why}");
    assert!(why.contains("nothing has moved"), "{why}");
}

/// A panic in one worker ends the job with its words.
#[test]
fn a_panic_is_named() {
    fn fails(worker: &mut Worker, context: &Context) {
        let index = context.index;
        worker.dataflow::<u64, _, _>(|scope| {
            (0..10u64)
                .to_stream(scope)
                .container::<Vec<u64>>()
                .inspect(move |&i| {
                    assert!(index != 1 || i < 5, "record {i} is odd");
                });
        });
    }
    let why = run(sim(2, 3, Faults::default()), fails).unwrap_err();
    assert!(
        why.contains("worker 1") && why.contains("record 5 is odd"),
        "{why}"
    );
}
