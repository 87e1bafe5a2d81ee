//! A checkpoint does not know the mesh it was written on.

use advect_operators::training::Trainable;
use advect_operators::transformer::{Activation, Gpt, Strategy, Style};

use super::*;

fn model() -> Gpt {
    Gpt {
        vocabulary: 31,
        context: 6,
        layers: 3,
        width: 12,
        heads: 6,
        groups: 3,
        head: 5,
        hidden: 21,
        activation: Activation::Gelu,
        style: Style::GPT2,
    }
}

fn built(mesh: &str) -> Trainable {
    let strategy: Strategy = mesh.parse().expect("a mesh");
    let made = model().train(2, advect_engine::DType::F32, &strategy);
    made.expect("the extents fit")
}

const SLOTS: [Option<&str>; 3] = [None, Some("mean"), Some("square")];

/// The whole tensor of a name: numbers that only it has.
fn whole(name: &str, spec: &Spec) -> Data {
    let n: usize = spec.shape.iter().product();
    let first = crc32fast::hash(name.as_bytes()) % 1000;
    (0..n)
        .map(|i| (first as f32) + i as f32 / 7.0)
        .collect::<Vec<f32>>()
        .into()
}

fn write_on(mesh: &str, directory: &Path) {
    let trainable = built(mesh);
    let (graph, mesh) = (&trainable.graph, trainable.graph.mesh());
    let held = |worker: usize| -> Vec<Held> {
        let all = graph.parameters().flat_map(|(parameter, value)| {
            let spec = graph.spec(value);
            SLOTS.map(|slot| {
                let whole = whole(&name(parameter, slot), spec);
                let data = spec
                    .cut(mesh, 0, &whole)
                    .expect("it fits")
                    .swap_remove(worker);
                Held {
                    name: parameter.to_owned(),
                    slot: slot.map(|s| if s == "mean" { "mean" } else { "square" }),
                    spec: spec.clone(),
                    data: data.into_data(),
                }
            })
        });
        all.collect()
    };
    let part = |w: usize| write_part(directory, w, &pieces(&held(w), mesh, w)).expect("written");
    let progress = Progress {
        step: 5,
        sample: 40,
        seed: 1,
        job: BTreeMap::new(),
    };
    let manifest = Manifest::new(progress, (0..mesh.workers()).map(part).collect());
    manifest
        .expect("pieces tile")
        .commit(directory)
        .expect("written");
}

/// Saved on data, tensor and stages, read on tensors alone, on three, on one worker and on others: all
/// parameters and all state of the optimizer have the same bits.
#[test]
fn any_mesh_reads_what_any_mesh_wrote() {
    for from in [
        "data 2, tensor 2, stage 2",
        "zero-3 3",
        "stage 2 (1 1 1 0), zero-1 2",
    ] {
        let directory = tempfile::tempdir().expect("a directory can be made");
        write_on(from, directory.path());
        let checkpoint = Arc::new(Checkpoint::open(directory.path()).expect("it is whole"));
        for to in [
            "tensor 4",
            "zero-1 3",
            "data 3",
            "data 1",
            "zero-2 2, stage 3",
            "sequence 5",
        ] {
            let trainable = built(to);
            let (graph, mesh) = (&trainable.graph, trainable.graph.mesh());
            for (parameter, value) in graph.parameters() {
                let spec = graph.spec(value);
                for slot in SLOTS {
                    for worker in 0..mesh.workers() {
                        let start = start(&checkpoint, mesh, worker);
                        assert_eq!(start.steps, 5);
                        let got = (start.read)(parameter, slot, spec).expect("it is there");
                        let want = spec.cut(mesh, 0, &whole(&name(parameter, slot), spec));
                        let want = want.expect("it fits").swap_remove(worker);
                        assert_eq!(&got, want.data(), "{from} to {to}: {parameter} {slot:?}");
                    }
                }
            }
        }
    }
}

/// A model, an optimizer or a part that is not that of the checkpoint is named.
#[test]
fn what_does_not_fit_is_named() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    write_on("data 2", directory.path());
    let checkpoint = Arc::new(Checkpoint::open(directory.path()).expect("it is whole"));
    let trainable = built("data 1");
    let graph = &trainable.graph;
    let (parameter, value) = graph.parameters().next().expect("it has parameters");
    let spec = graph.spec(value);
    let start = start(&checkpoint, graph.mesh(), 0);
    let said = |name: &str, slot: Option<&str>, spec: &Spec| {
        (start.read)(name, slot, spec)
            .expect_err("it is not there")
            .to_string()
    };
    let other = said(parameter, Some("speed"), spec);
    assert!(
        other.contains("@speed") && other.contains("optimizer"),
        "{other}"
    );
    let mut wide = spec.clone();
    wide.shape[1] += 1;
    let wide = said(parameter, None, &wide);
    assert!(wide.contains("[31, 12], not F32 [31, 13]"), "{wide}");
    std::fs::remove_file(directory.path().join("part-0000.safetensors")).expect("it was there");
    let gone = said(parameter, None, spec);
    assert!(
        gone.contains("part-0000.safetensors") && gone.contains("worker 0"),
        "{gone}"
    );
}
