//! A ViT on every mesh has the loss and the gradients of one worker, learns, and leaves out what was not observed.

use std::collections::BTreeMap;

use advect_engine::{DType, Data, Shard};
use advect_operators::transformer::{Activation, Positions, Strategy, Style, Vit};

fn model() -> Vit {
    Vit {
        patches: 12,
        inputs: 8,
        outputs: 3,
        layers: 2,
        width: 24,
        heads: 6,
        head: 4,
        hidden: 40,
        activation: Activation::Gelu,
        style: Style::GPT2,
    }
}

const SAMPLES: usize = 4;

/// Numbers between -1 and 1, from a name.
fn numbers(name: &str, n: usize) -> Vec<f64> {
    let seed = name.bytes().fold(7.0, |s, b| s * 1.3 + f64::from(b));
    (0..n).map(|i| (seed + i as f64 * 12.9898).sin()).collect()
}

/// Loss, count and gradients, whole, at weights that are made from their names.
fn at(vit: &Vit, mesh: &str, missing: bool) -> (f64, f64, BTreeMap<String, Vec<f64>>) {
    at_strategy(vit, &mesh.parse().expect("a mesh"), missing)
}

fn at_strategy(
    vit: &Vit,
    strategy: &Strategy,
    missing: bool,
) -> (f64, f64, BTreeMap<String, Vec<f64>>) {
    let trainable = vit.train(SAMPLES, DType::F64, strategy).expect("it fits");
    let graph = &trainable.graph;
    let mesh = graph.mesh();
    let source = |(name, value): (&str, _)| {
        let spec = graph.spec(value);
        let mut whole = numbers(name, spec.shape.iter().product());
        if name == "targets" && missing {
            whole.iter_mut().step_by(3).for_each(|y| *y = f64::NAN);
        }
        let pieces = spec.cut(mesh, 0, &Data::from(whole)).expect("it fits");
        (name.to_owned(), pieces)
    };
    let sources = graph.sources().map(source).collect();
    let now = graph.rehearse(&sources, [0, 0], 0).expect("it works");
    let output = |name| {
        let found = graph.outputs().find(|(n, _)| *n == name);
        let (_, value) = found.expect("it is there");
        let whole = graph.spec(value).join(mesh, now.value(value));
        (
            value,
            whole.expect("it fits").doubles().expect("it is real")[0],
        )
    };
    let ((loss, value), (_, count)) = (output("loss"), output("count"));
    let dual = graph.spec(loss).dual().expect("it has one");
    let seeds: Vec<Shard> = dual.cut(mesh, 0, &vec![1.0].into()).expect("it fits");
    let parameters: Vec<_> = graph.parameters().collect();
    let wanted: Vec<_> = parameters.iter().map(|(_, value)| *value).collect();
    let mut found = now
        .adjoint(&BTreeMap::from([(loss, seeds)]), &wanted)
        .expect("it has one");
    let gradient = |(name, value): &(&str, _)| {
        let pieces = found.remove(value).expect("every parameter has a gradient");
        let dual = graph.spec(*value).dual().expect("it has one");
        let whole = dual.join(mesh, &pieces).expect("it fits");
        ((*name).to_owned(), whole.doubles().expect("it is real"))
    };
    let gradients = parameters.iter().map(gradient).collect();
    (value, count, gradients)
}

/// One role and several, patches and heads cut unevenly, learned and turned positions.
#[test]
fn vit_on_every_mesh() {
    let rotary = Vit {
        style: Style {
            positions: Positions::Rotary,
            ..Style::GPT2
        },
        ..model()
    };
    for vit in [model(), rotary] {
        let (loss, count, gradients) = at(&vit, "data 1", true);
        assert_eq!(count, (SAMPLES * 12 * 3 * 2 / 3) as f64);
        for mesh in [
            "data 3",
            "zero-1 2",
            "zero-3 2",
            "tensor 4",
            "sequence 3",
            "context-gather 5",
            "context-heads 4",
            "stage 2",
            "stage 2, data 2, tensor 2",
            "zero-2 2, sequence 2, context-gather 2",
        ] {
            let (other, same, cut) = at(&vit, mesh, true);
            assert!(
                (other - loss).abs() <= 1e-12 * loss,
                "{mesh}: {other} of {loss}"
            );
            assert_eq!(count, same, "{mesh}");
            assert_eq!(cut.len(), gradients.len());
            for (name, want) in &gradients {
                let size = want.iter().map(|x| x * x).sum::<f64>().sqrt();
                let pairs = want.iter().zip(&cut[name]);
                let apart = pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
                assert!(apart <= 1e-10 * size, "{mesh}: {name} by {apart} of {size}");
            }
        }
    }
}

/// On a device, where every patch sees all others, loss and gradients are those of the kernels.
#[test]
fn vit_on_a_device() {
    let device = std::env::var("ADVECT_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let (loss, _, gradients) = at(&model(), "data 1", false);
    for mesh in ["data 1", "tensor 4", "context-gather 2, sequence 2"] {
        let strategy: Strategy = mesh.parse().expect("a mesh");
        let (other, _, cut) = at_strategy(&model(), &strategy.on(&device), false);
        assert!((other - loss).abs() <= 1e-12 * loss, "{mesh}: {other}");
        for (name, want) in &gradients {
            let size = want.iter().map(|x| x * x).sum::<f64>().sqrt();
            let pairs = want.iter().zip(&cut[name]);
            let apart = pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
            assert!(
                size > 0.0 && apart <= 1e-10 * size,
                "{mesh}: {name} by {apart} of {size}"
            );
        }
    }
}

/// Targets that are not there change neither the loss of the others nor any gradient: with and without them
/// differ, and what a patch gives depends on all patches.
#[test]
fn what_is_not_observed_does_not_count() {
    let (some, few, _) = at(&model(), "data 1", true);
    let (all, many, gradients) = at(&model(), "data 1", false);
    assert!(few < many && some < all && some.is_finite());
    assert!(gradients.values().flatten().all(|x| x.is_finite()));
    let places = &gradients["positions.weight"];
    let seen = places.chunks(24).all(|row| row.iter().any(|x| *x != 0.0));
    assert!(seen, "every patch is seen");
}

/// Extents that cannot be are refused by their names.
#[test]
fn extents_are_checked() {
    let refused = |vit: Vit| {
        let made = vit.train(1, DType::F32, &Strategy::alone());
        made.map(|_| ()).expect_err("it cannot be").to_string()
    };
    let said = refused(Vit {
        inputs: 0,
        ..model()
    });
    assert!(said.contains("inputs is 0"), "{said}");
    let said = refused(Vit {
        heads: 0,
        ..model()
    });
    assert!(said.contains("heads is 0"), "{said}");
}
