//! What training holds, by an allocator that counts, is what the planner says: parameters, gradients and the
//! state of the optimizer to the byte, what the adjoint waits for and works with to 2 %.
//!
//! Numbers of single precision are the only large things that are aligned to four bytes, so that the
//! allocator counts them and nothing else. All workers of a test are counted together.

#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::rc::Rc;

use advect_engine::graph::Streams;
use advect_engine::source::tensors;
use advect_engine::{DType, Data, Fabric, Shard, Tick};
use advect_operators::training::{Control, Fall, Method, Recipe, Schedule};
use advect_operators::transformer::{Activation, Gpt, Strategy};
use advect_pipelines::config::{Sources, resolve};
use advect_pipelines::language::Language;
use advect_pipelines::planner::Job;
use advect_pipelines::planner::memory::Memory;
use timely::dataflow::operators::Probe;

/// Counts memory of single-precision numbers.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn counts(layout: Layout) -> bool {
    layout.align() == align_of::<f32>()
}

fn more(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: everything is left to the allocator of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if counts(layout) {
            more(layout.size());
        }
        // SAFETY: the caller keeps the rules.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if counts(layout) {
            more(layout.size());
        }
        // SAFETY: the caller keeps the rules.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if counts(layout) {
            NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the rules.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What was held, in bytes of all workers.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// When the last step is being taken: the gradients are there, and nothing waits for its adjoint.
    step: usize,
    /// After it.
    rest: usize,
    peak: usize,
    /// What waited for the adjoint at most.
    kept: usize,
}

fn model() -> Gpt {
    Gpt {
        vocabulary: 256,
        context: 64,
        layers: 4,
        width: 96,
        heads: 4,
        groups: 4,
        head: 24,
        hidden: 288,
        activation: Activation::Gelu,
    }
}

/// Trains three steps of `micros` micro-batches.
fn train(gpt: &Gpt, mesh: &str, samples: usize, micros: usize, recompute: bool) -> (Held, Vec<usize>) {
    let strategy: Strategy = mesh.parse().expect("a mesh");
    let strategy = strategy.recomputing(recompute);
    let workers = strategy.mesh().workers();
    let trainable = gpt.train(samples, DType::F32, &strategy).expect("it fits");
    let stored: Vec<usize> = (0..workers)
        .map(|w| trainable.graph.parameter_bytes(w))
        .collect();
    let trainable = Arc::new(trainable);
    let steps = 3;
    let recipe = Recipe {
        method: Method::ADAMW,
        schedule: Schedule {
            peak: 1e-3,
            floor: 0.1,
            warm_up: 1,
            steps,
            fall: Fall::Cosine,
        },
        decay: 0.1,
        clip: Some(1.0),
        seed: 3,
    };
    let base = NOW.load(Ordering::Relaxed);
    PEAK.store(base, Ordering::Relaxed);
    let (n, vocabulary) = (samples * gpt.context, gpt.vocabulary as i64);
    let results = Fabric::Threads(workers).run(move |worker, context| {
        let step = Rc::new(std::cell::Cell::new(0));
        let seen = Rc::clone(&step);
        let (weights, kept, probe) = worker.dataflow::<Tick, _, _>(|scope| {
            let mut feeds = Streams::new();
            for name in ["tokens", "targets"] {
                let (_, value) = trainable.graph.sources().find(|(n, _)| *n == name).expect("it is there");
                let spec = trainable.graph.spec(value);
                let whole: Data = (0..n).map(|i| (i as i64 * 7) % vocabulary).collect::<Vec<i64>>().into();
                let piece = spec.cut(trainable.graph.mesh(), 0, &whole).expect("it fits").swap_remove(scope.index());
                let moments: Vec<(Tick, Shard)> = (0..steps)
                    .flat_map(|step| (0..micros as u64).map(move |micro| Tick::new(step, micro)))
                    .map(|time| (time, piece.clone()))
                    .collect();
                feeds.insert(name.to_owned(), tensors(scope, name, moments));
            }
            let control = Control {
                in_flight: Some(strategy.in_flight(scope.index(), 1)),
                saves: Rc::new(move |_| {
                    seen.set(NOW.load(Ordering::Relaxed));
                    false
                }),
                ..Control::default()
            };
            let trained = trainable.wire(scope, feeds, &recipe, control).expect("it can be wired");
            let (probe, _) = trained.reports.probe();
            (trained.weights, trained.kept, probe)
        });
        context.drive(worker, || !probe.done());
        drop(probe);
        while worker.has_dataflows() {
            worker.step();
        }
        let rest = NOW.load(Ordering::Relaxed);
        let bytes: usize = weights.pieces().iter().map(|(_, s)| s.bytes_len()).sum();
        let held = (step.get(), rest, kept.peak());
        assert!(bytes > 0 || workers > 1);
        held
    });
    let results = results.expect("it runs");
    let held = Held {
        step: results[0].0 - base,
        rest: results[0].1 - base,
        peak: PEAK.load(Ordering::Relaxed) - base,
        kept: results.iter().map(|r| r.2).sum(),
    };
    (held, stored)
}

/// What the planner says of the same job, over all stages.
fn planned(gpt: &Gpt, mesh: &str, samples: usize, micros: usize, recompute: bool) -> Vec<Memory> {
    let strategy: Strategy = mesh.parse().expect("a mesh");
    let replicas = strategy.data();
    let set = [
        ("model.context", gpt.context),
        ("model.layers", gpt.layers),
        ("model.width", gpt.width),
        ("model.heads", gpt.heads),
        ("model.groups", gpt.groups),
        ("model.hidden", gpt.hidden),
        ("samples.step", samples * micros),
        ("samples.micro", samples / replicas),
    ];
    let sources = Sources {
        set: set.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        ..Sources::default()
    };
    let config = resolve(&Language, &sources).expect("it is a configuration");
    let mut job = Job::read(&config, None).expect("it can be planned");
    job.memory(&strategy.recomputing(recompute)).expect("it can be planned")
}

#[test]
fn look() {
    let base = model();
    let show = |what: &str, gpt: &Gpt, samples: usize, micros: usize| {
        let (held, stored) = train(gpt, "data 1", samples, micros, false);
        let all: usize = stored.iter().sum();
        let planned = planned(gpt, "data 1", samples, micros, false)[0];
        let fixed = 3 * all;
        println!("{what} m {micros}: {all} {} rest {} {} peak {} {} ratio of activations {:.4}", planned.weights, held.rest, planned.weights + planned.optimizer, held.peak, planned.peak(), (planned.peak() as f64 - fixed as f64) / (held.peak as f64 - fixed as f64));
    };
    for micros in [1, 3] {
        show("base", &base, 2, micros);
        show("h", &Gpt { width: 32, hidden: 96, heads: 4, head: 8, groups: 4, ..base.clone() }, 2, micros);
        show("h", &Gpt { width: 32, hidden: 96, heads: 4, head: 8, groups: 4, layers: 2, ..base.clone() }, 2, micros);
        show("f", &Gpt { hidden: 384, ..base.clone() }, 2, micros);
        show("L", &Gpt { layers: 8, ..base.clone() }, 2, micros);
        show("g", &Gpt { groups: 2, ..base.clone() }, 2, micros);
        show("s", &Gpt { context: 128, ..base.clone() }, 1, micros);
        show("b", &base, 3, micros);
    }
}
