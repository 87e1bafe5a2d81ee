//! `bubbles`: how long stages of a pipeline wait, on the clock and by the closed forms.
//!
//! A chain of operators, one (or two, interleaved) on each of four stages, does nothing but take 10 ms
//! on the way forward, 10 for the cotangent of what moves and 10 for that of its parameter. Time is from
//! the first of them to the last; a slot is what they really took, for a system wakes late. A stage waits while it does
//! none of them and that on which its next one works has not been made; what else lies between two, messages, progress and
//! the choice of the next, makes a step longer and is no waiting. The reference is the closed form of the schedule: Narayanan et al.
//! (2021) for 1F1B and interleaving, Qi et al. (2023) for ZB-H1; `advect bench planner` holds the same
//! schedules to them in virtual time, where they are met exactly.

use std::collections::BTreeMap;
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

/// What an operator does with a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Forward,
    Backward,
    /// The cotangent of its parameter, later.
    Weight,
}

/// Something that was done on a stage, of one micro-batch in one place of the chain.
#[derive(Debug, Clone, Copy)]
struct Action {
    stage: usize,
    kind: Kind,
    chunk: usize,
    micro: u64,
    begun: Instant,
    ended: Instant,
}

impl Action {
    /// What it works on, if that is made by an action: its kind, chunk and micro-batch.
    fn needs(&self, chunks: usize) -> Option<(Kind, usize, u64)> {
        let (kind, chunk) = match self.kind {
            Kind::Forward => (Kind::Forward, self.chunk.checked_sub(1)?),
            Kind::Backward if self.chunk + 1 < chunks => (Kind::Backward, self.chunk + 1),
            Kind::Backward => (Kind::Forward, self.chunk),
            Kind::Weight => (Kind::Backward, self.chunk),
        };
        Some((kind, chunk, self.micro))
    }
}

type Actions = Arc<Mutex<Vec<Action>>>;

/// Takes time: y = x, whatever the parameter.
#[derive(Debug)]
struct Slow {
    chunk: usize,
    actions: Actions,
}

impl Slow {
    fn take(&self, site: &Site, kind: Kind, slots: u32) {
        let begun = Instant::now();
        std::thread::sleep(SLOT * slots);
        let action = Action {
            stage: site.worker(),
            kind,
            chunk: self.chunk,
            micro: site.moment()[1],
            begun,
            ended: Instant::now(),
        };
        let actions = self.actions.lock();
        actions.unwrap_or_else(PoisonError::into_inner).push(action);
    }
}

impl Operator for Slow {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs[..1].to_vec())
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        self.take(site, Kind::Forward, 1);
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
        let kind = if wanted[0] {
            Kind::Backward
        } else {
            Kind::Weight
        };
        self.take(site, kind, wanted.iter().map(|w| u32::from(*w)).sum());
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
    /// Micro-batches in work on a stage, once for each chunk of it, and with those that wait for W.
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
        limits: |p, i| (Some(2 * (p - 1 - i) + p + 1), None),
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
    let (turns, micros) = if options.quick { (1, 8) } else { (5, 16) };
    for case in CASES {
        let (works, waits) = (case.form)(STAGES as f64, micros as f64);
        let (mut found, mut idle) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            let actions = step(&case, micros).map_err(|source| BenchError::Engine {
                bench: NAME,
                source,
            })?;
            let [took, busy, waited] = times(&actions, STAGES * case.chunks);
            found.push(took / busy * works);
            idle.push(100.0 * waited / took);
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

/// Seconds of a step, and what a stage worked and waited of it on average.
fn times(actions: &[Action], chunks: usize) -> [f64; 3] {
    let Some(start) = actions.iter().map(|a| a.begun).min() else {
        return [0.0; 3];
    };
    let seconds = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
    let end = actions.iter().map(|a| seconds(a.ended)).fold(0.0, f64::max);
    let made: BTreeMap<_, f64> = actions
        .iter()
        .map(|a| ((a.kind, a.chunk, a.micro), seconds(a.ended)))
        .collect();
    let (mut busy, mut waited) = (0.0, 0.0);
    for stage in 0..STAGES {
        let mut own: Vec<&Action> = actions.iter().filter(|a| a.stage == stage).collect();
        own.sort_by_key(|a| a.begun);
        let mut free = 0.0;
        for action in own {
            let there = action.needs(chunks).and_then(|needs| made.get(&needs));
            waited += there.map_or(0.0, |there| (there - free).max(0.0));
            busy += seconds(action.ended) - seconds(action.begun);
            free = seconds(action.ended);
        }
        waited += end - free;
    }
    [end, busy / STAGES as f64, waited / STAGES as f64]
}

/// What was done in one step.
fn step(case: &Case, micros: usize) -> Result<Vec<Action>> {
    let actions = Actions::default();
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
            chunk,
            actions: Arc::clone(&actions),
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
    let mut actions = actions.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *actions))
}
