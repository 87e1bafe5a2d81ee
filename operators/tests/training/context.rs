//! Positions that are cut: beside every other way of cutting, over many steps, and where samples say what
//! their positions see.

use advect_engine::{DType, Deal, Fabric};
use advect_operators::training::{Method, Recipe, Schedule};
use advect_operators::transformer::{Context, Gpt, Positions, Role, Strategy, Style};

use crate::job::{How, batches, model, recipe, train};
use crate::{near, on, on_mesh};

/// Every mode beside samples, heads, stored pieces, stages and another mode, in the styles of GPT-2 and LLaMA,
/// with fewer groups of keys than workers.
#[test]
fn equal_beside_every_other_axis() {
    let llama = Gpt {
        heads: 6,
        groups: 2,
        head: 6,
        layers: 2,
        context: 29,
        style: Style::LLAMA,
        ..model()
    };
    let gpt = Gpt {
        layers: 2,
        ..model()
    };
    for model in [gpt, llama] {
        let batches = batches(&model, 3, 2, 4);
        let alone = on(&model, &[(Role::Data, 1)], &batches);
        for mesh in [
            "context-ring 2, tensor 2",
            "tensor 2, context-zig-zag 2",
            "context-striped 2, sequence 2",
            "zero-3 2, context-zig-zag 2",
            "context-ring 2, zero-2 2",
            "context-gather 3, zero-1 2",
            "stage 2, context-zig-zag 2",
            "context-gather-zig-zag 2, stage 2",
            "context-ring 2, context-heads 2",
            "context-heads 2, context-zig-zag 2",
            "context-gather 2, context-ring 2",
            "data 2, context-zig-zag 2, tensor 2",
        ] {
            near(mesh, &alone, &on_mesh(&model, mesh, &batches, None));
        }
    }
}

/// Fifty steps of plain gradient descent with momentum and clipping, which forgive no factor: the published
/// averaging of LSS gives embeddings of positions N times their gradient, which AdamW hides.
#[test]
fn equal_after_fifty_steps() {
    let model = Gpt {
        layers: 1,
        ..model()
    };
    let recipe = Recipe {
        method: Method::Momentum { momentum: 0.9 },
        schedule: Schedule {
            peak: 0.05,
            steps: 50,
            ..recipe().schedule
        },
        decay: 0.0,
        ..recipe()
    };
    let batches = batches(&model, 50, 1, 2);
    let trained = |strategy: &Strategy| {
        let fabric = Fabric::Threads(strategy.mesh().workers());
        let learned = train(&model, strategy, &recipe, &batches, &fabric, How::default());
        learned.unwrap_or_else(|e| panic!("{strategy}: {e}"))
    };
    let alone = trained(&Strategy::alone());
    let (first, last) = (alone.reports[0].loss, alone.reports[49].loss);
    assert!(last < first, "it learns: {first} and {last}");
    let roles = [
        Role::Context(Context::Gather(Deal::Blocks)),
        Role::Context(Context::Chunks(Deal::Blocks)),
        Role::Context(Context::Ring(Deal::Blocks)),
        Role::Context(Context::Ring(Deal::ZigZag)),
        Role::Context(Context::Ring(Deal::Striped)),
        Role::Context(Context::Heads),
    ];
    for role in roles {
        for workers in [2, 4] {
            let strategy = Strategy::new(&[(role, workers)]).expect("workers");
            near(&strategy.to_string(), &alone, &trained(&strategy));
        }
    }
    // the positions of a segment are those of its worker, and of every group of samples
    let both = [(roles[0], 2), (Role::Data, 2)];
    let strategy = Strategy::new(&both).expect("workers");
    near(&strategy.to_string(), &alone, &trained(&strategy));
}

/// Documents that share a window learn what they learn on one worker, and something else than windows that
/// are one document.
#[test]
fn equal_where_documents_share_windows() {
    for positions in [Positions::Learned, Positions::Rotary] {
        let packed = |bounded| Gpt {
            layers: 2,
            style: Style {
                bounded,
                positions,
                ..Style::GPT2
            },
            ..model()
        };
        let model = packed(true);
        let batches = batches(&model, 3, 2, 4);
        let alone = on(&model, &[(Role::Data, 1)], &batches);
        let whole = on(&packed(false), &[(Role::Data, 1)], &batches);
        assert!(alone.parameters != whole.parameters);
        for mesh in [
            "context-gather 4",
            "context-ring 3",
            "context-zig-zag 4",
            "context-striped 2",
            "context-heads 4",
            "data 2, tensor 2",
            "stage 2, context-zig-zag 2",
        ] {
            near(mesh, &alone, &on_mesh(&model, mesh, &batches, None));
        }
    }
}

/// What goes around in half the bytes is merged in single precision: losses stay beside those of one worker.
#[test]
fn mixed_goes_around() {
    let model = Gpt {
        layers: 2,
        ..model()
    };
    let batches = batches(&model, 3, 1, 4);
    let losses = |mesh: &str| {
        let strategy: Strategy = mesh.parse().expect("a mesh");
        let how = How {
            dtype: DType::BF16,
            ..How::default()
        };
        let fabric = Fabric::Threads(strategy.mesh().workers());
        let learned = train(&model, &strategy, &recipe(), &batches, &fabric, how);
        let learned = learned.unwrap_or_else(|e| panic!("{mesh}: {e}"));
        learned.reports.iter().map(|r| r.loss).collect::<Vec<_>>()
    };
    let alone = losses("data 1");
    for mesh in [
        "context-ring 2",
        "context-zig-zag 4",
        "context-gather 2",
        "context-heads 2",
    ] {
        for (a, b) in alone.iter().zip(losses(mesh)) {
            assert!((a - b).abs() <= 5e-4 * a, "{mesh}: {a} and {b}");
        }
    }
}

/// In canonical mode a ring gathers, and the bits are those of one worker.
#[test]
fn canonical_rings_have_the_bits_of_one_worker() {
    let model = Gpt {
        layers: 1,
        ..model()
    };
    let batches = batches(&model, 2, 1, 2);
    let trained = |mesh: &str| {
        let strategy: Strategy = mesh.parse().expect("a mesh");
        let how = How {
            dtype: DType::Canonical,
            ..How::default()
        };
        let fabric = Fabric::Threads(strategy.mesh().workers());
        train(&model, &strategy, &recipe(), &batches, &fabric, how).expect("it trains")
    };
    let alone = trained("data 1");
    for mesh in ["context-zig-zag 2", "context-ring 3", "context-striped 2"] {
        let found = trained(mesh);
        assert!(alone.parameters == found.parameters, "{mesh}");
    }
}
