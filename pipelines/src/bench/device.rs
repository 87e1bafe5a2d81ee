//! Training steps of GPT blocks on a GPU, in `bf16`, beside PyTorch.
//!
//! A step is forward, backward and the gradients of everything: the dataflow of the graph that a training job would
//! wire, with blocks on the device; a step is over when the last gradient is there. Both sides read the same numbers
//! from files, and are compared with PyTorch in single precision. PyTorch has `scaled_dot_product_attention` and its
//! own kernels, eager, with all parameters in `bf16` (the fastest that it has), and with single precision cast where it
//! is used (what we do).

use std::collections::BTreeMap;

use advect_engine::{DType, Data, Graph};
use advect_operators::local;
use advect_operators::transformer::{Role, Strategy};

use super::block::{gpt, sources, steps};
use super::files::{self, Folder};
use super::{BenchError, Figure, Options, Report, median, peer};

const NAME: &str = "device";
/// Names another device than the first GPU.
const DEVICE: &str = "ADVECT_DEVICE";
/// The greatest difference to single precision, relative to the largest entry of a tensor.
const TOLERANCE: f64 = 0.1;

/// Extents of blocks.
#[derive(Debug, Clone, Copy)]
struct Case {
    samples: usize,
    positions: usize,
    width: usize,
    head: usize,
    layers: usize,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case {
            samples,
            positions,
            width,
            head,
            layers,
        } = self;
        write!(
            f,
            "{layers} blocks of {width}, heads of {head}, {samples} x {positions}"
        )
    }
}

const CASES: [Case; 3] = [
    Case {
        samples: 8,
        positions: 1024,
        width: 768,
        head: 64,
        layers: 4,
    },
    Case {
        samples: 8,
        positions: 1024,
        width: 2048,
        head: 128,
        layers: 2,
    },
    Case {
        samples: 2,
        positions: 8192,
        width: 1024,
        head: 64,
        layers: 2,
    },
];

const QUICK: Case = Case {
    samples: 2,
    positions: 96,
    width: 128,
    head: 64,
    layers: 2,
};

impl Case {
    fn graph(self, device: &str) -> advect_engine::Result<Graph> {
        let gpt = gpt(self.layers, self.width, self.head, self.positions);
        let strategy = Strategy::new(&[(Role::Data, 1)])?.on(device);
        Ok(gpt.blocks(self.samples, DType::BF16, &strategy)?.graph)
    }

    /// Floating-point operations of a step that every side must do: products forward, and twice as many back; half of
    /// the scores.
    fn operations(self) -> f64 {
        let (tokens, h) = ((self.samples * self.positions) as f64, self.width as f64);
        let maps = 24.0 * tokens * h * h;
        let attention = 2.0 * tokens * self.positions as f64 * h;
        3.0 * self.layers as f64 * (maps + attention)
    }

    fn arguments(self, device: &str, steps: usize, folder: &Folder) -> Vec<String> {
        let numbers = [
            self.samples,
            self.positions,
            self.width,
            self.head,
            self.layers,
            steps,
        ];
        let numbers = numbers.map(|n| n.to_string());
        let folder = folder.path().display().to_string();
        [vec![device.to_owned()], numbers.to_vec(), vec![folder]].concat()
    }
}

/// Measures, and gives the figures to the report.
///
/// # Errors
/// If there is no such device, or the results differ from those of PyTorch.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let device = std::env::var(DEVICE).unwrap_or_else(|_| "cuda:0".to_owned());
    let (cases, steps) = match options.quick {
        true => (&[QUICK][..], 2),
        false => (&CASES[..], 20),
    };
    for &case in cases {
        measure(case, &device, steps, options, report)?;
    }
    Ok(())
}

fn measure(
    case: Case,
    device: &str,
    count: usize,
    options: &Options,
    report: &mut Report,
) -> Result<(), BenchError> {
    let failed = |source| BenchError::Engine {
        bench: NAME,
        source,
    };
    let graph = case.graph(device).map_err(failed)?;
    let folder = Folder::new(NAME)?;
    let pieces = sources(&graph);
    let single = |data: &Data| -> Data {
        let numbers = data.doubles().unwrap_or_default();
        numbers.iter().map(|&x| x as f32).collect::<Vec<_>>().into()
    };
    let flat = pieces
        .iter()
        .map(|(name, piece)| (name.clone(), single(piece.data())));
    folder.write(&flat.collect())?;
    // what flows is on the device, as it is for PyTorch
    let on = local::device(device).map_err(|e| BenchError::failed(NAME, e))?;
    let mut placed = BTreeMap::new();
    for (name, piece) in pieces {
        let piece = match piece.dtype() {
            DType::BF16 => local::placed(&piece, &on).map_err(|e| BenchError::failed(NAME, e))?,
            _ => piece,
        };
        placed.insert(name, vec![piece]);
    }
    let (ours, results) = steps(&graph, placed, count).map_err(failed)?;
    let ours = median(&ours);
    for (name, shard) in results {
        files::write_ours(NAME, folder.path(), &name, &single(shard.data()))?;
    }
    let arguments = case.arguments(device, count, &folder);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let theirs = peer(NAME, &words, options, report);
    let found = |name: &str| -> Option<f64> {
        let all = theirs.iter().flatten().filter(|f| f.case == name);
        let all: Vec<f64> = all.map(|f| f.value).collect();
        (!all.is_empty()).then(|| median(&all))
    };
    if theirs.is_some() {
        let apart = folder.difference(TOLERANCE)?;
        for rival in ["bf16", "autocast"] {
            let case =
                format!("{case}: largest difference to single precision / PyTorch's, {rival}");
            let figure = Figure::new(NAME, case, apart, "of 1");
            report.give(match found(&format!("difference, {rival}")) {
                Some(theirs) => figure.beside(theirs),
                None => figure,
            });
        }
    }
    let rate = |time: f64| case.operations() / time / 1e9;
    let figure = |what: &str| Figure::new(NAME, format!("{case}: {what}"), rate(ours), "TFLOP/s");
    match found("step, bf16") {
        None => report.give(figure("steps")),
        Some(_) => {
            for rival in ["bf16", "autocast"] {
                let theirs = found(&format!("step, {rival}")).unwrap_or(f64::NAN);
                report.give(figure(&format!("steps / PyTorch, {rival}")).beside(rate(theirs)));
            }
        }
    }
    Ok(())
}
