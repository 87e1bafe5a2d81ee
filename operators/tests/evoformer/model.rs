//! The training of an Evoformer on every mesh is that of one worker.

use advect_engine::DType;
use advect_operators::evoformer::Evoformer;
use advect_operators::transformer::Strategy;

use super::job::{Learned, model, train};

const LIMIT: f64 = 1e-10;

fn on(model: &Evoformer, mesh: &str, dtype: DType) -> Learned {
    train(model, &mesh.parse().expect("a mesh"), dtype)
}

fn near(place: &str, a: &Learned, b: &Learned) {
    assert_eq!(a.reports.len(), b.reports.len(), "{place}: steps");
    for (x, y) in a.reports.iter().zip(&b.reports) {
        let gaps = [(x.loss - y.loss) / x.loss, (x.norm - y.norm) / x.norm];
        let fits = gaps.iter().all(|gap| gap.abs() <= LIMIT);
        assert!(x.targets == y.targets && fits, "{place}: {x:?}, {y:?}");
    }
    assert_eq!(a.parameters.len(), b.parameters.len());
    for (name, x) in &a.parameters {
        let y = &b.parameters[name];
        let norm = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut x.iter().copied());
        let apart = norm(&mut x.iter().zip(y).map(|(x, y)| x - y));
        // a shift that no weight depends on stays where it began, at 0
        let fits = apart <= LIMIT * size.max(0.1);
        assert!(
            x.len() == y.len() && fits,
            "{place}: {name} by {apart} of {size}"
        );
    }
}

/// Rows, rows and heads, rows of pairs, and every other role, with pieces that are uneven: losses, norms and all
/// parameters after three clipped AdamW steps.
#[test]
fn equal_on_every_mesh() {
    let model = model();
    let alone = on(&model, "data 1", DType::F64);
    let losses: Vec<f64> = alone.reports.iter().map(|r| r.loss).collect();
    assert!(
        losses.len() == 3 && losses[2] < losses[0],
        "it learns: {losses:?}"
    );
    for mesh in [
        "context-heads 2",
        "context-heads 2, tensor 2",
        "context-gather 2",
        "context-heads 3",
        "context-gather 4",
        "context-heads 2, context-gather 2",
        "data 2",
        "tensor 2",
        "sequence 2",
        "zero-1 2",
        "zero-3 2, context-heads 2",
        "stage 2",
        "stage 2, context-gather 2",
    ] {
        near(mesh, &alone, &on(&model, mesh, DType::F64));
    }
}

/// What is made again on the way back, and what is kept, are the same.
#[test]
fn recomputed_is_kept() {
    let model = model();
    for mesh in ["data 1", "context-heads 2"] {
        let strategy: Strategy = mesh.parse().expect("a mesh");
        let kept = train(&model, &strategy, DType::F64);
        let made = train(&model, &strategy.recomputing(true), DType::F64);
        assert_eq!(kept, made, "{mesh}: bits");
    }
}

/// In canonical numbers, training has the same bits however rows, columns and samples are cut.
#[test]
fn canonical_bits_on_every_mesh() {
    let model = model();
    let alone = on(&model, "data 1", DType::Canonical);
    for mesh in [
        "context-heads 2",
        "context-heads 4",
        "context-gather 2",
        "data 2",
    ] {
        let found = on(&model, mesh, DType::Canonical);
        assert_eq!(alone.parameters, found.parameters, "{mesh}");
    }
}

/// With what flows rounded it learns, too, and without distances there is the loss of letters alone.
#[test]
fn rounded_and_without_distances() {
    let rounded = on(&model(), "context-heads 2, tensor 2", DType::BF16);
    let single = on(&model(), "data 1", DType::F32);
    for (a, b) in rounded.reports.iter().zip(&single.reports) {
        assert!((a.loss - b.loss).abs() <= 2e-2 * b.loss, "{a:?}, {b:?}");
    }
    let letters = Evoformer { bins: 0, ..model() };
    let strategy = Strategy::alone();
    let graph = letters
        .train(1, DType::F32, &strategy)
        .expect("it fits")
        .graph;
    let outputs: Vec<&str> = graph.outputs().map(|(name, _)| name).collect();
    assert_eq!(outputs, ["count", "loss"]);
    let learned = |mesh| on(&letters, mesh, DType::F64);
    let alone = learned("data 1");
    assert!(alone.reports[2].loss < alone.reports[0].loss, "it learns");
    for mesh in ["context-heads 2", "stage 2"] {
        near(mesh, &alone, &learned(mesh));
    }
    let graph = model()
        .infer(1, DType::F32, &strategy)
        .expect("it fits")
        .graph;
    let shapes: Vec<_> = graph
        .outputs()
        .map(|(_, v)| graph.spec(v).shape.clone())
        .collect();
    assert_eq!(shapes, [vec![1, 7, 7, 5], vec![1, 5, 7, 22]]);
}

/// Extents that cannot be are refused by their names.
#[test]
fn extents_are_checked() {
    let refused = |model: Evoformer| {
        let made = model.train(1, DType::F32, &Strategy::alone());
        made.map(|_| ()).expect_err("it cannot be").to_string()
    };
    let none = Evoformer {
        pair_heads: 0,
        ..model()
    };
    let said = refused(none);
    assert!(said.contains("pair-heads is 0"), "{said}");
    let none = Evoformer {
        alphabet: 0,
        ..model()
    };
    let said = refused(none);
    assert!(said.contains("alphabet is 0"), "{said}");
}
