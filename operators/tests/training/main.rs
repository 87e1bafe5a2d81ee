//! Every layout trains the same model. Three families:
//!
//! * `equal_*`: losses, norms and all parameters after five clipped AdamW steps, against one worker.
//! * `step_*`: a step is what passes the frontier, however it is cut into micro-batches.
//! * `refuse_*`: what cannot be trained says why.

mod context;
mod device;
mod job;
mod mixed;
mod remade;
mod stages;

use advect_engine::{Deal, Fabric};
use advect_operators::network::Dropout;
use advect_operators::transformer::{Activation, Context, Gpt, Role, Strategy, Style, Zero};

use job::{How, Learned, Micro, batches, model, recipe, train};

/// Relative difference that is allowed (the reference's D1).
const LIMIT: f64 = 1e-10;

fn on(model: &Gpt, axes: &[(Role, usize)], batches: &[Vec<Micro>]) -> Learned {
    let strategy = Strategy::new(axes).expect("axes with workers");
    by(model, &strategy, batches, None)
}

fn on_mesh(model: &Gpt, mesh: &str, batches: &[Vec<Micro>], last: Option<usize>) -> Learned {
    by(model, &mesh.parse().expect("a mesh"), batches, last)
}

/// Trains with at most `last` micro-batches in work at the last stage.
fn by(model: &Gpt, strategy: &Strategy, batches: &[Vec<Micro>], last: Option<usize>) -> Learned {
    let fabric = Fabric::Threads(strategy.mesh().workers());
    train(
        model,
        strategy,
        &recipe(),
        batches,
        &fabric,
        How::with(last),
    )
    .unwrap_or_else(|e| panic!("{strategy}: {e}"))
}

fn near(place: &str, a: &Learned, b: &Learned) {
    assert_eq!(a.reports.len(), b.reports.len(), "{place}: steps");
    for (x, y) in a.reports.iter().zip(&b.reports) {
        let (dl, dn) = (
            (x.loss - y.loss).abs() / x.loss,
            (x.norm - y.norm).abs() / x.norm,
        );
        assert!(
            x.targets == y.targets && dl <= LIMIT && dn <= LIMIT,
            "{place}: {x:?}, {y:?}"
        );
    }
    for (name, x) in &a.parameters {
        let y = &b.parameters[name];
        let square = |of: f64| of * of;
        let size = x.iter().map(|x| square(*x)).sum::<f64>().sqrt();
        let apart = x
            .iter()
            .zip(y)
            .map(|(x, y)| square(x - y))
            .sum::<f64>()
            .sqrt();
        assert!(
            x.len() == y.len() && apart <= LIMIT * size,
            "{place}: {name} by {apart} of {size}"
        );
    }
}

/// One role on 2, 3, 4 and 8 workers: samples, heads, columns, vocabulary and positions are cut as
/// unevenly as they come.
#[test]
fn equal_on_one_axis() {
    let model = model();
    let batches = batches(&model, 5, 2, 4);
    let alone = on(&model, &[(Role::Data, 1)], &batches);
    let loss = |step: usize| alone.reports[step].loss;
    assert!(loss(4) < loss(0), "it learns: {:?}", alone.reports);
    assert!(
        alone.reports.iter().all(|r| r.norm > 0.5),
        "every step is clipped"
    );
    for role in [
        Role::Data,
        Role::Sharded(Zero::States),
        Role::Sharded(Zero::Gradients),
        Role::Sharded(Zero::Parameters),
        Role::Tensor,
        Role::Sequence,
        Role::Context(Context::Gather(Deal::Blocks)),
        Role::Context(Context::Gather(Deal::ZigZag)),
        Role::Context(Context::Chunks(Deal::Blocks)),
        Role::Context(Context::Chunks(Deal::ZigZag)),
        Role::Context(Context::Ring(Deal::Blocks)),
        Role::Context(Context::Ring(Deal::ZigZag)),
        Role::Context(Context::Ring(Deal::Striped)),
        Role::Context(Context::Heads),
    ] {
        for workers in [2, 3, 4, 8] {
            let place = format!("{role} {workers}");
            near(&place, &alone, &on(&model, &[(role, workers)], &batches));
        }
    }
}

/// Groups of heads that share keys, more workers than groups, heads that no number of workers divides.
#[test]
fn equal_with_uneven_heads() {
    let model = Gpt {
        heads: 6,
        groups: 3,
        head: 7,
        hidden: 30,
        layers: 2,
        vocabulary: 61,
        ..model()
    };
    let batches = batches(&model, 5, 1, 3);
    let alone = on(&model, &[(Role::Data, 1)], &batches);
    for axes in [
        [(Role::Tensor, 4), (Role::Data, 1)],
        [(Role::Sequence, 2), (Role::Sharded(Zero::States), 2)],
        [(Role::Context(Context::Heads), 4), (Role::Data, 1)],
    ] {
        near(&format!("{axes:?}"), &alone, &on(&model, &axes, &batches));
    }
}

/// A Llama, with norms by the mean square, turned positions, gates, no shifts, fewer keys than queries and a
/// head of its own, on every role.
#[test]
fn equal_in_the_style_of_llama() {
    let model = Gpt {
        layers: 2,
        groups: 4,
        hidden: 44,
        activation: Activation::Swiglu,
        style: Style::LLAMA,
        ..model()
    };
    let batches = batches(&model, 5, 2, 4);
    let alone = on(&model, &[(Role::Data, 1)], &batches);
    for mesh in [
        "data 2, zero-1 2",
        "zero-2 3",
        "zero-3 2, tensor 2",
        "tensor 3",
        "sequence 4",
        "context-gather 3",
        "context-heads 2, sequence 2",
        "stage 2, data 2",
        "stage 2 (1 0 0 1), tensor 2",
    ] {
        near(mesh, &alone, &on_mesh(&model, mesh, &batches, Some(1)));
    }
}

/// What is left out is that of the samples, on any mesh, however they are cut into micro-batches, and when
/// activations are made again; and it makes a difference.
#[test]
fn equal_with_dropout() {
    let rate = |rate| Gpt {
        layers: 2,
        style: Style {
            dropout: Dropout { rate, seed: 5 },
            ..Style::GPT2
        },
        ..model()
    };
    let (model, whole) = (rate(0.2), batches(&model(), 3, 1, 4));
    let alone = on(&model, &[(Role::Data, 1)], &whole);
    let without = on(&rate(0.0), &[(Role::Data, 1)], &whole);
    assert!(alone.parameters != without.parameters);
    let halves = |micro: &Micro| -> Vec<Micro> {
        let n = micro.0.len() / 2;
        let half = |k: usize| {
            let [x, y] = [&micro.0, &micro.1].map(|of| of[k * n..][..n].to_vec());
            (x, y)
        };
        vec![half(0), half(1)]
    };
    let cut: Vec<Vec<Micro>> = whole.iter().map(|step| halves(&step[0])).collect();
    for mesh in [
        "data 1",
        "data 2",
        "zero-3 2, tensor 2",
        "sequence 2, stage 2",
        "context-gather 3",
    ] {
        let strategy: Strategy = mesh.parse().expect("a mesh");
        for (batches, again) in [(&whole, false), (&cut, false), (&cut, true)] {
            let strategy = strategy.clone().recomputing(again);
            near(mesh, &alone, &by(&model, &strategy, batches, Some(1)));
        }
    }
}

/// The 24 orders of four things.
fn orders() -> Vec<[usize; 4]> {
    let all = (0..256usize).map(|code| [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6]);
    let orders: Vec<_> = all
        .filter(|order| (0..4).all(|i| order.contains(&i)))
        .collect();
    assert_eq!(orders.len(), 24);
    orders
}

/// Four axes of two workers each, in all 24 orders.
#[test]
fn equal_in_every_order_of_four_axes() {
    let model = Gpt {
        layers: 1,
        ..model()
    };
    let batches = batches(&model, 5, 1, 4);
    let alone = on(&model, &[(Role::Data, 1)], &batches);
    let roles = [
        Role::Data,
        Role::Sharded(Zero::States),
        Role::Sequence,
        Role::Context(Context::Gather(Deal::Blocks)),
    ];
    for order in orders() {
        let axes = order.map(|i| (roles[i], 2));
        near(&format!("{axes:?}"), &alone, &on(&model, &axes, &batches));
    }
}

/// Twelve samples in 1, 2, 3, 4 or 6 micro-batches are one step, on any layout.
#[test]
fn step_of_any_micro_batches() {
    let model = Gpt {
        layers: 1,
        ..model()
    };
    let whole = batches(&model, 5, 1, 12);
    let alone = on(&model, &[(Role::Data, 1)], &whole);
    for micros in [2, 3, 4, 6] {
        let n = 12 / micros * model.context;
        let cut = |(tokens, targets): &Micro| -> Vec<Micro> {
            let part = |of: &Vec<i64>, j: usize| of[j * n..(j + 1) * n].to_vec();
            (0..micros)
                .map(|j| (part(tokens, j), part(targets, j)))
                .collect()
        };
        let cut: Vec<Vec<Micro>> = whole.iter().map(|step| cut(&step[0])).collect();
        for role in [
            Role::Data,
            Role::Sharded(Zero::States),
            Role::Sharded(Zero::Gradients),
            Role::Sharded(Zero::Parameters),
            Role::Tensor,
        ] {
            let place = format!("{micros} micro-batches, {role}");
            near(&place, &alone, &on(&model, &[(role, 2)], &cut));
        }
    }
}

/// One or two micro-batches in work at once give the bits of all at once, and less is kept.
#[test]
fn step_in_few_at_once_has_the_same_bits() {
    let model = Gpt {
        layers: 2,
        ..model()
    };
    let batches = batches(&model, 3, 6, 4);
    for axes in [
        [(Role::Data, 2), (Role::Tensor, 2)],
        [(Role::Sharded(Zero::States), 2), (Role::Sequence, 2)],
    ] {
        let strategy = Strategy::new(&axes).expect("axes with workers");
        let train = |in_flight| {
            train(
                &model,
                &strategy,
                &recipe(),
                &batches,
                &Fabric::Threads(4),
                How::with(in_flight),
            )
            .unwrap_or_else(|e| panic!("{strategy}, {in_flight:?}: {e}"))
        };
        let (all, two, one) = (train(None), train(Some(2)), train(Some(1)));
        assert!(all.parameters == two.parameters && two.parameters == one.parameters);
        for worker in 0..4 {
            let of = |learned: &Learned| learned.peak[worker];
            assert!(of(&two) <= 2 * of(&one), "{} and {}", of(&two), of(&one));
        }
    }
}

/// The same run twice has the same bits.
#[test]
fn step_has_the_same_bits_every_time() {
    let model = Gpt {
        layers: 1,
        ..model()
    };
    let batches = batches(&model, 3, 3, 4);
    for axes in [
        [(Role::Data, 2), (Role::Tensor, 2)],
        [(Role::Sharded(Zero::States), 2), (Role::Sequence, 2)],
    ] {
        let [a, b] = [(), ()].map(|()| on(&model, &axes, &batches));
        assert!(
            a.reports == b.reports && a.parameters == b.parameters,
            "{axes:?}"
        );
    }
}

/// A step without a target, and a loss that is no number, end the job with the place and the mend.
#[test]
fn refuse_what_has_no_gradient() {
    let model = Gpt {
        layers: 1,
        ..model()
    };
    let strategy = Strategy::new(&[(Role::Data, 2)]).expect("axes with workers");
    let mut none = batches(&model, 2, 1, 2);
    none[1][0].1.fill(-1);
    let said = train(
        &model,
        &strategy,
        &recipe(),
        &none,
        &Fabric::Threads(2),
        How::default(),
    )
    .expect_err("nothing to learn from")
    .to_string();
    assert!(
        said.contains("step 1") && said.contains("no target"),
        "{said}"
    );
    let mut wild = recipe();
    wild.schedule.peak = 1e300;
    let said = train(
        &model,
        &strategy,
        &wild,
        &batches(&model, 4, 1, 2),
        &Fabric::Threads(2),
        How::default(),
    )
    .expect_err("it leaves the numbers")
    .to_string();
    assert!(
        said.contains("Update on worker") && said.contains("learning rate"),
        "{said}"
    );
}
