//! Layers at places: whatever the stages, chunks and micro-batches, one model is trained.

use advect_engine::Fabric;
use advect_operators::transformer::{Gpt, Role, Strategy};

use crate::job::{How, batches, model, recipe, train};
use crate::{near, on, on_mesh};

/// Gradients of parameters that are made when nothing else is to do have the same bits: on stages, with
/// everything on one worker, and where they are reduced at every micro-batch or gathered again.
#[test]
fn zero_bubble_has_the_same_bits() {
    let model = model();
    let many = batches(&model, 3, 6, 2);
    for mesh in [
        "data 1",
        "stage 4",
        "stage 2 (1 1 1 1)",
        "stage 2, zero-2 2",
        "stage 2, zero-3 2",
        "stage 2, tensor 2",
    ] {
        let strategy: Strategy = mesh.parse().expect("a mesh");
        let fabric = Fabric::Threads(strategy.mesh().workers());
        let [now, later] = [false, true].map(|later| {
            train(
                &model,
                &strategy,
                &recipe(),
                &many,
                &fabric,
                How {
                    later,
                    ..How::with(Some(1))
                },
            )
            .unwrap_or_else(|e| panic!("{mesh}: {e}"))
        });
        assert!(now.reports == later.reports, "{mesh}: reports");
        assert!(now.parameters == later.parameters, "{mesh}: parameters");
    }
}

/// Two and four stages, even, uneven, interleaved and more of them than layers; fewer micro-batches
/// than stages, as many, and more. The table of tokens is used at both ends.
#[test]
fn equal_on_stages() {
    let model = model();
    for micros in [1, 3, 4, 9] {
        let batches = batches(&model, 5, micros, 1);
        let alone = on(&model, &[(Role::Data, 1)], &batches);
        for mesh in [
            "stage 2",
            "stage 4",
            "stage 6",
            "stage 2 (3 1)",
            "stage 3 (1 0 3)",
            "stage 2 (1 1 1 1)",
            "stage 2 (0 2 1 0 1 0)",
        ] {
            for last in [Some(1), None] {
                let learned = on_mesh(&model, mesh, &batches, last);
                near(&format!("{mesh}, {micros}, {last:?}"), &alone, &learned);
            }
        }
    }
}

/// Stages beside every other role, outside and inside of it, sharded storage among them.
#[test]
fn equal_on_stages_and_other_axes() {
    let model = model();
    let batches = batches(&model, 5, 4, 2);
    let alone = on(&model, &[(Role::Data, 1)], &batches);
    for other in [
        "data 2",
        "zero-1 2",
        "zero-2 2",
        "zero-3 2",
        "tensor 2",
        "sequence 2",
        "context-gather 2",
        "context-heads 2",
        "zero-1 2, tensor 2",
        "zero-2 2, data 2",
        "zero-3 2, sequence 2",
    ] {
        for mesh in [
            format!("stage 2, {other}"),
            format!("{other}, stage 2 (1 3)"),
        ] {
            near(&mesh, &alone, &on_mesh(&model, &mesh, &batches, Some(1)));
        }
    }
}

/// Data, tensor, stages and positions, two workers each, in all 24 orders.
#[test]
fn equal_on_stages_in_every_order() {
    let model = Gpt {
        layers: 2,
        ..model()
    };
    let batches = batches(&model, 5, 2, 2);
    let alone = on(&model, &[(Role::Data, 1)], &batches);
    let roles = ["zero-1 2", "tensor 2", "stage 2", "context-heads 2"];
    for order in crate::orders() {
        let mesh = order.map(|i| roles[i]).join(", ");
        near(&mesh, &alone, &on_mesh(&model, &mesh, &batches, Some(1)));
    }
}

/// A stage has the micro-batches of its depth in work, and no more; what is learned has the bits of the
/// schedule that takes all at once.
#[test]
fn depth_bounds_what_is_kept() {
    let model = model();
    let many = batches(&model, 3, 8, 2);
    let [one, all] = [Some(1), None].map(|last| on_mesh(&model, "stage 4", &many, last));
    assert!(one.parameters == all.parameters, "the same bits");
    let single = on_mesh(&model, "stage 4", &batches(&model, 1, 1, 2), None);
    for stage in 0..4 {
        let (peak, unit) = (one.peak[stage], single.peak[stage]);
        assert!(
            unit > 0 && peak <= (4 - stage) * unit,
            "stage {stage}: {peak}, {unit}"
        );
    }
}

/// Chunks that do not fit say so.
#[test]
fn refuse_chunks() {
    for (mesh, why) in [
        ("stage 2 (1 1 1)", "the same number of chunks"),
        ("stage 2, stage 2", "one 'stage'"),
        ("data 2 (1 1)", "no layers"),
        ("stage 2 (a b)", "is no axis"),
        ("stage 2 (1 1", "is no axis"),
    ] {
        let said = mesh.parse::<Strategy>().expect_err(mesh).to_string();
        assert!(said.contains(why), "{mesh}: {said}");
    }
    let strategy: Strategy = "stage 2 (1 1)".parse().expect("a mesh");
    let said = model().train(1, advect_engine::DType::F64, &strategy);
    let said = said.expect_err("four layers").to_string();
    assert!(said.contains("4 layers"), "{said}");
}
