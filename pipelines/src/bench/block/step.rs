//! Our side: steps of a graph and its adjoint as a dataflow, in a process of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use advect_engine::fabric::Context;
use advect_engine::graph::Streams;
use advect_engine::{
    Batch, DType, EngineError, Fabric, Graph, Layout, Mesh, Placement, Shard, Spec, relayout,
    threads,
};
use advect_operators::attention::Attention;
use advect_operators::training::Initial;
use advect_operators::transformer::{Activation, Gpt, Role, Strategy, Style};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::{Input as _, Inspect, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;

use super::{Case, Crew, Kind, NAME, Result, engine};
use crate::bench::cost::alone;
use crate::bench::{BenchError, Figure, Options, Report, files, memory};

/// Width of a head.
pub(super) const HEAD: usize = 64;
/// Tells a process that it is to measure: the arguments of the reference, and the workers.
const PART: &str = "ADVECT_BENCH_BLOCK";
/// The cotangent of the output.
pub(in crate::bench) const SEED: &str = "seed";

/// The graph of a case, on workers that cut the batch.
pub(super) fn graph(case: Case, workers: usize) -> Result<Graph> {
    let heads = case.width / HEAD;
    if case.kind == Kind::Attention {
        let mut graph = Graph::new(Mesh::line("data", workers));
        let layout = Layout::new([Placement::Split { dim: 0 }]);
        let (b, t) = (case.samples, case.positions);
        let mut input = |name: &str, shape: [usize; 5]| {
            graph.input(name, Spec::new(shape, DType::F32, layout.clone()))
        };
        let q = input("q", [b, t, heads, 1, HEAD])?;
        let kv = input("kv", [b, t, 2, heads, HEAD])?;
        let y = graph.apply("attention", Attention::FULL, &[q, kv])?;
        graph.output("y", y)?;
        return Ok(graph);
    }
    let strategy = Strategy::new(&[(Role::Data, workers)])?;
    let gpt = gpt(1, case.width, HEAD, case.positions);
    Ok(gpt.blocks(case.samples, DType::F32, &strategy)?.graph)
}

/// Blocks of GPT-2 with heads of `head`.
pub(in crate::bench) fn gpt(layers: usize, width: usize, head: usize, context: usize) -> Gpt {
    Gpt {
        vocabulary: 1,
        context,
        layers,
        width,
        heads: width / head,
        groups: width / head,
        head,
        hidden: 4 * width,
        activation: Activation::Gelu,
        style: Style::GPT2,
    }
}

/// Numbers of every source of a graph for one worker, and of the cotangent of its output.
pub(in crate::bench) fn sources(graph: &Graph) -> BTreeMap<String, Shard> {
    let output = graph.outputs().map(|(_, value)| (SEED, value));
    let tensors = graph.sources().chain(output).map(|(name, value)| {
        // weights as a network starts, and gains around what they start from
        let deviation = match name {
            _ if name.ends_with(".weight") => 0.02,
            _ if name.ends_with(".bias") || name.ends_with(".shift") => 0.1,
            _ => 1.0,
        };
        let spec = graph.spec(value);
        let start = Initial::Normal { deviation };
        (name.to_owned(), start.piece(1, name, spec, graph.mesh(), 0))
    });
    tensors.collect()
}

/// What one process measures.
#[derive(Debug)]
pub(super) struct Part {
    case: Case,
    crew: Crew,
    steps: usize,
    folder: PathBuf,
    /// Whether results are written.
    write: bool,
}

impl Part {
    pub(super) fn new(case: Case, crew: Crew, steps: usize, folder: &Path, write: bool) -> Self {
        Part {
            case,
            crew,
            steps,
            folder: folder.to_owned(),
            write,
        }
    }

    /// The arguments of the reference.
    pub(super) fn arguments(&self) -> Vec<String> {
        let case = self.case;
        let numbers = [
            case.samples,
            case.positions,
            case.width,
            self.crew.threads,
            self.steps,
        ];
        let mut all = vec![case.kind.name().to_owned()];
        all.extend(numbers.map(|n| n.to_string()));
        all.push(self.folder.display().to_string());
        all.push(u8::from(self.write).to_string());
        all
    }

    /// Measures in another process of this program.
    pub(super) fn alone(&self, options: &Options) -> std::result::Result<Vec<Figure>, BenchError> {
        let workers = self.crew.workers.to_string();
        let all = [self.arguments(), vec![workers]].concat();
        alone(NAME, (PART, all.join("\n")), options)
    }

    /// The part of this process, if it was started for one.
    pub(super) fn of_this_process() -> std::result::Result<Option<Self>, BenchError> {
        let Ok(text) = std::env::var(PART) else {
            return Ok(None);
        };
        let bad = || BenchError::failed(NAME, format!("{PART} is no part: {text:?}"));
        let words: Vec<&str> = text.lines().collect();
        let &[
            kind,
            samples,
            positions,
            width,
            threads,
            steps,
            folder,
            write,
            workers,
        ] = words.as_slice()
        else {
            return Err(bad());
        };
        let number = |word: &str| word.parse::<usize>().map_err(|_| bad());
        let kinds = [Kind::Block, Kind::Attention];
        let kind = kinds.into_iter().find(|k| k.name() == kind);
        Ok(Some(Part {
            case: Case {
                kind: kind.ok_or_else(bad)?,
                samples: number(samples)?,
                positions: number(positions)?,
                width: number(width)?,
            },
            crew: Crew {
                workers: number(workers)?,
                threads: number(threads)?,
            },
            steps: number(steps)?,
            folder: folder.into(),
            write: write == "1",
        }))
    }

    /// Measures, and gives figures named as those of the reference.
    pub(super) fn measure(&self, report: &mut Report) -> std::result::Result<(), BenchError> {
        let before = memory::resident().map_err(|e| BenchError::failed(NAME, e))?;
        threads::fix(self.crew.threads);
        let graph = graph(self.case, self.crew.workers).map_err(engine)?;
        let mut pieces = BTreeMap::new();
        let output = graph.outputs().map(|(_, value)| (SEED, value));
        for (name, value) in graph.sources().chain(output) {
            let data = files::read(NAME, &self.folder, name)?;
            let cut = graph.spec(value).cut(graph.mesh(), 0, &data);
            pieces.insert(name.to_owned(), cut.map_err(engine)?);
        }
        let (times, results) = steps(&graph, pieces, self.steps).map_err(engine)?;
        for time in times {
            report.give(Figure::new(NAME, "step", time, "ms"));
        }
        let peak = memory::peak().map_err(|e| BenchError::failed(NAME, e))?;
        let above = peak.saturating_sub(before) as f64 / 1e6;
        report.give(Figure::new(NAME, "memory", above, "MB"));
        if self.write {
            for (name, shard) in results {
                files::write_ours(NAME, &self.folder, &name, shard.data())?;
            }
        }
        Ok(())
    }
}

type Results = BTreeMap<String, Shard>;

/// Milliseconds of `count` steps after a first one, or of the first if there are none, and what the last one gave on
/// the first worker.
pub(in crate::bench) fn steps(
    graph: &Graph,
    pieces: super::Tensors,
    count: usize,
) -> Result<(Vec<f64>, Results)> {
    let fabric = Fabric::Threads(graph.mesh().workers());
    let (graph, pieces) = (graph.clone(), Arc::new(pieces));
    let all =
        fabric.run(move |worker, context| on_worker(worker, context, &graph, &pieces, count))?;
    (all.into_iter().next()).unwrap_or_else(|| Ok((Vec::new(), Results::new())))
}

type Handle = InputHandle<u64, CapacityContainerBuilder<Batch>>;

fn on_worker(
    worker: &mut Worker,
    context: &Context,
    graph: &Graph,
    pieces: &super::Tensors,
    count: usize,
) -> Result<(Vec<f64>, Results)> {
    let mut inputs: BTreeMap<&String, Handle> =
        pieces.keys().map(|name| (name, Handle::new())).collect();
    let probe = ProbeHandle::<u64>::new();
    let results: Rc<RefCell<Results>> = Rc::default();
    worker.dataflow::<u64, _, _>(|scope| {
        let mut feeds: Streams<'_, u64> = (inputs.iter_mut())
            .map(|(name, input)| ((*name).clone(), scope.input_from(input)))
            .collect();
        let seed = feeds.remove(SEED).ok_or_else(|| missing(SEED))?;
        let wired = graph.wire(feeds)?;
        let names: Vec<&str> = graph.sources().map(|(name, _)| name).collect();
        let mut found = wired.outputs();
        let (output, _) = found.first_key_value().ok_or_else(|| missing("y"))?;
        let seeds = Streams::from([(output.clone(), seed)]);
        let cotangents = graph.backward(&wired, seeds, &names)?;
        for (name, value) in graph.sources() {
            let cotangent = cotangents.get(name).ok_or_else(|| missing(name))?.clone();
            // as a training job does: to where the tensor is stored
            let spec = graph.spec(value);
            let reduction = spec.dual()?.relayout(graph.mesh(), &spec.layout)?;
            found.insert(name.to_owned(), relayout(cotangent, &reduction));
        }
        for (name, stream) in found {
            let results = Rc::clone(&results);
            let seen = stream.inspect_core(move |event| {
                if let Ok((_, batch)) = event {
                    let shards = batch.shards.iter().cloned();
                    results
                        .borrow_mut()
                        .extend(shards.map(|s| (name.clone(), s)));
                }
            });
            seen.probe_with(&probe);
        }
        Ok::<(), EngineError>(())
    })?;
    let mut times = Vec::with_capacity(count);
    for step in 0..=count as u64 {
        let next = step + 1;
        let begun = Instant::now();
        results.borrow_mut().clear();
        for (name, input) in &mut inputs {
            input.send(pieces[*name][context.index].clone());
            input.advance_to(next);
        }
        context.drive(worker, || probe.less_than(&next));
        // one that is brought from a device comes after all that was begun there
        let results = results.borrow();
        let least = results.values().min_by_key(|shard| shard.len());
        let _ = least.map(|shard| shard.data());
        if step > 0 || count == 0 {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok((times, results.take()))
}

fn missing(name: &str) -> EngineError {
    EngineError::Operator {
        operator: NAME.to_owned(),
        why: format!("the graph has no '{name}'"),
    }
}
