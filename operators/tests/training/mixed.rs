//! Mixed precision: what flows is rounded to `bf16`, what is learned is not.

use advect_engine::{DType, Fabric};
use advect_operators::transformer::Strategy;

use crate::job::{How, Learned, batches, model, recipe, train};

fn trained(mesh: &str, dtype: DType, micros: usize, recompute: bool) -> Learned {
    let strategy: Strategy = mesh.parse().expect("a mesh");
    let strategy = strategy.recomputing(recompute);
    let fabric = Fabric::Threads(strategy.mesh().workers());
    // the same samples in micro-batches of four or twelve
    let batches = batches(&model(), 5, micros, 12 / micros);
    let how = How {
        dtype,
        ..How::with(Some(1))
    };
    train(&model(), &strategy, &recipe(), &batches, &fabric, how)
        .unwrap_or_else(|e| panic!("{mesh}: {e}"))
}

/// The largest relative difference of two curves.
fn apart(a: &Learned, b: &Learned) -> f64 {
    assert_eq!(a.reports.len(), b.reports.len());
    let pairs = a.reports.iter().zip(&b.reports);
    let apart = pairs.map(|(a, b)| (a.loss - b.loss).abs() / b.loss);
    apart.fold(0.0, f64::max)
}

/// The curve is that of single precision to a part of a hundred, though its numbers are others, and half the
/// bytes wait for the adjoint.
#[test]
fn mixed_learns_what_single_precision_learns() {
    let [mixed, single] = [DType::BF16, DType::F32].map(|dtype| trained("data 1", dtype, 1, false));
    let by = apart(&mixed, &single);
    println!("by {by:.1e}, kept {} of {}", mixed.peak[0], single.peak[0]);
    assert!(0.0 < by && by < 0.01, "{by}");
    let share = mixed.peak[0] as f64 / single.peak[0] as f64;
    assert!((0.5..0.56).contains(&share), "{share}");
}

/// Where no sum is cut that flows, every layout rounds the same numbers, and the first loss differs by the
/// order of its sum alone. Then weights that differ in their last bits are sometimes rounded to neighbours.
/// Recomputed blocks have the same bits.
#[test]
fn mixed_on_every_mesh() {
    let alone = trained("data 1", DType::BF16, 3, false);
    for (mesh, first, limit) in [
        ("data 2", 1e-6, 1e-3),
        ("zero-1 2", 1e-6, 1e-3),
        ("zero-2 3", 1e-6, 1e-3),
        ("zero-3 2", 1e-6, 1e-3),
        ("stage 2", 1e-6, 1e-3),
        ("context-heads 2", 1e-6, 1e-3),
        ("context-gather 2, zero-1 2", 1e-6, 5e-3),
        ("tensor 2", 2e-3, 5e-3),
        ("sequence 2, stage 2", 2e-3, 5e-3),
    ] {
        let cut = trained(mesh, DType::BF16, 3, false);
        let by = apart(&cut, &alone);
        let [at_first, want] = [&cut, &alone].map(|all| all.reports[0].loss);
        let at_first = (at_first - want).abs() / want;
        println!("{mesh}: {at_first:.1e} and {by:.1e}");
        assert!(
            at_first < first && by < limit,
            "{mesh}: {at_first} and {by}"
        );
    }
    let remade = trained("zero-3 2, stage 2", DType::BF16, 3, true);
    let kept = trained("zero-3 2, stage 2", DType::BF16, 3, false);
    assert!(remade.reports == kept.reports && remade.parameters == kept.parameters);
}
