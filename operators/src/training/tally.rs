//! Totals of a step: loss, number of targets, and the squares of every gradient.

use std::collections::BTreeMap;
use std::rc::Rc;

use advect_engine::graph::Moment;
use advect_engine::{
    Batch, DType, Layout, Mesh, Monoid, Placement, Result, Shard, Spec, Tick, relayout,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// Where loss, count and the wish to stop stand among the totals; squares of gradients follow.
pub(crate) const LOSS: usize = 0;
pub(crate) const COUNT: usize = 1;
pub(crate) const STOP: usize = 2;
pub(crate) const SQUARES: usize = 3;

/// What is added to one total.
pub(crate) struct Source<'s> {
    /// The tensors, in the layout of `spec`.
    pub(crate) stream: Stream<'s, Tick, Batch>,
    pub(crate) spec: Spec,
    /// Where it stands among the totals.
    pub(crate) slot: usize,
}

/// The totals of a version that have come so far.
struct Open {
    /// At the latest moment that gave a part, which is the same on all workers.
    capability: Capability<Tick>,
    totals: Vec<f64>,
    /// Parts of the slots from [`SQUARES`] on.
    gradients: usize,
}

/// This worker's part of the totals, one vector a version: slots [`LOSS`] and [`COUNT`] add what
/// comes, those from [`SQUARES`] on add its squares, and [`STOP`] counts the workers on which `stop` said
/// so when the version closed.
fn tally<'s>(
    mesh: &Mesh,
    sources: Vec<Source<'s>>,
    stop: Rc<dyn Fn() -> bool>,
) -> Stream<'s, Tick, Batch> {
    let scope = sources[0].stream.scope();
    let worker = scope.index();
    let mut builder = OperatorBuilder::new("Tally".to_owned(), scope);
    let slots = slots(&sources);
    let mut inputs = Vec::new();
    for source in sources {
        let mine = source.spec.layout.counts(mesh, worker);
        inputs.push((
            builder.new_input(source.stream, Pipeline),
            source.slot,
            mine,
        ));
    }
    let (output, totals) = builder.new_output::<Batch>();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(output);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut open: BTreeMap<Tick, Open> = BTreeMap::new();
        move |frontiers: &[MutableAntichain<Tick>]| {
            for (input, slot, mine) in &mut inputs {
                input.for_each(|cap, batch| {
                    let Some(&time) = cap.stamp().elements().first() else {
                        return;
                    };
                    for shard in batch.shards.drain(..) {
                        let entry = open.entry(time.version()).or_insert_with(|| Open {
                            capability: cap.delayed(&time, 0),
                            totals: vec![0.0; slots],
                            gradients: 0,
                        });
                        if time > *entry.capability.time() {
                            entry.capability = cap.delayed(&time, 0);
                        }
                        entry.gradients += usize::from(*slot >= SQUARES);
                        if *mine {
                            entry.totals[*slot] += add_up(&shard, *slot >= SQUARES);
                        }
                    }
                });
            }
            let mut out = output.activate();
            while let Some(entry) = open.first_entry() {
                let last = entry.key().last();
                let closed = inputs
                    .iter()
                    .zip(frontiers)
                    .all(|((_, slot, _), frontier)| {
                        *slot >= SQUARES || !frontier.less_equal(&last)
                    });
                if !closed || entry.get().gradients < slots - SQUARES {
                    break;
                }
                let mut done = entry.remove();
                done.totals[STOP] = f64::from(u8::from(stop()));
                let shard = Shard::new(0, vec![slots], done.totals.into());
                out.session(&done.capability).give(shard);
            }
        }
    });
    totals
}

fn slots(sources: &[Source<'_>]) -> usize {
    sources
        .iter()
        .map(|s| s.slot + 1)
        .max()
        .unwrap_or(0)
        .max(SQUARES)
}

/// The totals of every version, the same on every worker: what [`tally`] gives of all of them, merged.
pub(crate) fn totals<'s>(
    mesh: &Mesh,
    sources: Vec<Source<'s>>,
    stop: Rc<dyn Fn() -> bool>,
) -> Result<Stream<'s, Tick, Batch>> {
    let parts = Layout::new(vec![Placement::Partial(Monoid::Sum); mesh.rank()]);
    let parts = Spec::new([slots(&sources)], DType::F64, parts);
    let merged = parts.relayout(mesh, &Layout::same(mesh))?;
    Ok(relayout(tally(mesh, sources, stop), &merged))
}

/// The sum of the elements, or of their squares, in double precision.
fn add_up(shard: &Shard, square: bool) -> f64 {
    macro_rules! fold {
        ($t:ty) => {
            shard.elements::<$t>().iter().fold(0.0, |sum, &x| {
                let x = f64::from(x);
                sum + if square { x * x } else { x }
            })
        };
    }
    match shard.dtype() {
        DType::F32 => fold!(f32),
        _ => fold!(f64),
    }
}
