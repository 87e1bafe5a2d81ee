//! The training of an Evoformer on every mesh is that of one worker.

use std::collections::BTreeMap;

use advect_engine::{DType, Data, Graph, Shard};
use advect_operators::evoformer::Evoformer;
use advect_operators::network::Dropout;
use advect_operators::transformer::Strategy;

use super::cut::numbers;
use super::job::{Learned, SAMPLES, input, model, train};

const LIMIT: f64 = 1e-10;

fn on(model: &Evoformer, mesh: &str, dtype: DType) -> Learned {
    train(model, &mesh.parse().expect("a mesh"), dtype)
}

fn near(place: &str, a: &Learned, b: &Learned) {
    assert_eq!(a.reports.len(), b.reports.len(), "{place}: steps");
    for (x, y) in a.reports.iter().zip(&b.reports) {
        assert_eq!(x.share.is_some(), y.share.is_some(), "{place}");
        let shares = x.share.zip(y.share).map_or(0.0, |(a, b)| (a - b) / a);
        let gaps = [
            (x.loss - y.loss) / x.loss,
            shares,
            (x.norm - y.norm) / x.norm,
        ];
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

/// What is made again on the way back or waits in files is what is kept, and takes less memory: with distances, and
/// without, where the pairs of the last block stay as they are.
#[test]
fn recomputed_and_offloaded_is_kept() {
    let files = tempfile::tempdir().expect("a directory can be made");
    for (mesh, bins) in [
        ("data 1", 5),
        ("data 1", 0),
        ("context-heads 2", 5),
        ("stage 2", 0),
    ] {
        let model = Evoformer { bins, ..model() };
        let strategy: Strategy = mesh.parse().expect("a mesh");
        let bytes = |strategy: &Strategy| -> usize {
            let made = model.train(SAMPLES, DType::F64, strategy).expect("it fits");
            made.graph.bytes_kept(0)
        };
        let kept = train(&model, &strategy, DType::F64);
        let again = strategy.clone().recomputing(true);
        let away = strategy.clone().offloading(files.path());
        let both = again.clone().offloading(files.path());
        for less in [&again, &away, &both] {
            assert_eq!(kept, train(&model, less, DType::F64), "{mesh}: bits");
        }
        let [all, again, away] = [&strategy, &again, &away].map(bytes);
        assert!(
            2 * again < all && 2 * away < all,
            "{mesh}: {again}, {away} of {all}"
        );
    }
}

/// What a graph of the model gives at some parameters, by the names of its outputs.
fn outputs(graph: &Graph, input: impl Fn(&str, usize) -> Data) -> BTreeMap<String, Vec<f64>> {
    let parameters: Vec<&str> = graph.parameters().map(|(name, _)| name).collect();
    let source = |(name, value): (&str, _)| {
        let shape = graph.spec(value).shape.clone();
        let len = shape.iter().product();
        let data = match parameters.contains(&name) {
            true => {
                let seed = name
                    .bytes()
                    .fold(7, |sum, b| sum * 31 % 10_007 + usize::from(b));
                let small = numbers(seed, len).into_iter().map(|x| 0.3 * x);
                small.collect::<Vec<f64>>().into()
            }
            false => input(name, len),
        };
        (name.to_owned(), vec![Shard::new(0, shape, data)])
    };
    let sources = graph.sources().map(source).collect();
    let now = graph.rehearse(&sources, [0, 0], 0).expect("it works");
    let output = |(name, value): (&str, _)| {
        let data = now.value(value)[0].data().doubles();
        (name.to_owned(), data.expect("it is real"))
    };
    graph.outputs().map(output).collect()
}

/// The cross-entropies of the rows of logits that have a target.
fn entropies(logits: &[f64], targets: &[i64]) -> Vec<f64> {
    let rows = logits.chunks_exact(logits.len() / targets.len());
    let pairs = rows.zip(targets).filter(|(_, target)| **target >= 0);
    pairs
        .map(|(row, target)| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[*target as usize])
        .collect()
}

/// A moment at which the samples differ in the number of their letters and pairs.
const MOMENT: usize = 7;

/// What is inferred has the loss of training: of letters their sum, of pairs the mean in each sample, as often as it
/// has masked letters, so that both are means whatever is masked.
#[test]
fn inferred_has_the_loss_of_training() {
    let (model, alone) = (model(), Strategy::alone());
    let graph = |made: advect_engine::Result<advect_operators::training::Trainable>| {
        made.expect("it fits").graph
    };
    let given = |name: &str, _: usize| input(&model, name, MOMENT, DType::F64);
    let trained = outputs(&graph(model.train(SAMPLES, DType::F64, &alone)), given);
    let inferred = outputs(&graph(model.infer(SAMPLES, DType::F64, &alone)), given);
    let whole = |name| {
        let data = input(&model, name, MOMENT, DType::I64);
        Shard::new(0, vec![data.len()], data)
            .elements::<i64>()
            .to_vec()
    };
    let (targets, distances) = (whole("targets"), whole("distances"));
    let by_sample = |logits: &[f64], targets: &[i64]| -> Vec<Vec<f64>> {
        let logits = logits.chunks_exact(logits.len() / SAMPLES);
        let each = logits.zip(targets.chunks_exact(targets.len() / SAMPLES));
        each.map(|(logits, targets)| entropies(logits, targets))
            .collect()
    };
    let letters = by_sample(&inferred["logits"], &targets);
    let pairs = by_sample(&inferred["distances"], &distances);
    assert!(letters[0].len() != letters[1].len() && pairs[0].len() != pairs[1].len());
    let sum = |of: &[f64]| of.iter().sum::<f64>();
    let share: f64 = letters.iter().map(|of| sum(of)).sum();
    let mean = |of: &Vec<f64>| sum(of) / of.len() as f64;
    let balanced: f64 = letters
        .iter()
        .zip(&pairs)
        .map(|(letters, pairs)| letters.len() as f64 * mean(pairs))
        .sum();
    let near = |name: &str, want: f64| {
        let got = trained[name][0];
        assert!(
            (got - want).abs() <= 1e-12 * want,
            "{name}: {got}, not {want}"
        );
    };
    near("share", share);
    near("distances.loss", balanced);
    near("loss", share + model.distances_weight * balanced);
    near("count", letters.iter().map(Vec::len).sum::<usize>() as f64);
}

/// Rows and columns that are filled up change no logit of the others.
#[test]
fn what_is_filled_up_does_not_matter() {
    let small = model();
    let large = Evoformer {
        sequences: small.sequences + 2,
        length: small.length + 3,
        ..small.clone()
    };
    // where the numbers of the small one are in the large one, of `[samples, s, l, …]` or `[samples, l, l, …]`
    let place = |rows: [usize; 2], at: usize, width: usize| {
        let (l, long) = (small.length, large.length);
        let (row, column) = (at / width / l, at / width % l);
        let (sample, row) = (row / rows[0], row % rows[0]);
        ((sample * rows[1] + row) * long + column) * width + at % width
    };
    let rows = [small.sequences, large.sequences];
    let filled = |name: &str, len: usize, fill: f64| -> Data {
        match input(&small, name, 3, DType::F64) {
            Data::I64(whole) => {
                let mut all = vec![fill as i64; len];
                for (at, x) in whole.iter().enumerate() {
                    all[place(rows, at, 1)] = *x;
                }
                all.into()
            }
            real => {
                let real = real.doubles().expect("it is real");
                let width = real.len() / (SAMPLES * small.sequences * small.length);
                let mut all = vec![fill; len];
                for (at, x) in real.into_iter().enumerate() {
                    all[place(rows, at, width)] = x;
                }
                all.into()
            }
        }
    };
    let alone = Strategy::alone();
    let graph = |model: &Evoformer| {
        model
            .infer(SAMPLES, DType::F64, &alone)
            .expect("it fits")
            .graph
    };
    let want = outputs(&graph(&small), |name, _| input(&small, name, 3, DType::F64));
    let mask = input(&small, "mask", 3, DType::I64);
    let mask = Shard::new(0, vec![mask.len()], mask);
    let there = |sample: usize, row: usize, column: usize| {
        mask.elements::<i64>()[(sample * small.sequences + row) * small.length + column] != 0
    };
    for fill in [20.0, 1.0] {
        let found = outputs(&graph(&large), |name, len| match name {
            "mask" => filled(name, len, 0.0),
            _ => filled(name, len, fill),
        });
        let mut compared = 0;
        let l = small.length;
        for (at, x) in want["logits"].iter().enumerate() {
            let (column, row) = (at / 22 % l, at / 22 / l);
            if there(row / small.sequences, row % small.sequences, column) {
                let y = found["logits"][place(rows, at, 22)];
                assert!((x - y).abs() < 1e-12, "{at}: {x} and {y}");
                compared += 1;
            }
        }
        assert_eq!(compared, 22 * (4 * 6 + 5 * 7));
        for (at, x) in want["distances"].iter().enumerate() {
            let (j, i, sample) = (at / 5 % l, at / 5 / l % l, at / 5 / l / l);
            if there(sample, 0, i) && there(sample, 0, j) {
                let y = found["distances"][place([l, large.length], at, 5)];
                assert!((x - y).abs() < 1e-12, "{at}: {x} and {y}");
            }
        }
    }
    // and without a mask it does
    let [open, wide] = [&small, &large].map(|model| Evoformer {
        masked: false,
        ..model.clone()
    });
    let want = outputs(&graph(&open), |name, _| input(&small, name, 3, DType::F64));
    let found = outputs(&graph(&wide), |name, len| filled(name, len, 20.0));
    assert!((want["logits"][0] - found["logits"][0]).abs() > 1e-6);
}

/// Where elements are left out they are the same on every mesh.
#[test]
fn dropout_on_every_mesh() {
    let model = Evoformer {
        dropout: Dropout {
            rate: 0.15,
            seed: 5,
        },
        ..model()
    };
    let alone = on(&model, "data 1", DType::F64);
    let whole = on(&super::job::model(), "data 1", DType::F64);
    assert!(
        alone.reports[0].loss != whole.reports[0].loss,
        "it is left out"
    );
    for mesh in ["context-heads 2", "context-gather 2", "data 2", "tensor 2"] {
        near(mesh, &alone, &on(&model, mesh, DType::F64));
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
    type Change = fn(&mut Evoformer);
    let cases: [(Change, &str); 6] = [
        (|m| m.alphabet = 0, "alphabet is 0"),
        (|m| m.blocks = 0, "blocks is 0"),
        (|m| m.bins = 1, "bins is 1"),
        (|m| m.distances_weight = f64::NAN, "distances-weight is NaN"),
        (|m| m.length = 1 << 33, "too large"),
        (|m| m.max_relative_position = usize::MAX, "too large"),
    ];
    for (change, says) in cases {
        let mut changed = model();
        change(&mut changed);
        let said = refused(changed);
        assert!(said.contains(says), "{said}");
    }
    let none = model().train(0, DType::F32, &Strategy::alone());
    let said = none.map(|_| ()).expect_err("no sample").to_string();
    assert!(said.contains("samples is 0"), "{said}");
    for role in [
        "context-ring",
        "context-chunks",
        "context-striped",
        "context-gather-zig-zag",
    ] {
        let strategy = format!("{role} 2").parse().expect("a mesh");
        let made = model().infer(1, DType::F32, &strategy);
        let said = made.map(|_| ()).expect_err("there is no form").to_string();
        assert!(
            said.contains(role) && said.contains("take context-gather"),
            "{said}"
        );
    }
}
