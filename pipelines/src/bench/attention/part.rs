//! One mode in a process of its own: steps of a graph of blocks and its adjoint, and what is resident.

use std::collections::BTreeMap;

use advect_engine::{DType, Shard};
use advect_operators::training::Initial;
use advect_operators::transformer::{Activation, Gpt, Strategy, Style};
use serde::{Deserialize, Serialize};

use super::{NAME, engine};
use crate::bench::block::steps;
use crate::bench::cost::alone;
use crate::bench::{BenchError, Figure, Options, Report, memory};

/// Tells a process that it is to measure, and what.
const PART: &str = "ADVECT_BENCH_ATTENTION";

/// Blocks of one sample on a mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Case {
    pub(super) mesh: String,
    pub(super) positions: usize,
    pub(super) layers: usize,
    pub(super) width: usize,
    pub(super) heads: usize,
    /// Whether attention keeps no scores.
    pub(super) flash: bool,
    /// Whether keys of other workers are fetched again; `None` leaves it to the mode.
    pub(super) regather: Option<bool>,
    /// Whether blocks are computed again.
    pub(super) recompute: bool,
    /// Steps that are timed; 0 times the first.
    pub(super) steps: usize,
}

/// What it takes, by worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// Seconds of the fastest step.
    pub(super) seconds: f64,
    /// Megabytes that were resident above those before there was any tensor, over the workers.
    pub(super) memory: f64,
    /// Megabytes that the graph keeps for the adjoint, on the worker that keeps most.
    pub(super) kept: f64,
}

impl Case {
    pub(super) fn strategy(&self) -> Result<Strategy, BenchError> {
        let strategy: Strategy = self.mesh.parse().map_err(engine)?;
        let strategy = strategy.recomputing(self.recompute);
        Ok(match self.regather {
            Some(regather) => strategy.regathering(regather),
            None => strategy,
        })
    }

    pub(super) fn model(&self) -> Gpt {
        Gpt {
            vocabulary: 256,
            context: self.positions,
            layers: self.layers,
            width: self.width,
            heads: self.heads,
            groups: self.heads,
            head: self.width / self.heads,
            hidden: 4 * self.width,
            activation: Activation::Gelu,
            style: Style {
                flash: self.flash,
                ..Style::GPT2
            },
        }
    }

    /// Measures in another process of this program.
    pub(super) fn measure(&self, options: &Options) -> Result<Cost, BenchError> {
        let said = serde_json::to_string(self).map_err(|e| BenchError::failed(NAME, e))?;
        let long = Options {
            patience: options.patience * 6,
            ..options.clone()
        };
        let figures = alone(NAME, (PART, said), &long)?;
        let of = |case: &str| {
            let found = figures.iter().find(|f| f.case == case).map(|f| f.value);
            found.ok_or_else(|| BenchError::failed(NAME, format!("{}: no {case}", self.mesh)))
        };
        Ok(Cost {
            seconds: of("step")?,
            memory: of("memory")?,
            kept: of("kept")?,
        })
    }

    /// The case that this process was started for.
    pub(super) fn of_this_process() -> Result<Option<Self>, BenchError> {
        let Ok(text) = std::env::var(PART) else {
            return Ok(None);
        };
        let case = serde_json::from_str(&text);
        let bad = |e| BenchError::failed(NAME, format!("{PART} is no case: {e}"));
        case.map(Some).map_err(bad)
    }

    /// Measures here.
    pub(super) fn run(&self, report: &mut Report) -> Result<(), BenchError> {
        let failed = |e: std::io::Error| BenchError::failed(NAME, e);
        let before = memory::resident().map_err(failed)?;
        let made = self.model().blocks(1, DType::F32, &self.strategy()?);
        let graph = made.map_err(engine)?.graph;
        let workers = graph.mesh().workers();
        let (_, y) = graph
            .outputs()
            .next()
            .ok_or_else(|| BenchError::failed(NAME, "the graph has no output"))?;
        let seed = graph.spec(y).dual().map_err(engine)?;
        let specs = graph
            .sources()
            .map(|(name, value)| (name, graph.spec(value)));
        let specs = specs.chain([(crate::bench::block::SEED, &seed)]);
        let pieces: BTreeMap<String, Vec<Shard>> = specs
            .map(|(name, spec)| {
                let deviation = if name.contains('.') { 0.02 } else { 1.0 };
                let normal = Initial::Normal { deviation };
                let piece = |w| normal.piece(1, name, spec, graph.mesh(), w);
                (name.to_owned(), (0..workers).map(piece).collect())
            })
            .collect();
        let kept = (0..workers).map(|w| graph.bytes_kept(w)).max().unwrap_or(0);
        let (times, _) = steps(&graph, pieces, self.steps).map_err(engine)?;
        let fastest = times.into_iter().min_by(f64::total_cmp).unwrap_or(0.0);
        let peak = memory::peak().map_err(failed)?.saturating_sub(before);
        let memory = peak as f64 / 1e6 / workers as f64;
        report.give(Figure::new(NAME, "step", fastest / 1e3, "s"));
        report.give(Figure::new(NAME, "memory", memory, "MB"));
        report.give(Figure::new(NAME, "kept", kept as f64 / 1e6, "MB"));
        Ok(())
    }
}
