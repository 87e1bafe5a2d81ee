//! What an operator takes beside its arithmetic: its turn in the dataflow, messages and progress.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use advect_engine::graph::Streams;
use advect_engine::source::tensors;
use advect_engine::{DType, EngineError, Fabric, Shard, Tick};
use advect_operators::training::{Control, Method, Recipe, Schedule};
use advect_operators::transformer::{Activation, Gpt, Strategy, Style};
use timely::dataflow::operators::{Inspect, Probe};

use super::error::Result;
use super::pass::OPERATORS;

const LAYERS: usize = 3;
const STEPS: u64 = 8;
/// Micro-batches of a step: enough that what a step costs once does not show.
const MICROS: u64 = 32;

/// Seconds of an operator at one micro-batch, each way: of the fastest of a few steps of a transformer that
/// has next to nothing to compute.
pub(super) fn measure() -> Result<f64> {
    let tiny = Gpt {
        vocabulary: 8,
        context: 2,
        layers: LAYERS,
        width: 4,
        heads: 1,
        groups: 1,
        head: 4,
        hidden: 4,
        activation: Activation::Gelu,
        style: Style::GPT2,
    };
    let positions = tiny.context;
    let trainable = tiny.train(1, DType::F32, &Strategy::alone())?;
    let recipe = Recipe {
        method: Method::ADAMW,
        schedule: Schedule::constant(1e-3),
        decay: 0.0,
        clip: None,
        seed: 0,
        average: None,
    };
    let ends = Fabric::Threads(1).run(move |worker, context| {
        let ends: Rc<RefCell<Vec<Instant>>> = Rc::default();
        let heard = Rc::clone(&ends);
        let probe = worker.dataflow::<Tick, _, _>(|scope| {
            let mut feeds = Streams::new();
            for name in ["tokens", "targets"] {
                let piece = Shard::new(0, vec![1, positions], vec![0i64; positions].into());
                let times = (0..STEPS).flat_map(|k| (0..MICROS).map(move |j| Tick::new(k, j)));
                let pieces = times.map(|time| (time, piece.clone())).collect();
                feeds.insert(name.to_owned(), tensors(scope, name, pieces));
            }
            let control = Control {
                in_flight: Some(1),
                ..Control::default()
            };
            let reports = trainable.wire(scope, feeds, &recipe, control)?.reports;
            let seen = reports.inspect(move |_| heard.borrow_mut().push(Instant::now()));
            Ok::<_, EngineError>(seen.probe().0)
        })?;
        context.drive(worker, || !probe.done());
        Ok::<_, EngineError>(ends.take())
    })?;
    let ends = ends
        .into_iter()
        .collect::<std::result::Result<Vec<_>, _>>()?
        .concat();
    let steps = ends
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64());
    let [layer, first, last] = OPERATORS;
    let operators = 2 * (layer * LAYERS + first + last) as u64 * MICROS;
    Ok(steps.fold(1.0, f64::min) / operators as f64)
}
