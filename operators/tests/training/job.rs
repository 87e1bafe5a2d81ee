//! A small GPT, its batches, and its training on one fabric.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use advect_engine::graph::Streams;
use advect_engine::source::tensors;
use advect_engine::{DType, Data, EngineError, Fabric, Shard, Tick};
use advect_operators::training::{Control, Fall, Method, Recipe, Report, Schedule, Trainable};
use advect_operators::transformer::{Activation, Gpt, Strategy, Style};
use timely::dataflow::Scope;
use timely::dataflow::operators::{Inspect, Probe};

/// One micro-batch: tokens and targets, whole.
pub(crate) type Micro = (Vec<i64>, Vec<i64>);

/// What was learned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Learned {
    pub(crate) reports: Vec<Report>,
    /// Whole parameters after the last step.
    pub(crate) parameters: BTreeMap<String, Vec<f64>>,
    /// Per worker the most bytes that were kept for the adjoint at once.
    pub(crate) peak: Vec<usize>,
}

/// L = 4, h = 64, 8 heads, s = 32, V = 128.
pub(crate) fn model() -> Gpt {
    Gpt {
        vocabulary: 128,
        context: 32,
        layers: 4,
        width: 64,
        heads: 8,
        groups: 8,
        head: 8,
        hidden: 128,
        activation: Activation::Gelu,
        style: Style::GPT2,
    }
}

/// AdamW with a warm-up, weight decay and a limit of the norm that every step meets.
pub(crate) fn recipe() -> Recipe {
    Recipe {
        method: Method::ADAMW,
        schedule: Schedule {
            peak: 1e-2,
            floor: 0.1,
            warm_up: 2,
            steps: 5,
            fall: Fall::Cosine,
        },
        decay: 0.1,
        clip: Some(0.5),
        seed: 11,
        average: None,
    }
}

/// Batches by step and micro-batch; some targets are none, more of them in later samples.
pub(crate) fn batches(model: &Gpt, steps: usize, micros: usize, samples: usize) -> Vec<Vec<Micro>> {
    let n = samples * model.context;
    let number = |i: usize, of: usize| {
        let mixed = (i as u64 ^ 0x9e37_79b9).wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        mixed as i64 % of as i64
    };
    let micro = |at: usize| {
        let tokens: Vec<i64> = (0..n)
            .map(|i| number(at * n + i, model.vocabulary))
            .collect();
        let target = |(i, &token): (usize, &i64)| match number(at * n + i + 7_000_000, samples + 3)
        {
            none if none < (i / model.context) as i64 => -1,
            _ => (token * 5 + 3) % model.vocabulary as i64,
        };
        let targets = tokens.iter().enumerate().map(target).collect();
        (tokens, targets)
    };
    let step = |k: usize| (0..micros).map(|j| micro(k * micros + j)).collect();
    (0..steps).map(step).collect()
}

/// How it is trained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// The type of what flows.
    pub(crate) dtype: DType,
    /// Micro-batches that are in work at the last stage at most.
    pub(crate) last: Option<usize>,
    /// Whether gradients of parameters are made later than the others.
    pub(crate) later: bool,
}

impl Default for How {
    fn default() -> Self {
        How {
            dtype: DType::F64,
            last: None,
            later: false,
        }
    }
}

impl How {
    /// With so many micro-batches in work at the last stage at most.
    pub(crate) fn with(last: Option<usize>) -> Self {
        How {
            last,
            ..How::default()
        }
    }
}

/// Trains on `batches`, and gathers what every worker of `fabric` holds in the end.
pub(crate) fn train(
    model: &Gpt,
    strategy: &Strategy,
    recipe: &Recipe,
    batches: &[Vec<Micro>],
    fabric: &Fabric,
    how: How,
) -> Result<Learned, EngineError> {
    let samples = batches[0][0].0.len() / model.context;
    let trainable = Arc::new(model.train(samples, how.dtype, strategy)?);
    let (graph, recipe) = (trainable.graph.clone(), recipe.clone());
    let batches = Arc::new(batches.to_vec());
    let (shared, strategy) = (Arc::clone(&trainable), strategy.clone());
    let results = fabric.run(move |worker, context| {
        let reports: Rc<RefCell<Vec<Report>>> = Rc::default();
        let heard = Rc::clone(&reports);
        let (trained, probe) = worker
            .dataflow::<Tick, _, _>(|scope| {
                let inputs = inputs(scope, &shared, &batches)?;
                let control = Control {
                    in_flight: how.last.map(|last| strategy.in_flight(scope.index(), last)),
                    deferred: how.later.then(|| strategy.deferred(how.last.unwrap_or(1))),
                    ..Control::default()
                };
                let trained = shared.wire(scope, inputs, &recipe, control)?;
                let seen = trained
                    .reports
                    .clone()
                    .inspect(move |r| heard.borrow_mut().push(*r));
                let (probe, _) = seen.probe();
                Ok::<_, EngineError>(((trained.weights, trained.kept), probe))
            })
            .map_err(|e| e.to_string())?;
        context.drive(worker, || !probe.done());
        let (weights, kept) = trained;
        assert_eq!(kept.points(), 0, "nothing waits for a cotangent in the end");
        Ok::<_, String>((reports.take(), weights.pieces(), kept.peak()))
    })?;
    let (mut reports, mut peak) = (Vec::new(), Vec::new());
    let mut pieces: BTreeMap<String, Vec<Shard>> = BTreeMap::new();
    for result in results {
        let (heard, held, kept) = result.map_err(|why| EngineError::Operator {
            operator: "training".to_owned(),
            why,
        })?;
        assert!(
            reports.is_empty() || reports == heard,
            "every worker hears the same"
        );
        reports = heard;
        peak.push(kept);
        for (name, shard) in held {
            pieces.entry(name).or_default().push(shard);
        }
    }
    let mut parameters = BTreeMap::new();
    for (name, value) in graph.parameters() {
        let whole = graph.spec(value).join(graph.mesh(), &pieces[name])?;
        parameters.insert(name.to_owned(), whole.doubles().unwrap_or_default());
    }
    Ok(Learned {
        reports,
        parameters,
        peak,
    })
}

/// The bounds of documents that end with the tokens below 9, in windows of `context` tokens.
fn documents(tokens: &[i64], context: usize) -> Vec<i64> {
    let mut bounds = Vec::new();
    for window in tokens.chunks_exact(context) {
        let mut start = 0;
        for document in window.split_inclusive(|&token| token < 9) {
            let end = start + document.len() as i64;
            bounds.extend(document.iter().flat_map(|_| [start, end]));
            start = end;
        }
    }
    bounds
}

/// This worker's pieces of all batches, in their order.
fn inputs<'s>(
    scope: Scope<'s, Tick>,
    trainable: &Trainable,
    batches: &Arc<Vec<Vec<Micro>>>,
) -> Result<Streams<'s, Tick>, EngineError> {
    let graph = &trainable.graph;
    let mut feeds = Streams::new();
    let parameters: Vec<&str> = graph.parameters().map(|(name, _)| name).collect();
    for (name, value) in graph.sources().filter(|(n, _)| !parameters.contains(n)) {
        let spec = graph.spec(value);
        let mut shards = Vec::new();
        for (step, micros) in batches.iter().enumerate() {
            for (micro, (tokens, targets)) in micros.iter().enumerate() {
                let whole: Data = match name {
                    "tokens" => tokens.clone(),
                    "targets" => targets.clone(),
                    _ => documents(tokens, spec.shape[1]),
                }
                .into();
                let piece = spec
                    .cut(graph.mesh(), 0, &whole)?
                    .swap_remove(scope.index());
                shards.push((Tick::new(step as u64, micro as u64), piece));
            }
        }
        feeds.insert(name.to_owned(), tensors(scope, name, shards));
    }
    Ok(feeds)
}
