//! Relayouts on any fabric against the in-memory reference, for every layout of one axis.

use std::cell::RefCell;
use std::rc::Rc;

use advect_engine::{
    Batch, DType, Data, Edge, Fabric, Layout, Mesh, Monoid, Overlap, Placement, Relayout, Shard,
    relayout,
};
use timely::dataflow::Stream as TimelyStream;
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::core::ToStream;

/// A relayout to run: global extents, start and end.
pub(crate) type Case = (Vec<usize>, Layout, Layout);

/// Placements of all kinds.
pub(crate) fn placements() -> Vec<Placement> {
    let mut all = vec![
        Placement::Split { dim: 0 },
        Placement::Split { dim: 1 },
        Placement::Same,
        Placement::Partial(Monoid::Sum),
        Placement::At { at: 0 },
        Placement::Shifted { dim: 1, by: 1 },
    ];
    for edge in [Edge::Clamped, Edge::Periodic] {
        for overlap in [Overlap::Copies, Overlap::Sums] {
            for width in [1, 6] {
                let dim = 0;
                all.push(Placement::Halo {
                    dim,
                    width,
                    edge,
                    overlap,
                });
            }
        }
    }
    all
}

/// All pairs of placements for a tensor of this shape.
pub(crate) fn all_pairs(shape: &[usize]) -> Vec<Case> {
    let all = placements();
    let one = |p: &Placement| Layout::new([*p]);
    all.iter()
        .flat_map(|a| all.iter().map(move |b| (shape.to_vec(), one(a), one(b))))
        .collect()
}

/// What `worker` holds before the move: numbers that look random.
pub(crate) fn piece(mesh: &Mesh, shape: &[usize], layout: &Layout, worker: usize) -> Shard {
    let local = layout.local_shape(mesh, shape, worker);
    // copies of one element must agree
    let copies = layout.axes.iter().all(|p| {
        let sums = matches!(
            p,
            Placement::Halo {
                overlap: Overlap::Sums,
                ..
            }
        );
        !sums && !matches!(p, Placement::Partial(_))
    });
    let seed = if copies { 1 } else { 2 + worker as u64 };
    let index = layout.indices(mesh, shape, worker);
    let n: usize = local.iter().product();
    let mut v = Vec::with_capacity(n);
    for k in 0..n {
        let mut rest = k;
        let (mut global, mut scale) = (0, 1);
        for d in (0..shape.len()).rev() {
            global += index[d][rest % local[d]] * scale;
            rest /= local[d];
            scale *= shape[d];
        }
        let z = (seed << 40 ^ global as u64)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ z >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        v.push((z >> 11) as f64 / (1u64 << 53) as f64 - 0.5);
    }
    Shard::new(0, local, v.into())
}

/// Runs every case on `fabric`, one after the other, and returns what the workers of this process
/// got, by worker and case.
pub(crate) fn run(fabric: &Fabric, cases: Vec<Case>) -> Vec<Vec<Data>> {
    let results = fabric.run(move |worker, context| {
        let mesh = Mesh::line("x", context.peers);
        let got = Rc::new(RefCell::new(Vec::new()));
        for (i, (shape, from, to)) in cases.iter().enumerate() {
            let plan = Relayout::plan(&mesh, shape, DType::F64, from, to).expect("total");
            let mine = piece(&mesh, shape, from, context.index);
            let sink = Rc::clone(&got);
            worker.dataflow::<u64, _, _>(|scope| {
                let source: TimelyStream<u64, Batch> = Some(mine).to_stream(scope);
                relayout(source, &plan).inspect_core(move |event| {
                    if let Ok((_, batch)) = event {
                        sink.borrow_mut()
                            .extend(batch.shards.iter().map(|s| s.data().clone()));
                    }
                });
            });
            context.drive(worker, || got.borrow().len() <= i);
        }
        got.take()
    });
    results.unwrap_or_else(|e| panic!("{fabric}: {e}"))
}

/// Checks every case on `fabric`: each worker of this process gets the bits of the in-memory
/// reference, ⟨R x, y⟩ = ⟨x, Rᵀ y⟩ where both moves went through the fabric, and what is sent is
/// received. Returns the number of relayouts checked.
pub(crate) fn check(fabric: &Fabric, shape: &[usize]) -> usize {
    let workers = fabric.workers();
    let mesh = Mesh::line("x", workers);
    let mut forward = all_pairs(shape);
    // a piece goes around less than once
    let fits = |l: &Layout| l.check(&mesh, shape, DType::F64).is_ok();
    forward.retain(|(_, from, to)| workers > 1 || (fits(from) && fits(to)));
    let plan = |(shape, from, to): &Case| {
        Relayout::plan(&mesh, shape, DType::F64, from, to).expect("total")
    };
    let backward: Vec<Case> = forward
        .iter()
        .map(|c| plan(c).adjoint().expect("linear"))
        .map(|a| (shape.to_vec(), a.from().clone(), a.to().clone()))
        .collect();
    let (there, back) = (run(fabric, forward.clone()), run(fabric, backward.clone()));
    let first = fabric.process() * there.len();
    let pieces = |case: &Case| -> Vec<Shard> {
        (0..workers)
            .map(|w| piece(&mesh, shape, &case.1, w))
            .collect()
    };
    for (i, (f, b)) in forward.iter().zip(&backward).enumerate() {
        let place = format!("{} -> {} over {fabric}", f.1, f.2);
        let (x, y) = (pieces(f), pieces(b));
        let (fx, by) = (
            plan(f).apply(&x).expect("fits"),
            plan(b).apply(&y).expect("fits"),
        );
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let (mut left, mut right) = (0.0, 0.0);
        for w in 0..workers {
            // what this process got is compared to the bit, then stands for itself
            let local = w.checked_sub(first).filter(|&l| l < there.len());
            let (mut rx, mut ry) = (fx[w].data(), by[w].data());
            if let Some(l) = local {
                assert!(there[l][i] == *rx, "{place}: worker {w}");
                assert!(back[l][i] == *ry, "adjoint of {place}: worker {w}");
                (rx, ry) = (&there[l][i], &back[l][i]);
            }
            left += dot(rx.get().expect("f64"), y[w].elements());
            right += dot(x[w].elements(), ry.get().expect("f64"));
        }
        assert!(
            (left - right).abs() <= 1e-12 * (shape.iter().product::<usize>() as f64),
            "{place}: {left} and {right}"
        );
        let sent: usize = (0..workers).map(|w| plan(f).bytes_sent(w)).sum();
        let received: usize = (0..workers).map(|w| plan(f).bytes_received(w)).sum();
        assert_eq!(sent, received, "{place}");
    }
    forward.len() + backward.len()
}
