//! `bubbles`: how long stages of a pipeline wait, on the clock and by the closed forms.
//!
//! A chain of operators, one (or two, interleaved) on each of four stages, does nothing but take 10 ms
//! on the way forward, 10 for the cotangent of what moves and 10 for that of its parameter. Time is from
//! the first of them to the last, and a stage waits when it does none of them; a slot is what they really
//! took, for a system wakes late. The reference is the closed form of the schedule: Narayanan et al.
//! (2021) for 1F1B and interleaving, Qi et al. (2023) for ZB-H1; `advect bench planner` holds the same
//! schedules to them in virtual time, where they are met exactly.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use advect_engine::graph::{Saved, Site, Streams, Wiring};
use advect_engine::source::tensors;
use advect_engine::{
    DType, EngineError, Fabric, Graph, Layout, Mesh, Operator, Placement, Result, Shard, Spec, Tick,
};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;

use super::{BenchError, Figure, Options, Report, median};

const NAME: &str = "bubbles";
/// p.
const STAGES: usize = 4;
/// Time of each action.
const SLOT: Duration = Duration::from_millis(10);

/// What was done: from when, to when, and for how long all in all.
#[derive(Debug, Clone, Copy)]
struct Done {
    first: Instant,
    last: Instant,
    busy: Duration,
}

type Span = Arc<Mutex<Option<Done>>>;

/// Takes time: y = x, whatever the parameter.
#[derive(Debug)]
struct Slow {
    slot: Duration,
    span: Span,
}

impl Slow {
    fn take(&self, slots: u32) {
        let begun = Instant::now();
        std::thread::sleep(self.slot * slots);
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        let last = Instant::now();
        let before = span.map_or((begun, Duration::ZERO), |done| (done.first, done.busy));
        *span = Some(Done {
            first: before.0.min(begun),
            last,
            busy: before.1 + (last - begun),
        });
    }
}

impl Operator for Slow {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs[..1].to_vec())
    }

    fn forward(&self, _: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        self.take(1);
        Ok((inputs[..1].to_vec(), Saved::nothing()))
    }

    fn separable(&self) -> bool {
        true
    }

    fn tangent(&self, _: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(tangents[..1].to_vec())
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        self.take(wanted.iter().map(|w| u32::from(*w)).sum());
        let zero = || site.inputs()[1].zero(site.mesh(), site.worker(), site.key());
        Ok(vec![
            wanted[0].then(|| cotangents[0].clone()),
            wanted[1].then(zero),
        ])
    }
}

/// A schedule, and its bubble in units of F = B = W for p stages and m micro-batches.
struct Case {
    name: &'static str,
    chunks: usize,
    /// Micro-batches in work on a stage, and with those that wait for W.
    limits: fn(usize, usize) -> (Option<usize>, Option<usize>),
    /// Slots of a step: all that a stage has to do, and all it waits for.
    form: fn(f64, f64) -> (f64, f64),
}

const CASES: [Case; 4] = [
    Case {
        name: "GPipe",
        chunks: 1,
        limits: |_, _| (None, None),
        form: |p, m| (3.0 * m, 3.0 * (p - 1.0)),
    },
    Case {
        name: "1F1B",
        chunks: 1,
        limits: |p, i| (Some(p - i), None),
        form: |p, m| (3.0 * m, 3.0 * (p - 1.0)),
    },
    Case {
        name: "interleaved, 2 chunks",
        chunks: 2,
        limits: |p, _| (Some(2 * p), None),
        form: |p, m| (6.0 * m, 3.0 * (p - 1.0)),
    },
    Case {
        name: "ZB-H1",
        chunks: 1,
        limits: |p, i| (Some(p - i), Some(p)),
        form: |p, m| (3.0 * m, p - 1.0),
    },
];

/// Measures, and gives the figures to the report.
pub(super) fn run(options: &Options, report: &mut Report) -> std::result::Result<(), BenchError> {
    let (turns, micros) = if options.quick { (1, 8) } else { (3, 16) };
    for case in CASES {
        let (works, waits) = (case.form)(STAGES as f64, micros as f64);
        let (mut found, mut idle) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            let done = step(&case, micros).map_err(|source| BenchError::Engine {
                bench: NAME,
                source,
            })?;
            let took = (done.last - done.first).as_secs_f64();
            let busy = done.busy.as_secs_f64() / STAGES as f64;
            found.push(took / busy * works);
            idle.push(100.0 * (1.0 - busy / took));
        }
        let what = format!(
            "a step of {}, {STAGES} stages, {micros} micro-batches",
            case.name
        );
        let form = works + waits;
        report.give(
            Figure::new(
                NAME,
                format!("{what} / closed form"),
                median(&found),
                "slots",
            )
            .beside(form),
        );
        report.give(
            Figure::new(
                NAME,
                format!("waits in {what} / closed form"),
                median(&idle),
                "%",
            )
            .beside(100.0 * waits / form),
        );
    }
    Ok(())
}

/// From the first action of a step to the last.
fn step(case: &Case, micros: usize) -> Result<Done> {
    let span = Span::default();
    let mesh = Mesh::line("stage", STAGES);
    let at = |at: usize| Layout::new([Placement::At { at }]);
    let mut graph = Graph::new(mesh);
    let mut x = graph.input("x", Spec::new([1], DType::F64, at(0)))?;
    let mut parameters = Vec::new();
    for chunk in 0..STAGES * case.chunks {
        let (here, name) = (at(chunk % STAGES), format!("w{chunk}"));
        x = graph.relayout(x, &here)?;
        let w = graph.parameter(&name, Spec::new([1], DType::F64, here))?;
        let slow = Slow {
            slot: SLOT,
            span: Arc::clone(&span),
        };
        x = graph.apply(&format!("chunk {chunk}"), slow, &[x, w])?;
        parameters.push(name);
    }
    graph.output("y", x)?;
    let limits = case.limits;
    let outcome = Fabric::Threads(STAGES).run(move |worker, context| {
        let probe = ProbeHandle::<Tick>::new();
        let (in_flight, deferred) = limits(STAGES, context.index);
        let wiring = Wiring {
            in_flight,
            deferred,
            ..Wiring::default()
        };
        let wired = worker.dataflow::<Tick, _, _>(|scope| {
            let feed = |name: &str, count: usize| {
                let value = graph.sources().find(|(n, _)| *n == name).map(|(_, v)| v);
                let spec = graph.spec(value.unwrap_or(x)).clone();
                let piece = spec.zero(graph.mesh(), scope.index(), 0);
                let moments = (0..count as u64).map(|micro| (Tick::new(0, micro), piece.clone()));
                (name.to_owned(), tensors(scope, name, moments.collect()))
            };
            let mut feeds: Streams<'_, Tick> =
                parameters.iter().map(|name| feed(name, 1)).collect();
            feeds.extend([feed("x", micros)]);
            let wired = graph.wire_with(feeds, wiring)?;
            let seeds = Streams::from([("y".to_owned(), wired.stream(x))]);
            // the cotangent of x too, so that all stages have the same to do
            let names = parameters.iter().map(String::as_str).chain(["x"]);
            let names: Vec<&str> = names.collect();
            for stream in graph.backward(&wired, seeds, &names)?.into_values() {
                stream.probe_with(&probe);
            }
            Ok::<(), EngineError>(())
        });
        if let Err(e) = wired {
            panic!("{e}");
        }
        context.drive(worker, || !probe.done());
    });
    outcome?;
    let span = *span.lock().unwrap_or_else(PoisonError::into_inner);
    span.ok_or_else(|| EngineError::Operator {
        operator: NAME.to_owned(),
        why: "nothing was done".to_owned(),
    })
}
