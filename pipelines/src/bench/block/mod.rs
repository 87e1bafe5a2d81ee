//! A training step (forward, backward, gradients of everything) of a transformer block, and of full
//! attention alone, beside PyTorch.
//!
//! Both sides read the same numbers from files and run in processes of their own, which take turns; the
//! first turn compares outputs and gradients. Ours is the dataflow of the graph that a training job would
//! wire. MKL, which PyTorch multiplies matrices by, keeps to AVX2 on processors that are not Intel's; so there
//! is a second reference, in which it is told otherwise. Memory is the peak of what is resident in a process above what was resident before there was any
//! tensor: the kernel's own count, whose peak is reset at that point.

mod step;

use std::collections::BTreeMap;

use advect_engine::Shard;

use self::step::Part;
pub(in crate::bench) use self::step::{SEED, gpt, sources, steps};
use super::cost::Cost;
use super::files::Folder;
use super::{BenchError, Figure, Options, Report, peer};

const NAME: &str = "block";
/// The greatest difference between both sides, relative to the largest entry of a tensor.
const TOLERANCE: f64 = 1e-4;
/// Asks the reference to tell MKL that the processor is Intel's.
const UNLOCKED: &str = "unlocked";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A block of GPT, with causal attention.
    Block,
    /// Attention that sees everything.
    Attention,
}

/// One set of extents.
#[derive(Debug, Clone, Copy)]
struct Case {
    kind: Kind,
    samples: usize,
    positions: usize,
    /// Heads are 64 wide.
    width: usize,
}

/// Who does the work.
#[derive(Debug, Clone, Copy)]
struct Crew {
    /// Workers that cut the batch.
    workers: usize,
    /// Threads of an operator.
    threads: usize,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Block => "block",
            Kind::Attention => "attention",
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case {
            samples,
            positions,
            width,
            ..
        } = self;
        match self.kind {
            Kind::Block => write!(f, "block {samples} x {positions} x {width}"),
            Kind::Attention => write!(f, "attention {positions}, {} heads", width / step::HEAD),
        }
    }
}

fn cases(quick: bool) -> Vec<Case> {
    let case = |kind, samples, positions, width| Case {
        kind,
        samples,
        positions,
        width,
    };
    if quick {
        return vec![
            case(Kind::Block, 2, 128, 128),
            case(Kind::Attention, 1, 512, 128),
        ];
    }
    let blocks = [256, 512, 768].map(|width| case(Kind::Block, 8, 1024, width));
    let attention = [1024, 2048, 4096].map(|t| case(Kind::Attention, 1, t, 512));
    [blocks, attention].concat()
}

/// Measures, and gives the figures to the report.
///
/// # Errors
/// If a process fails, or the results of both sides differ.
pub(super) fn run(options: &Options, report: &mut Report) -> std::result::Result<(), BenchError> {
    if let Some(part) = Part::of_this_process()? {
        return part.measure(report);
    }
    let (turns, steps) = if options.quick { (1, 2) } else { (3, 4) };
    let mut attention = Vec::new();
    for case in cases(options.quick) {
        let cost = measure(case, turns, steps, options, report)?;
        if case.kind == Kind::Attention {
            attention.push((case, cost));
        }
    }
    if let [(short, little), .., (long, much)] = attention.as_slice() {
        // linear is the ratio of the lengths, and scores of all pairs would be its square
        let grown = much.memory / little.memory;
        let longer = long.positions as f64 / short.positions as f64;
        let (a, b) = (short.positions, long.positions);
        let case = format!("memory of attention from {a} to {b} positions / linear");
        report.give(Figure::new(NAME, case, 100.0 * grown, "%").beside(100.0 * longer));
    }
    Ok(())
}

fn measure(
    case: Case,
    turns: usize,
    steps: usize,
    options: &Options,
    report: &mut Report,
) -> std::result::Result<Cost, BenchError> {
    let folder = Folder::new(NAME)?;
    let numbers = sources(&step::graph(case, 1).map_err(engine)?).into_iter();
    let numbers = numbers.map(|(name, shard)| (name, shard.into_data()));
    folder.write(&numbers.collect())?;
    let mut crews = vec![(1, 1), (1, 2)];
    if case.kind == Kind::Block {
        crews.push((2, 1));
    }
    let crews: Vec<Crew> = (crews.into_iter())
        .map(|(workers, threads)| Crew { workers, threads })
        .collect();
    let mut ours: Vec<Option<Cost>> = vec![None; crews.len()];
    let mut theirs: Vec<[Option<Cost>; 2]> = vec![[None; 2]; crews.len()];
    for turn in 0..turns {
        for (i, &crew) in crews.iter().enumerate() {
            let write = turn == 0 && i == 0;
            let part = Part::new(case, crew, steps, folder.path(), write);
            ours[i] = Cost::better(ours[i], Cost::of(&part.alone(options)?));
            if crew.workers > 1 {
                continue;
            }
            for (extra, theirs) in ["", UNLOCKED].into_iter().zip(&mut theirs[i]) {
                let arguments = part.arguments();
                let words = arguments.iter().map(String::as_str).chain([extra]);
                let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
                let found = peer(NAME, &words, options, report).unwrap_or_default();
                *theirs = Cost::better(*theirs, Cost::of(&found));
            }
            if write && theirs[i][0].is_some() {
                let apart = folder.difference(TOLERANCE)?;
                let what = "largest difference of outputs and gradients to PyTorch";
                report.give(Figure::new(NAME, format!("{case}: {what}"), apart, "of 1"));
            }
        }
    }
    let mut found = Vec::new();
    for ((crew, ours), theirs) in crews.iter().zip(ours).zip(&theirs) {
        let ours = ours.ok_or_else(|| BenchError::failed(NAME, "a process gave no figures"))?;
        if crew.workers == 1 {
            give(case, *crew, ours, theirs, report);
        }
        found.push(ours);
    }
    if let [_, threads, workers] = found.as_slice() {
        let what = "2 workers of 1 thread / 1 worker of 2";
        let figure = Figure::new(
            NAME,
            format!("{case}: {what}"),
            1e3 / workers.time,
            "steps/s",
        );
        report.give(figure.beside(1e3 / threads.time));
    }
    found
        .first()
        .copied()
        .ok_or_else(|| BenchError::failed(NAME, "there is no crew"))
}

fn give(case: Case, crew: Crew, ours: Cost, theirs: &[Option<Cost>; 2], report: &mut Report) {
    let threads = match crew.threads {
        1 => "1 thread".to_owned(),
        n => format!("{n} threads"),
    };
    let [as_it_is, unlocked] = theirs;
    let mut figures = vec![("step", "PyTorch", ours.time, "ms", as_it_is.map(|t| t.time))];
    if let Some(unlocked) = unlocked {
        let rival = "PyTorch unlocked";
        figures.push(("step", rival, ours.time, "ms", Some(unlocked.time)));
    }
    figures.push((
        "memory",
        "PyTorch",
        ours.memory,
        "MB",
        as_it_is.map(|t| t.memory),
    ));
    for (what, rival, value, unit, reference) in figures {
        let name = format!("{case}: {what}, {threads}");
        report.give(match reference {
            Some(reference) => {
                Figure::new(NAME, format!("{name} / {rival}"), value, unit).beside(reference)
            }
            None => Figure::new(NAME, name, value, unit),
        });
    }
}

fn engine(source: advect_engine::EngineError) -> BenchError {
    BenchError::Engine {
        bench: NAME,
        source,
    }
}

/// Pieces of tensors by name and worker.
type Tensors = BTreeMap<String, Vec<Shard>>;
/// What the engine answers.
type Result<T> = std::result::Result<T, advect_engine::EngineError>;
