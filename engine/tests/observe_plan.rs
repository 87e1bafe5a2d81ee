//! Plans are what will run. Families:
//!
//! * `plan_*`: the captured graph has the operators, edges and bytes of the pipeline, and nothing
//!   of it has run.
//! * `bytes_*`: the bytes that a run counts are those that its plan foretold.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use advect_engine::fabric::Context;
use advect_engine::observe::{Options, Plan};
use advect_engine::{
    Batch, DType, Data, EngineError, Fabric, Layout, Mesh, Monoid, Placement, Relayout, Shard,
    relayout,
};
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::core::{Enter, Leave, ToStream};
use timely::dataflow::operators::probe::Probe;
use timely::dataflow::{ProbeHandle, Stream};
use timely::worker::Worker;

/// An all-reduce of 1,000 f32 in two steps.
fn reduction(workers: usize) -> Relayout {
    let mesh = Mesh::line("data", workers);
    let partial = Layout::new([Placement::Partial(Monoid::Sum)]);
    Relayout::plan(&mesh, &[1000], DType::F32, &partial, &Layout::same(&mesh)).unwrap()
}

/// Sums one tensor of each worker, and then looks at the sum within a scope of its own.
fn pipeline(worker: &mut Worker, context: &Context, looked: &Arc<AtomicUsize>) {
    let plan = reduction(context.peers);
    let probe = ProbeHandle::new();
    let looked = Arc::clone(looked);
    worker.dataflow_named::<u64, _, _>("Gradient", |scope| {
        let mine = Shard::new(7, vec![1000], Data::from(vec![1.0f32; 1000]));
        let source: Stream<u64, Batch> = Some(mine).to_stream(scope);
        let sum = relayout(source, &plan);
        let seen = scope.scoped::<u64, _, _>("Look", |inner| {
            let counted = sum.enter(inner).inspect_core(move |event| {
                if event.is_ok() {
                    looked.fetch_add(1, Ordering::Relaxed);
                }
            });
            counted.leave(scope)
        });
        seen.probe_with(&probe);
    });
    context.drive(worker, || !probe.done());
}

/// The plan has the pipeline's operators under the names a user knows, streams pass the borders of
/// scopes, bytes are those of the relayout, and nothing has run.
#[test]
fn plan_is_the_graph() {
    for workers in [1, 2, 4] {
        let looked = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&looked);
        let plan = Plan::capture(workers, move |w, c| pipeline(w, c, &seen)).unwrap();
        assert_eq!(looked.load(Ordering::Relaxed), 0);
        assert_eq!(plan.workers, workers);
        let relayout = reduction(workers);
        let planned: Vec<u64> = (0..workers)
            .map(|w| {
                let cuts = plan.nodes.iter().filter(|n| n.name.ends_with(": cut"));
                cuts.map(|n| n.bytes[w]).sum()
            })
            .collect();
        let foretold: Vec<u64> = (0..workers)
            .map(|w| relayout.bytes_sent(w) as u64)
            .collect();
        assert_eq!(planned, foretold);
        let name = |address: &[usize]| plan.node(address).unwrap().name.as_str();
        let edges: BTreeSet<(&str, &str)> = plan
            .edges
            .iter()
            .map(|e| (name(&e.from.0), name(&e.to.0)))
            .collect();
        let chain = [
            "ToStreamBuilder",
            "Relayout data: Partial(Sum)→Split(0): cut",
            "Relayout data: Partial(Sum)→Split(0): assemble",
            "Relayout data: Split(0)→Same: cut",
            "Relayout data: Split(0)→Same: assemble",
            "Inspect",
            "Probe",
        ];
        assert_eq!(edges, chain.windows(2).map(|w| (w[0], w[1])).collect());
        assert!(plan.edges.iter().all(|e| e.carries == "Batch"));
    }
}

/// The text shows scopes as steps of indentation and bytes on the edges that have them; the
/// picture declares every node that it connects, and closes what it opens.
#[test]
fn plan_prints() {
    let looked = Arc::new(AtomicUsize::new(0));
    let plan = Plan::capture(4, move |w, c| pipeline(w, c, &looked)).unwrap();
    let text = plan.to_text();
    assert!(text.starts_with("4 workers\nGradient\n  1 ToStreamBuilder\n    -> 2 Relayout data"));
    assert!(
        text.contains("assemble: Batch, 2.9 KiB a worker, 11.7 KiB in all"),
        "{text}"
    );
    assert!(text.contains("  6 Look\n    1 Inspect\n"), "{text}");
    let dot = plan.to_dot();
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    assert!(dot.contains("label=\"Look\""));
    for edge in &plan.edges {
        for (address, _) in [&edge.from, &edge.to] {
            let id: Vec<String> = address.iter().map(usize::to_string).collect();
            assert!(dot.contains(&format!(" n{} [label=", id.join("_"))));
        }
    }
}

/// A pipeline that wires differently from worker to worker is told so.
#[test]
fn plan_differs() {
    let plan = Plan::capture(2, |worker, context| {
        let name = format!("Dataflow of {}", context.index);
        worker.dataflow_named::<u64, _, _>(&name, |scope| {
            Some(1u64).to_stream(scope).container::<Vec<u64>>();
        });
    });
    let message = plan.unwrap_err().to_string();
    assert!(
        message.contains("worker 1") && message.contains("another graph"),
        "{message}"
    );
}

/// A pipeline that fails while it is wired says why.
#[test]
fn plan_fails() {
    let plan = Plan::capture(2, |_, _| -> () { panic!("no such file") });
    assert!(matches!(plan, Err(EngineError::Worker { why, .. }) if why.contains("no such file")));
}

/// Every worker counts the bytes that the plan foretold, and shows them.
#[test]
fn bytes_as_foretold() {
    use std::io::{Read, Write};
    let options = Options::default().metrics("127.0.0.1:0");
    let got = Fabric::Threads(4).run_with(&options, |worker, context| {
        pipeline(worker, context, &Arc::new(AtomicUsize::new(0)));
        // the log of the last step has been handed over when the worker has slept
        while worker.has_dataflows() {
            worker.step();
        }
        let mut socket = std::net::TcpStream::connect(context.metrics().unwrap()).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let mine = format!("worker=\"{}\"", context.index);
        let lines = answer
            .lines()
            .filter(|l| l.starts_with("advect_operator_bytes_total") && l.contains(&mine));
        let bytes: u64 = lines
            .map(|l| l.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum();
        (bytes, reduction(4).bytes_sent(context.index) as u64)
    });
    for (counted, foretold) in got.unwrap() {
        assert_eq!(counted, foretold);
    }
}
