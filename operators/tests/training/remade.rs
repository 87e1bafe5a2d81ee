//! What is let go and made again on the way back: activations, and parameters that are stored cut.

use advect_engine::Fabric;
use advect_operators::transformer::Strategy;

use crate::job::{How, Learned, batches, model, recipe, train};

fn trained(mesh: &str, recompute: bool, micros: usize) -> Learned {
    let strategy: Strategy = mesh.parse().expect("a mesh");
    on(&strategy.recomputing(recompute), micros)
}

fn on(strategy: &Strategy, micros: usize) -> Learned {
    let fabric = Fabric::Threads(strategy.mesh().workers());
    let batches = batches(&model(), 3, micros, 4);
    let how = How::with(Some(1));
    let learned = train(&model(), strategy, &recipe(), &batches, &fabric, how);
    learned.unwrap_or_else(|e| panic!("{strategy}: {e}"))
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

/// What waits in files learns the same bits on every kind of mesh, keeps less in memory where nothing is computed again, and leaves nothing behind.
#[test]
fn offloaded_activations_have_the_same_bits() {
    let scratch = tempfile::tempdir().expect("a directory can be made");
    for mesh in [
        "data 1",
        "zero-3 2, tensor 2",
        "context-zig-zag 4",
        "context-gather 2, stage 2",
    ] {
        for recompute in [false, true] {
            let [here, away] = [None, Some(scratch.path())].map(|directory| {
                let strategy: Strategy = mesh.parse().expect("a mesh");
                let strategy = strategy.recomputing(recompute);
                match directory {
                    Some(directory) => on(&strategy.offloading(directory), 3),
                    None => on(&strategy, 3),
                }
            });
            assert!(here.reports == away.reports, "{mesh}: reports");
            assert!(here.parameters == away.parameters, "{mesh}: parameters");
            for (here, away) in here.peak.iter().zip(&away.peak) {
                // of blocks that are computed again, one block is the most that is kept at once
                assert!(
                    recompute || 3 * away < 2 * here,
                    "{mesh}, {recompute}: {away} of {here}"
                );
            }
        }
    }
    let left = std::fs::read_dir(scratch.path()).expect("it is there");
    assert_eq!(left.count(), 0);
}

/// A directory that is not there ends the job with its name and the mend.
#[test]
fn offloading_needs_a_directory() {
    let strategy = Strategy::alone().offloading("/nowhere/at/all");
    let fabric = Fabric::Threads(1);
    let batches = batches(&model(), 1, 1, 2);
    let how = How::default();
    let said = train(&model(), &strategy, &recipe(), &batches, &fabric, how).expect_err("no place");
    let said = said.to_string();
    for part in ["/nowhere/at/all", "worker 0", "choose another directory"] {
        assert!(said.contains(part), "{said}");
    }
}
