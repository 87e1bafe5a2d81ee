//! One side in a process of its own: steps of attention, forward and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use advect_engine::{DType, Data, Shard, threads};

use super::plain::{Tensors, whole};
use super::{Case, NAME, SEED, engine};
use crate::bench::cost::alone;
use crate::bench::{BenchError, Figure, Options, Report, files, memory};

/// Tells a process that it is to measure, and what.
const PART: &str = "ADVECT_BENCH_EVOFORMER";

/// Whose steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Those of the operator.
    Fused,
    /// Those of the plain form in Rust.
    Plain,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Fused => "fused",
            Kind::Plain => "plain",
        }
    }
}

/// What one process measures.
#[derive(Debug)]
pub(super) struct Part {
    kind: Kind,
    case: Case,
    threads: usize,
    steps: usize,
    folder: PathBuf,
    /// Whether results are written.
    write: bool,
}

impl Part {
    pub(super) fn new(
        kind: Kind,
        case: Case,
        threads: usize,
        steps: usize,
        folder: &Path,
        write: bool,
    ) -> Self {
        Part {
            kind,
            case,
            threads,
            steps,
            folder: folder.to_owned(),
            write,
        }
    }

    /// The kind, and then the arguments of the reference.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut all = vec![self.kind.name().to_owned()];
        let numbers = self.case.extents().into_iter();
        let numbers = numbers.chain([self.threads, self.steps]);
        all.extend(numbers.map(|n| n.to_string()));
        all.push(self.folder.display().to_string());
        all.push(u8::from(self.write).to_string());
        all
    }

    /// Measures in another process of this program.
    pub(super) fn alone(&self, options: &Options) -> Result<Vec<Figure>, BenchError> {
        alone(NAME, (PART, self.arguments().join("\n")), options)
    }

    /// The part of this process, if it was started for one.
    pub(super) fn of_this_process() -> Result<Option<Self>, BenchError> {
        let Ok(text) = std::env::var(PART) else {
            return Ok(None);
        };
        let bad = || BenchError::failed(NAME, format!("{PART} is no part: {text:?}"));
        let words: Vec<&str> = text.lines().collect();
        let &[kind, b, n, l, h, d, threads, steps, folder, write] = words.as_slice() else {
            return Err(bad());
        };
        let number = |word: &str| word.parse::<usize>().map_err(|_| bad());
        let kinds = [Kind::Fused, Kind::Plain];
        let kind = kinds.into_iter().find(|k| k.name() == kind);
        let [b, n, l, h, d] = [b, n, l, h, d].map(number);
        Ok(Some(Part {
            kind: kind.ok_or_else(bad)?,
            case: Case::new([b?, n?, l?, h?, d?]),
            threads: number(threads)?,
            steps: number(steps)?,
            folder: folder.into(),
            write: write == "1",
        }))
    }

    /// Measures, and gives figures named as those of the reference.
    pub(super) fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        let before = memory::resident().map_err(|e| BenchError::failed(NAME, e))?;
        threads::fix(self.threads);
        let mut read = BTreeMap::new();
        for (name, _) in self.case.shapes() {
            read.insert(name, files::read(NAME, &self.folder, name)?);
        }
        let (times, results) = match self.kind {
            Kind::Fused => self.fused(read)?,
            Kind::Plain => (self.plain(&read), BTreeMap::new()),
        };
        for time in times {
            report.give(Figure::new(NAME, "step", time, "ms"));
        }
        let peak = memory::peak().map_err(|e| BenchError::failed(NAME, e))?;
        let above = peak.saturating_sub(before) as f64 / 1e6;
        report.give(Figure::new(NAME, "memory", above, "MB"));
        if self.write {
            for (name, data) in results {
                files::write_ours(NAME, &self.folder, name, &data)?;
            }
        }
        Ok(())
    }

    /// Milliseconds of the steps, without a first one, and what the last one gave.
    fn fused(
        &self,
        read: BTreeMap<&'static str, Data>,
    ) -> Result<(Vec<f64>, BTreeMap<&'static str, Data>), BenchError> {
        let graph = self.case.graph(DType::F32).map_err(engine)?;
        let mut shapes: BTreeMap<_, _> = self.case.shapes().into_iter().collect();
        let pieces = read.into_iter().map(|(name, data)| {
            let data = if name == "mask" {
                whole_numbers(&data)
            } else {
                data
            };
            let shape = shapes.remove(name).unwrap_or_default();
            (name.to_owned(), vec![Shard::new(0, shape, data)])
        });
        let mut sources: BTreeMap<_, _> = pieces.collect();
        let seed = sources.remove(SEED).unwrap_or_default();
        let (mut times, mut results) = (Vec::new(), BTreeMap::new());
        let outputs: Vec<_> = graph.outputs().map(|(_, value)| value).collect();
        for step in 0..=self.steps {
            results.clear();
            let begun = Instant::now();
            let now = graph.rehearse(&sources, [0, 0], 0).map_err(engine)?;
            let seeds = outputs.iter().map(|y| (*y, seed.clone())).collect();
            let wanted: Vec<_> = graph
                .sources()
                .filter(|(name, _)| *name != "mask")
                .collect();
            let values: Vec<_> = wanted.iter().map(|(_, value)| *value).collect();
            let mut back = now.adjoint(&seeds, &values).map_err(engine)?;
            if step > 0 {
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            let names = ["q", "k", "v", "bias"];
            for name in names {
                let found = wanted.iter().find(|(n, _)| *n == name);
                let pieces = found.and_then(|(_, value)| back.remove(value));
                let piece = pieces.and_then(|pieces| pieces.into_iter().next());
                results.extend(piece.map(|piece| (name, piece.into_data())));
            }
            let y = outputs.first().and_then(|y| now.value(*y).first());
            results.extend(y.map(|y| ("y", y.data().clone())));
        }
        Ok((times, results))
    }

    fn plain(&self, read: &BTreeMap<&'static str, Data>) -> Vec<f64> {
        let numbers = |name| read[name].get::<f32>().unwrap_or_default();
        let tensors = Tensors {
            q: numbers("q"),
            k: numbers("k"),
            v: numbers("v"),
            mask: numbers("mask"),
            bias: numbers("bias"),
            given: numbers(SEED),
        };
        let step = |_| {
            let begun = Instant::now();
            whole(&self.case, &tensors, self.threads);
            begun.elapsed().as_secs_f64() * 1e3
        };
        (0..self.steps).map(step).collect()
    }
}

/// A mask as it comes to the operator.
pub(super) fn whole_numbers(mask: &Data) -> Data {
    let numbers = mask.get::<f32>().unwrap_or_default().iter();
    numbers.map(|&x| x as i64).collect::<Vec<_>>().into()
}
