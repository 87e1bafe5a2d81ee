//! Evoformer attention, forward and back, with a mask and a bias that all rows share: gradients against
//! differences, results against the plain form in double precision, and time and memory beside the plain form,
//! here and in PyTorch.
//!
//! The plain form has the scores of all rows at once, as the operator had before it was fused (Song et al. 2023,
//! *DeepSpeed4Science*, arXiv 2310.04610, whose tests have the two shapes). All sides read the same numbers from
//! files and run in processes of their own, which take turns. As in the benchmark of blocks, there is a second
//! reference that uses AVX-512 on processors that are not Intel's, and memory is the peak of what is resident above
//! what was resident before there was any tensor.

mod check;
mod part;
mod plain;

use std::collections::BTreeMap;

use advect_engine::{DType, Data, Graph, Layout, Mesh, Spec};
use advect_operators::evoformer::{Along, EvoformerAttention};
use advect_operators::training::Initial;

use self::part::{Kind, Part};
use super::cost::Cost;
use super::files::Folder;
use super::{BenchError, Figure, Options, Report, peer};

const NAME: &str = "evoformer";
/// The greatest difference to PyTorch, relative to the largest entry of a tensor.
const TOLERANCE: f64 = 1e-4;
/// How many times below the plain form the peak of memory is to be: what the paper claims.
const SAVING: f64 = 13.0;
/// Asks the reference to tell MKL that the processor is Intel's.
const UNLOCKED: &str = "unlocked";
/// The cotangent of the output.
const SEED: &str = "seed";

/// Extents of attention along rows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Case {
    batch: usize,
    rows: usize,
    length: usize,
    heads: usize,
    width: usize,
}

impl Case {
    const fn new([batch, rows, length, heads, width]: [usize; 5]) -> Self {
        Case {
            batch,
            rows,
            length,
            heads,
            width,
        }
    }

    fn extents(&self) -> [usize; 5] {
        [self.batch, self.rows, self.length, self.heads, self.width]
    }

    /// Shapes of the sources by name, and of the cotangent of the output.
    fn shapes(&self) -> [(&'static str, Vec<usize>); 6] {
        let [b, n, l, h, _] = self.extents();
        let whole = self.extents().to_vec();
        [
            ("q", whole.clone()),
            ("k", whole.clone()),
            ("v", whole.clone()),
            ("mask", vec![b, n, l]),
            ("bias", vec![b, l, l, h]),
            (SEED, whole),
        ]
    }

    /// Normal numbers; of the mask, half are 0 and the others 1.
    fn numbers(&self) -> Result<BTreeMap<String, Data>, BenchError> {
        let mesh = Mesh::line("one", 1);
        let tensors = self.shapes().into_iter().map(|(name, shape)| {
            let spec = Spec::new(shape, DType::F32, Layout::same(&mesh));
            let normal = Initial::Normal { deviation: 1.0 };
            let mut data = normal.piece(1, name, &spec, &mesh, 0).into_data();
            if name == "mask" {
                let numbers = data.get_mut::<f32>().into_iter().flatten();
                numbers.for_each(|x| *x = f32::from(*x > 0.0));
            }
            (name.to_owned(), data)
        });
        Ok(tensors.collect())
    }

    /// The graph, on one worker.
    fn graph(&self, dtype: DType) -> advect_engine::Result<Graph> {
        let mut graph = Graph::new(Mesh::line("one", 1));
        let layout = Layout::same(graph.mesh());
        let mut sources = Vec::new();
        for (name, shape) in self.shapes().into_iter().take(5) {
            let dtype = if name == "mask" { DType::I64 } else { dtype };
            sources.push(graph.input(name, Spec::new(shape, dtype, layout.clone()))?);
        }
        let attention = EvoformerAttention::new(Along::Rows).masked().biased();
        let y = match dtype {
            DType::BF16 => {
                let mixed = advect_engine::graph::Mixed::of(attention);
                graph.apply("attention", mixed, &sources)?
            }
            _ => graph.apply("attention", attention, &sources)?,
        };
        graph.output("y", y)?;
        Ok(graph)
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [b, n, l, h, d] = self.extents();
        write!(f, "({b}, {n}, {l}, {h}, {d})")
    }
}

/// Measures, and gives the figures to the report.
///
/// # Errors
/// If a process fails, or what was computed is not what it should be.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    if let Some(part) = Part::of_this_process()? {
        return part.measure(report);
    }
    // (B, N, L, H, D)
    let shapes = if options.quick {
        [[1, 16, 64, 4, 32], [1, 32, 64, 8, 8]]
    } else {
        [[1, 256, 256, 4, 32], [1, 512, 256, 8, 8]]
    };
    check::differences(report)?;
    for shape in shapes {
        check::results(Case::new(shape), report)?;
    }
    for shape in shapes {
        measure(Case::new(shape), &[1, 2], false, options, report)?;
    }
    // a crop of 384 positions, as models are fine-tuned on, of which the saving is claimed
    let crop = if options.quick {
        [1, 32, 96, 8, 8]
    } else {
        [1, 256, 384, 8, 8]
    };
    measure(Case::new(crop), &[2], true, options, report)
}

/// Figures of one case with crews of so many threads; `claimed` if the saving of memory is.
fn measure(
    case: Case,
    crews: &[usize],
    claimed: bool,
    options: &Options,
    report: &mut Report,
) -> Result<(), BenchError> {
    let (turns, steps) = if options.quick { (1, 1) } else { (2, 2) };
    let folder = Folder::new(NAME)?;
    folder.write(&case.numbers()?)?;
    for &threads in crews {
        let (mut ours, mut plain) = (None, None);
        let mut theirs = [None; 2];
        for turn in 0..turns {
            let write = turn == 0 && Some(&threads) == crews.first();
            let part = Part::new(Kind::Fused, case, threads, steps, folder.path(), write);
            ours = Cost::better(ours, Cost::of(&part.alone(options)?));
            for (extra, theirs) in ["", UNLOCKED].into_iter().zip(&mut theirs) {
                let arguments = part.arguments();
                let words = arguments.iter().skip(1).map(String::as_str);
                let words: Vec<&str> = words.chain([extra]).filter(|w| !w.is_empty()).collect();
                let found = peer(NAME, &words, options, report).unwrap_or_default();
                *theirs = Cost::better(*theirs, Cost::of(&found));
            }
            if write && theirs[0].is_some() {
                let apart = folder.difference(TOLERANCE)?;
                let what = "largest difference of outputs and gradients to PyTorch";
                report.give(Figure::new(NAME, format!("{case}: {what}"), apart, "of 1"));
            }
            if turn == 0 {
                let part = Part::new(Kind::Plain, case, threads, 1, folder.path(), false);
                plain = Cost::of(&part.alone(options)?);
            }
        }
        let ours = ours.ok_or_else(|| BenchError::failed(NAME, "a process gave no figures"))?;
        let others = [plain, theirs[0], theirs[1]];
        give((case, claimed), threads, ours, others, report);
    }
    Ok(())
}

fn give(
    (case, claimed): (Case, bool),
    threads: usize,
    ours: Cost,
    others: [Option<Cost>; 3],
    report: &mut Report,
) {
    let threads = match threads {
        1 => "1 thread".to_owned(),
        n => format!("{n} threads"),
    };
    let names = ["the plain form here", "PyTorch", "PyTorch unlocked"];
    for (name, other) in names.into_iter().zip(others) {
        let Some(other) = other else { continue };
        let step = format!("{case}: step, {threads} / {name}");
        report.give(Figure::new(NAME, step, ours.time, "ms").beside(other.time));
        if name != names[2] {
            let memory = format!("{case}: memory, {threads} / {name}");
            report.give(Figure::new(NAME, memory, ours.memory, "MB").beside(other.memory));
            if claimed {
                let times = format!("{case}: times less memory than {name}, {threads}");
                let saving = other.memory / ours.memory;
                report.give(Figure::new(NAME, times, saving, "times").beside(SAVING));
            }
        }
    }
}

fn engine(source: advect_engine::EngineError) -> BenchError {
    BenchError::Engine {
        bench: NAME,
        source,
    }
}
