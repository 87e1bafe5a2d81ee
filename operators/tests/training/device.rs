//! Blocks on a device learn what they learn on the kernels of this crate: on the processor device of candle, or on
//! the one that the environment variable `ADVECT_DEVICE` names.

use advect_engine::{DType, Fabric};
use advect_operators::network::Dropout;
use advect_operators::transformer::{Activation, Gpt, Strategy, Style};

use crate::job::{How, Learned, Micro, batches, model, recipe, train};
use crate::near;

fn device() -> String {
    std::env::var("ADVECT_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

/// Trains on the mesh, on the device or not.
fn trained(
    model: &Gpt,
    mesh: &str,
    batches: &[Vec<Micro>],
    dtype: DType,
    how: impl Fn(Strategy) -> Strategy,
) -> Learned {
    let strategy = how(mesh.parse().expect("a mesh"));
    let fabric = Fabric::Threads(strategy.mesh().workers());
    let how = How {
        dtype,
        ..How::with(Some(1))
    };
    train(model, &strategy, &recipe(), batches, &fabric, how)
        .unwrap_or_else(|e| panic!("{mesh}: {e}"))
}

fn on_device(model: &Gpt, mesh: &str, batches: &[Vec<Micro>]) -> Learned {
    trained(model, mesh, batches, DType::F64, |s| s.on(device()))
}

fn alone(model: &Gpt, batches: &[Vec<Micro>]) -> Learned {
    trained(model, "data 1", batches, DType::F64, |s| s)
}

fn small() -> Gpt {
    Gpt {
        layers: 2,
        ..model()
    }
}

fn llama() -> Gpt {
    Gpt {
        groups: 4,
        hidden: 44,
        activation: Activation::Swiglu,
        style: Style::LLAMA,
        ..small()
    }
}

/// On every role the functions of a device train as the kernels of one worker do: losses, norms of gradients and
/// parameters after five clipped steps. A gradient that is cut anywhere would show in all three.
#[test]
fn equal_on_a_device() {
    let model = small();
    let batches = batches(&model, 5, 2, 4);
    let alone = alone(&model, &batches);
    for mesh in [
        "data 1",
        "data 2",
        "tensor 2",
        "sequence 2",
        "zero-1 2",
        "zero-2 2",
        "zero-3 2",
        "stage 2",
        "context-gather 2",
        "context-gather-zig-zag 2",
        "context-zig-zag 2",
        "context-heads 2",
        "data 2, tensor 2",
        "zero-3 2, sequence 2",
        "stage 2 (1 0 0 1), context-gather 2",
    ] {
        near(mesh, &alone, &on_device(&model, mesh, &batches));
    }
}

/// Heads that no number of workers divides, some of which have none, shared keys, and positions in several blocks of
/// queries.
#[test]
fn equal_with_uneven_heads_on_a_device() {
    let model = Gpt {
        context: 140,
        heads: 6,
        groups: 3,
        head: 6,
        hidden: 30,
        ..small()
    };
    let batches = batches(&model, 3, 1, 3);
    let alone = alone(&model, &batches);
    for mesh in ["tensor 4", "context-heads 4", "context-gather 2, zero-1 2"] {
        near(mesh, &alone, &on_device(&model, mesh, &batches));
    }
}

/// The style of Llama, with norms by the mean square, turned positions, gates and groups of heads.
#[test]
fn equal_in_the_style_of_llama_on_a_device() {
    let (model, batches) = (llama(), batches(&llama(), 5, 2, 4));
    let alone = alone(&model, &batches);
    for mesh in [
        "data 1",
        "tensor 2",
        "zero-3 2, sequence 2",
        "context-gather 2",
        "context-heads 2",
    ] {
        near(mesh, &alone, &on_device(&model, mesh, &batches));
    }
}

/// Blocks that are computed twice have the bits of those that are kept, and keep less; parameters that are gathered
/// at every use are not kept.
#[test]
fn remade_on_a_device() {
    let model = model();
    let batches = batches(&model, 3, 2, 4);
    for mesh in ["data 1", "zero-3 2", "sequence 2"] {
        let [kept, remade] = [false, true].map(|again| {
            trained(&model, mesh, &batches, DType::F64, |s| {
                s.recomputing(again).on(device())
            })
        });
        assert!(kept.reports == remade.reports, "{mesh}: reports");
        assert!(kept.parameters == remade.parameters, "{mesh}: parameters");
        println!("{mesh}: {:?} and {:?}", kept.peak, remade.peak);
        if mesh != "zero-3 2" {
            assert!(remade.peak[0] < kept.peak[0], "{mesh}");
        }
    }
    let [two, three] =
        ["zero-2 2", "zero-3 2"].map(|mesh| on_device(&model, mesh, &batches).peak[0]);
    assert!(2 * three < two, "{three} of {two}");
}

/// Dropout is that of the samples, and stays where it is.
#[test]
fn equal_with_dropout_on_a_device() {
    let model = Gpt {
        style: Style {
            dropout: Dropout { rate: 0.2, seed: 5 },
            ..Style::GPT2
        },
        ..small()
    };
    let batches = batches(&model, 3, 1, 4);
    let alone = alone(&model, &batches);
    near("tensor 2", &alone, &on_device(&model, "tensor 2", &batches));
}

/// The largest relative difference of two curves.
fn apart(a: &Learned, b: &Learned) -> f64 {
    assert_eq!(a.reports.len(), b.reports.len());
    let pairs = a.reports.iter().zip(&b.reports);
    let apart = pairs.map(|(a, b)| (a.loss - b.loss).abs() / b.loss);
    apart.fold(0.0, f64::max)
}

/// In single precision the curves differ by rounding; in mixed precision by that of products to `bf16`, which
/// differ from those of double precision by as much.
#[test]
fn near_in_less_precision_on_a_device() {
    for (model, name) in [(small(), "gpt"), (llama(), "llama")] {
        let batches = batches(&model, 5, 2, 4);
        let exact = alone(&model, &batches);
        for mesh in ["data 1", "tensor 2"] {
            let [single, mixed] =
                [(DType::F32, 1e-4), (DType::BF16, 0.02)].map(|(dtype, limit)| {
                    let on = trained(&model, mesh, &batches, dtype, |s| s.on(device()));
                    let off = trained(&model, mesh, &batches, dtype, |s| s);
                    let (by, from) = (apart(&on, &off), apart(&on, &exact));
                    println!("{name}, {mesh}, {dtype:?}: {by:.1e}, from f64 {from:.1e}");
                    assert!(by < limit && from < limit, "{name}, {mesh}: {by}, {from}");
                    on
                });
            assert!(
                mixed.peak[0] < single.peak[0] * 3 / 4,
                "half of most is kept"
            );
        }
    }
}

/// Between two relayouts there is one function, and of a branch where nothing is cut inside.
#[test]
fn branches_are_one_function() {
    let model = small();
    for (mesh, back) in [
        // of two branches a block, and of the head with its norm
        ("data 2", 2 * 2 + 1),
        // the stream beside what is summed; the first one and the last are in functions that have more
        ("data 2, tensor 2", 2 * 4 + 1),
        // norms are where positions are cut, beside the stream
        ("sequence 2", 2 * 6 + 2),
        // queries, keys with values to gather, and the branch; the stream of the first block, which has positions
        ("context-gather 2", 1 + 2 * (3 + 1) + 1),
        // queries and keys with values to exchange for heads, heads to exchange back, and the branch
        ("context-heads 2", 1 + 2 * (4 + 1) + 1),
    ] {
        let strategy: Strategy = mesh.parse().expect("a mesh");
        let count = |strategy: &Strategy| {
            let trainable = model.train(4, DType::BF16, strategy).expect("it fits");
            trainable.graph.to_string().matches("Fused").count()
        };
        assert_eq!(count(&strategy), 0, "{mesh}");
        assert_eq!(count(&strategy.on("cpu")), back, "{mesh}");
    }
}

/// Twice the positions keep at most twice the bytes: no scores, which are positions × positions.
#[test]
fn kept_bytes_grow_as_positions() {
    let at = |context: usize| {
        let model = Gpt {
            vocabulary: 16,
            context,
            layers: 1,
            width: 8,
            heads: 4,
            groups: 4,
            head: 2,
            hidden: 8,
            ..model()
        };
        let batches = batches(&model, 1, 1, 1);
        let learned = trained(&model, "data 1", &batches, DType::F64, |s| s.on(device()));
        learned.peak[0]
    };
    let [short, long] = [512, 1024].map(at);
    println!("512 positions keep {short} bytes, 1024 keep {long}");
    // the scores of one head alone would be 8 MiB
    assert!(long <= 2 * short && long < 1024 * 1024 * 8);
}

/// What a device does not have is refused before anything runs, with the mend.
#[test]
fn refuse_devices() {
    let said = |strategy: Strategy, dtype| {
        let refused = small().train(1, dtype, &strategy).map(|_| ());
        refused.expect_err("it is refused").to_string()
    };
    let no_sums = said(Strategy::alone().on("cpu"), DType::Canonical);
    assert!(
        no_sums.contains("device `cpu`") && no_sums.contains("take F64, F32 or BF16"),
        "{no_sums}"
    );
    let unknown = said(Strategy::alone().on("gpu"), DType::F32);
    assert!(
        unknown.contains("device `gpu`: no such name; there are cpu"),
        "{unknown}"
    );
}

/// Prints how long a step takes on the device and on the kernels of this crate.
#[test]
#[ignore = "prints times"]
fn step_times() {
    let model = Gpt {
        vocabulary: 256,
        context: 128,
        layers: 3,
        width: 128,
        heads: 4,
        groups: 4,
        head: 32,
        hidden: 512,
        ..model()
    };
    const STEPS: usize = 8;
    let many = batches(&model, STEPS + 1, 1, 8);
    let one = &many[..1];
    for dtype in [DType::F32, DType::BF16] {
        let seconds = |on: bool, batches: &[Vec<Micro>]| {
            let begun = std::time::Instant::now();
            trained(&model, "data 1", batches, dtype, |s| match on {
                true => s.on(device()),
                false => s,
            });
            begun.elapsed().as_secs_f64()
        };
        let step = |on: bool| (seconds(on, &many) - seconds(on, one)) / STEPS as f64 * 1e3;
        let (off, on) = (step(false), step(true));
        println!(
            "{dtype:?}: {on:.1} ms a step on {}, {off:.1} ms on kernels, {:.2} times",
            device(),
            on / off
        );
    }
}
