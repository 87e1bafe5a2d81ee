//! What is let go and made again on the way back: activations, and parameters that are stored cut.

use advect_engine::Fabric;
use advect_operators::transformer::Strategy;

use crate::job::{How, Learned, batches, model, recipe, train};

fn trained(mesh: &str, recompute: bool, micros: usize) -> Learned {
    let strategy: Strategy = mesh.parse().expect("a mesh");
    let strategy = strategy.recomputing(recompute);
    let fabric = Fabric::Threads(strategy.mesh().workers());
    let batches = batches(&model(), 3, micros, 4);
    train(
        &model(),
        &strategy,
        &recipe(),
        &batches,
        &fabric,
        How::with(Some(1)),
    )
    .unwrap_or_else(|e| panic!("{mesh}: {e}"))
}

/// Blocks that are computed twice learn the same bits, on every kind of mesh, and keep less: the inputs
/// of blocks, and one block while it is gone back through, with all its gathered parameters in ZeRO-3.
#[test]
fn recomputed_blocks_have_the_same_bits() {
    for mesh in [
        "data 1",
        "data 2, tensor 2",
        "zero-2 2, sequence 2",
        "zero-3 2, context-gather 2",
        "zero-3 2, stage 2",
        "context-heads 2, stage 2 (1 1 1 1)",
        "context-zig-zag 4",
    ] {
        let [kept, remade] = [false, true].map(|again| trained(mesh, again, 3));
        assert!(kept.reports == remade.reports, "{mesh}: reports");
        assert!(kept.parameters == remade.parameters, "{mesh}: parameters");
        for (worker, (kept, remade)) in kept.peak.iter().zip(&remade.peak).enumerate() {
            assert!(
                remade < kept && (mesh != "data 1" || 2 * remade < *kept),
                "{mesh}, worker {worker}: {remade} of {kept}"
            );
        }
    }
}

/// A parameter that is gathered at every use is let go between: what is kept is less by the matrices of
/// the blocks.
#[test]
fn gathered_parameters_are_let_go() {
    let [two, three] = ["zero-2 2", "zero-3 2"].map(|mesh| trained(mesh, false, 1));
    let model = model();
    let (h, f) = (model.width, model.hidden);
    let matrices = model.layers * (4 * h * h + 2 * h * f) + model.vocabulary * h;
    for (two, three) in two.peak.iter().zip(&three.peak) {
        assert_eq!(two - three, matrices * 8, "{two} and {three}");
    }
}
