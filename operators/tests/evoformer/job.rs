//! A small Evoformer, its batches, and its training on threads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use advect_engine::graph::Streams;
use advect_engine::source::tensors;
use advect_engine::{Canonical, DType, Data, EngineError, Fabric, Shard, Tick};
use advect_operators::evoformer::Evoformer;
use advect_operators::network::Dropout;
use advect_operators::training::{Control, Fall, Method, Recipe, Report, Schedule};
use advect_operators::transformer::Strategy;
use timely::dataflow::operators::{Inspect, Probe};

/// Samples of a micro-batch.
pub(crate) const SAMPLES: usize = 2;
const STEPS: usize = 3;

/// Extents that no number of workers divides all of.
pub(crate) fn model() -> Evoformer {
    Evoformer {
        alphabet: 22,
        sequences: 5,
        length: 7,
        features: 3,
        prior: true,
        masked: true,
        blocks: 2,
        alignment: 12,
        pairs: 10,
        alignment_heads: 4,
        pair_heads: 2,
        head: 3,
        outer: 4,
        triangle: 6,
        transition: 2,
        max_relative_position: 3,
        bins: 5,
        distances_weight: 0.3,
        epsilon: 1e-5,
        dropout: Dropout::NONE,
    }
}

/// AdamW with weight decay.
fn recipe() -> Recipe {
    Recipe {
        method: Method::ADAMW,
        schedule: Schedule {
            peak: 1e-2,
            floor: 0.1,
            warm_up: 1,
            steps: STEPS as u64,
            fall: Fall::Cosine,
        },
        decay: 0.1,
        clip: Some(0.5),
        seed: 11,
        average: None,
    }
}

/// Real numbers of a type.
fn of(dtype: DType, all: &[f64]) -> Data {
    match dtype {
        DType::F32 => all.iter().map(|&x| x as f32).collect::<Vec<_>>().into(),
        DType::BF16 => {
            let rounded = all.iter().map(|&x| half::bf16::from_f64(x));
            rounded.collect::<Vec<_>>().into()
        }
        DType::Canonical => {
            let grid = all.iter().map(|&x| Canonical(x).on_grid());
            grid.collect::<Vec<_>>().into()
        }
        _ => all.to_vec().into(),
    }
}

/// The numbers of every input at a step and micro-batch.
pub(crate) fn input(model: &Evoformer, name: &str, at: usize, dtype: DType) -> Data {
    let number = |i: usize, of: usize| {
        let mixed = ((i * 31 + at * 7919) as u64 ^ 0x9e37_79b9).wrapping_mul(0x2545_f491_4f6c_dd1d);
        (mixed >> 33) as i64 % of as i64
    };
    let letters = SAMPLES * model.sequences * model.length;
    let masked = |i: usize| number(i + 50_000, 4) == 0;
    let letter = |i: usize| number(i % model.length + 13, model.alphabet);
    match name {
        "tokens" => {
            let token = |i| {
                if masked(i) {
                    model.alphabet as i64
                } else {
                    letter(i)
                }
            };
            (0..letters).map(token).collect::<Vec<_>>().into()
        }
        "targets" => {
            let target = |i| if masked(i) { letter(i) } else { -1 };
            (0..letters).map(target).collect::<Vec<_>>().into()
        }
        // the first sample has no last row and no last column
        "mask" => {
            let [s, l] = [model.sequences, model.length];
            let there = |i: usize| i >= s * l || (i / l + 1 < s && i % l + 1 < l);
            let mask = (0..letters).map(|i| i64::from(there(i)));
            mask.collect::<Vec<_>>().into()
        }
        "features" | "prior" => {
            let width = match name {
                "prior" => model.alphabet,
                _ => model.features,
            };
            let real = |i| number(i + 70_000, 1000) as f64 / 1000.0 - 0.5;
            let all: Vec<f64> = (0..letters * width).map(real).collect();
            of(dtype, &all)
        }
        _ => {
            let pairs = 0..SAMPLES * model.length * model.length;
            pairs
                .map(|i| number(i + 90_000, model.bins + 1) - 1)
                .collect::<Vec<_>>()
                .into()
        }
    }
}

/// What every step was, and whole parameters after the last one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Learned {
    pub(crate) reports: Vec<Report>,
    pub(crate) parameters: BTreeMap<String, Vec<f64>>,
}

/// Trains with three steps of two micro-batches.
pub(crate) fn train(model: &Evoformer, strategy: &Strategy, dtype: DType) -> Learned {
    let trainable = model.train(SAMPLES, dtype, strategy).expect("it fits");
    let (trainable, model) = (Arc::new(trainable), model.clone());
    let graph = trainable.graph.clone();
    let fabric = Fabric::Threads(strategy.mesh().workers());
    let results = fabric.run(move |worker, context| {
        let reports: Rc<RefCell<Vec<Report>>> = Rc::default();
        let heard = Rc::clone(&reports);
        let (weights, probe) = worker
            .dataflow::<Tick, _, _>(|scope| {
                let mut inputs = Streams::new();
                let parameters: Vec<&str> = trainable.graph.parameters().map(|(n, _)| n).collect();
                for (name, value) in trainable.graph.sources() {
                    if parameters.contains(&name) {
                        continue;
                    }
                    let spec = trainable.graph.spec(value);
                    let shards = (0..2 * STEPS).map(|at| {
                        let whole = input(&model, name, at, dtype);
                        let mut pieces = spec.cut(trainable.graph.mesh(), 0, &whole)?;
                        let piece = pieces.swap_remove(scope.index());
                        Ok((Tick::new(at as u64 / 2, at as u64 % 2), piece))
                    });
                    let shards = shards.collect::<Result<Vec<_>, EngineError>>()?;
                    inputs.insert(name.to_owned(), tensors(scope, name, shards));
                }
                let trained = trainable.wire(scope, inputs, &recipe(), Control::default())?;
                let seen = trained
                    .reports
                    .inspect(move |r| heard.borrow_mut().push(*r));
                let (probe, _) = seen.probe();
                Ok::<_, EngineError>((trained.weights, probe))
            })
            .map_err(|e| e.to_string())?;
        context.drive(worker, || !probe.done());
        Ok::<_, String>((reports.take(), weights.pieces()))
    });
    let mut pieces: BTreeMap<String, Vec<Shard>> = BTreeMap::new();
    let mut reports = Vec::new();
    for result in results.expect("it runs") {
        let (heard, held) = result.unwrap_or_else(|why| panic!("{strategy}: {why}"));
        reports = heard;
        for (name, shard) in held {
            pieces.entry(name).or_default().push(shard);
        }
    }
    let whole = |(name, value): (&str, _)| {
        let whole = graph.spec(value).join(graph.mesh(), &pieces[name]);
        let whole = whole.expect("it fits").doubles();
        (name.to_owned(), whole.expect("it is real"))
    };
    Learned {
        parameters: graph.parameters().map(whole).collect(),
        reports,
    }
}
