//! The link between two workers of this process, by all-reduces of two sizes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use advect_engine::fabric::Context;
use advect_engine::{
    Batch, DType, Fabric, Layout, Mesh, Monoid, Placement, Relayout, Result, Shard, relayout,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::{Input, Inspect};
use timely::worker::Worker;

/// Numbers of a message that costs its latency, and of one that costs its bytes.
const SIZES: [usize; 2] = [64, 1 << 20];
/// Repetitions of each; the shortest counts.
const TIMES: usize = 24;

/// α and β.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Link {
    /// Seconds a message.
    pub(super) latency: f64,
    /// B/s.
    pub(super) bandwidth: f64,
}

/// Measures α and β between two workers: of two, an all-reduce of M bytes takes $2\alpha + M/\beta$.
pub(super) fn measure() -> Result<Link> {
    let all = Fabric::Threads(2)
        .run(|worker, context| SIZES.map(|numbers| all_reduce(worker, context, numbers)))?;
    let [small, large] = match all.into_iter().next() {
        Some([small, large]) => [small?, large?],
        None => [0.0, 1.0],
    };
    let bytes = (SIZES[1] - SIZES[0]) * size_of::<f32>();
    Ok(Link {
        latency: small / 2.0,
        bandwidth: bytes as f64 / (large - small).max(1e-9),
    })
}

/// Seconds of an all-reduce.
fn all_reduce(worker: &mut Worker, context: &Context, numbers: usize) -> Result<f64> {
    let mesh = Mesh::line("x", context.peers);
    let partial = Layout::new([Placement::Partial(Monoid::Sum)]);
    let plan = Relayout::plan(
        &mesh,
        &[numbers],
        DType::F32,
        &partial,
        &Layout::same(&mesh),
    )?;
    let mut input = InputHandle::<u64, CapacityContainerBuilder<Batch>>::new();
    let landed = Rc::new(Cell::new(0));
    let sink = Rc::clone(&landed);
    worker.dataflow::<u64, _, _>(|scope| {
        relayout(scope.input_from(&mut input), &plan).inspect_core(move |event| {
            if let Ok((_, batch)) = event {
                sink.set(sink.get() + batch.shards.len());
            }
        });
    });
    let part = vec![1f32; numbers];
    let mut best = f64::INFINITY;
    for round in 0..TIMES {
        let shard = Shard::new(0, vec![numbers], part.clone().into());
        let begun = Instant::now();
        input.send(shard.addressed(context.index, context.index));
        input.advance_to(round as u64 + 1);
        context.drive(worker, || landed.get() <= round);
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(best)
}
