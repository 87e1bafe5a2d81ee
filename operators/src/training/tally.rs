//! Totals of a step: loss, number of targets, and the squares of every gradient.

use std::collections::BTreeMap;
use std::rc::Rc;

use advect_engine::graph::Moment;
use advect_engine::{
    Batch, Canonical, DType, Layout, Mesh, Monoid, Placement, Result, Shard, Spec, Tick, relayout,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// Where loss, count, the wish to stop and the share of the loss that is told on its own stand among the totals;
/// squares of gradients follow. The loss, its share and each square have two parts that are added up for themselves.
pub(crate) const LOSS: usize = 0;
pub(crate) const COUNT: usize = 2;
pub(crate) const STOP: usize = 3;
pub(crate) const SHARE: usize = 4;
const SQUARES: usize = 6;

/// Where the squares of gradient `number` stand.
pub(crate) fn squares_of(number: usize) -> usize {
    SQUARES + 2 * number
}

/// The loss.
pub(crate) fn loss(totals: &[f64]) -> f64 {
    whole(&totals[LOSS..COUNT], GRID)
}

/// The share of the loss that is told on its own; 0 if there is none.
pub(crate) fn share(totals: &[f64]) -> f64 {
    whole(&totals[SHARE..SQUARES], GRID)
}

/// The squares of all gradients.
pub(crate) fn squares(totals: &[f64]) -> Vec<f64> {
    let parts = totals[SQUARES..].chunks_exact(2);
    parts.map(|parts| whole(parts, FINE)).collect()
}

/// The sum of both parts of a total, no number if the fine one, of multiples of $2^{-bits}$, may have been
/// rounded.
fn whole(parts: &[f64], bits: i32) -> f64 {
    match parts {
        [coarse, fine] if fine.abs() < 2f64.powi(53 - bits) => coarse + fine,
        _ => f64::NAN,
    }
}

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
    /// Gradients whose squares have come.
    gradients: usize,
}

impl Open {
    /// Adds both parts of a total.
    fn add(&mut self, slot: usize, parts: [f64; 2]) {
        let totals = self.totals[slot..].iter_mut();
        totals.zip(parts).for_each(|(total, part)| *total += part);
    }
}

/// This worker's part of the totals, one vector a version: slots [`LOSS`], [`SHARE`] and [`COUNT`] add what
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
                        if *mine && *slot >= SQUARES {
                            entry.add(*slot, add_squares(&shard));
                        } else if *mine && [LOSS, SHARE].contains(slot) {
                            let parts = halves(shard.dtype(), add_up(&shard), GRID);
                            entry.add(*slot, parts);
                        } else if *mine {
                            entry.totals[*slot] += add_up(&shard);
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
                if !closed || entry.get().gradients < (slots - SQUARES) / 2 {
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
        .map(|s| s.slot + if s.slot == COUNT { 1 } else { 2 })
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

/// Bits behind the point of the coarse part of a total of canonical numbers, whose sums are exact to 2⁴⁹.
const COARSE: i32 = 4;
/// Of the fine part of squares, each at most 2⁻⁵, whose sums are exact to 2²³.
const FINE: i32 = 30;
/// Of the fine part of losses: canonical sums are on this grid, so that nothing is rounded.
const GRID: i32 = 34;

/// The sum of the elements, in double precision.
fn add_up(shard: &Shard) -> f64 {
    match shard.dtype() {
        DType::F32 => shard.elements::<f32>().iter().map(|&x| f64::from(x)).sum(),
        DType::Canonical => shard.elements::<Canonical>().iter().map(|x| x.0).sum(),
        _ => shard.elements::<f64>().iter().sum(),
    }
}

/// The sum of the squares, in two parts.
fn add_squares(shard: &Shard) -> [f64; 2] {
    let square = |sum: f64, x: f64| sum + x * x;
    match shard.dtype() {
        DType::F32 => {
            let numbers = shard.elements::<f32>().iter().map(|&x| f64::from(x));
            [numbers.fold(0.0, square), 0.0]
        }
        DType::Canonical => {
            let numbers = shard.elements::<Canonical>().iter();
            numbers.fold([0.0; 2], |[coarse, fine], x| {
                let parts = halves(DType::Canonical, x.0 * x.0, FINE);
                [coarse + parts[0], fine + parts[1]]
            })
        }
        _ => [
            shard.elements::<f64>().iter().copied().fold(0.0, square),
            0.0,
        ],
    }
}

/// A number in two parts whose sums have no order, if it is canonical: multiples of $2^{-4}$ and of
/// $2^{-fine}$.
fn halves(dtype: DType, x: f64, fine: i32) -> [f64; 2] {
    if dtype != DType::Canonical {
        return [x, 0.0];
    }
    let coarse = rounded(x, COARSE);
    [coarse, rounded(x - coarse, fine)]
}

/// `x` to the nearest multiple of $2^{-bits}$, if it is below $2^{51 - bits}$.
fn rounded(x: f64, bits: i32) -> f64 {
    let anchor = 1.5 * 2f64.powi(52 - bits);
    (x + anchor) - anchor
}
