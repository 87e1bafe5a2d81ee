//! Attention whose positions are cut, in every mode, against attention as it is defined.
//!
//! * `dense_*`: outputs and all gradients against sums over all keys that know of no layout.
//! * `balance_*`: how even the work of causal attention is.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

mod balance;
mod dense;
mod modes;

use std::collections::BTreeMap;

use advect_engine::graph::Delivery;
use advect_engine::laws::{Outcome, Sample, perform};
use advect_engine::{DType, Data, Fabric, Graph, Shard, Tick};
use advect_operators::attention::Attention;

use dense::{Answers, Problem};
use modes::{Mode, graph};

/// Every mode on this many workers.
fn on(workers: usize) -> Vec<Mode> {
    let mut modes = Mode::ON_ONE_AXIS.map(|of| of(workers)).to_vec();
    for around in 2..workers {
        if workers.is_multiple_of(around) {
            modes.push(Mode::Hybrid(around, workers / around));
            modes.push(Mode::Inside(around, workers / around));
            modes.push(Mode::InsideChunks(around, workers / around));
        }
    }
    modes
}

fn data(numbers: &[f64], dtype: DType) -> Data {
    match dtype {
        DType::F32 => numbers.iter().map(|&x| x as f32).collect::<Vec<_>>().into(),
        _ => numbers.to_vec().into(),
    }
}

/// Pieces of the inputs, and of the cotangent of the output.
fn sample(graph: &Graph, problem: &Problem, dtype: DType) -> Sample {
    let mut sources = BTreeMap::new();
    for (name, value) in graph.sources() {
        let whole = match name {
            "q" => data(&problem.q, dtype),
            "kv" => data(&problem.kv, dtype),
            _ => problem.bounds.clone().unwrap().into(),
        };
        let pieces = graph.spec(value).cut(graph.mesh(), 0, &whole).unwrap();
        sources.insert(name.to_owned(), pieces);
    }
    let (_, y) = graph.outputs().next().unwrap();
    let seed = graph.spec(y).dual().unwrap();
    let seed = seed
        .cut(graph.mesh(), 0, &data(&problem.seed, dtype))
        .unwrap();
    Sample {
        moment: Tick::default(),
        key: 0,
        sources,
        seeds: BTreeMap::from([("y".to_owned(), seed)]),
    }
}

fn doubles(data: &Data) -> Vec<f64> {
    match data.get::<f32>() {
        Some(numbers) => numbers.iter().map(|&x| f64::from(x)).collect(),
        None => data.get::<f64>().unwrap().to_vec(),
    }
}

/// Output and gradients, whole, from those of the workers.
fn joined(graph: &Graph, outcome: &Outcome) -> Answers {
    let at = |name: &str| (name.to_owned(), Tick::default(), 0);
    let (_, y) = graph.outputs().next().unwrap();
    let y = graph.spec(y).join(graph.mesh(), &outcome.outputs[&at("y")]);
    let gradient = |name: &str| {
        let (_, value) = graph.sources().find(|(n, _)| *n == name).unwrap();
        let pieces: &Vec<Shard> = &outcome.cotangents[&at(name)];
        let dual = graph.spec(value).dual().unwrap();
        doubles(&dual.join(graph.mesh(), pieces).unwrap())
    };
    Answers {
        y: doubles(&y.unwrap()),
        to_q: gradient("q"),
        to_kv: gradient("kv"),
    }
}

fn near(place: &str, a: &Answers, b: &Answers, limit: f64) {
    let parts = [
        ("y", &a.y, &b.y),
        ("q", &a.to_q, &b.to_q),
        ("kv", &a.to_kv, &b.to_kv),
    ];
    for (what, a, b) in parts {
        let size = a.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        assert!(
            size > 1e-3 && a.len() == b.len(),
            "{place}: nothing to compare"
        );
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            let apart = (x - y).abs();
            assert!(apart <= limit * size, "{place}, {what} {i}: {x} and {y}");
        }
    }
}

/// Runs a mode over threads.
fn run(mode: Mode, problem: &Problem, dtype: DType, regather: bool) -> Answers {
    delivered(mode, problem, dtype, regather, Delivery::AsTheyCome)
}

/// The same, with messages in an order.
fn delivered(
    mode: Mode,
    problem: &Problem,
    dtype: DType,
    regather: bool,
    delivery: Delivery,
) -> Answers {
    let graph = graph(mode, problem, dtype, regather).unwrap();
    let fabric = Fabric::Threads(graph.mesh().workers());
    let samples = [sample(&graph, problem, dtype)];
    let outcome = perform(&graph, &fabric, delivery, &samples, &["q", "kv"]).unwrap();
    assert!(outcome.left.iter().all(|&left| left == 0), "{mode:?}");
    joined(&graph, &outcome)
}

/// Every mode on 1, 2, 4 and 8 workers: causal and full, uneven lengths, fewer positions than workers, positions
/// that are filled up, documents in one window, and queries beside keys of another sequence; in double and in
/// single precision, with keys kept and keys fetched again.
#[test]
fn dense_is_every_mode() {
    for (name, problem) in Problem::all() {
        let want = problem.dense();
        for workers in [1, 2, 4, 8] {
            for mode in on(workers) {
                let place = format!("{name} on {mode:?}");
                for regather in [false, true] {
                    let found = run(mode, &problem, DType::F64, regather);
                    near(&place, &want, &found, 1e-12);
                }
                let found = run(mode, &problem, DType::F32, true);
                near(&place, &want, &found, 1e-5);
            }
        }
    }
}

/// A position that sees nothing gives zero and gets no gradient, wherever it is.
#[test]
fn dense_leaves_masked_rows_at_zero() {
    let (_, problem) = Problem::all()
        .into_iter()
        .find(|(name, _)| *name == "padded")
        .unwrap();
    let row = problem.q.len() / (2 * problem.n);
    for mode in on(4) {
        let found = run(mode, &problem, DType::F64, true);
        let masked = |sample: usize, i: usize| {
            let at = (sample * problem.n + i) * row;
            let all = found.y[at..at + row]
                .iter()
                .chain(&found.to_q[at..at + row]);
            all.into_iter().all(|x| *x == 0.0)
        };
        for (sample, length) in [11, 5].into_iter().enumerate() {
            assert!((length..problem.n).all(|i| masked(sample, i)), "{mode:?}");
            assert!((0..length).all(|i| !masked(sample, i)), "{mode:?}");
        }
    }
}

/// Two runs, and messages in any order, give the same bits.
#[test]
fn dense_has_the_same_bits() {
    let (_, problem) = Problem::all().swap_remove(0);
    for mode in on(4) {
        let [a, b, c] = [
            Delivery::AsTheyCome,
            Delivery::Shuffled(1),
            Delivery::Shuffled(2),
        ]
        .map(|delivery| delivered(mode, &problem, DType::F32, true, delivery));
        assert!(a == b && a == c, "{mode:?}");
    }
}

/// Lengths that do not match, no heads, a mesh without the axis: each is one error that says why.
#[test]
fn dense_refuses_what_cannot_be() {
    use advect_engine::{Layout, Mesh, Placement, Spec};
    use advect_operators::attention::{Across, Pieces};
    let cut = Layout::new([Placement::Split { dim: 1 }]);
    let attempt = |q: [usize; 5], kv: [usize; 5], around: usize| {
        let mut graph = Graph::new(Mesh::line("context", 4));
        let spec = |shape: [usize; 5]| Spec::new(shape, DType::F64, cut.clone());
        let q = graph.input("q", spec(q)).unwrap();
        let kv = graph.input("kv", spec(kv)).unwrap();
        let across = Across {
            attention: Attention::FULL,
            queries: cut.clone(),
            keys: cut.clone(),
            pieces: Some(Pieces::Around(around)),
            regather: true,
            flash: true,
        };
        let made = across.apply(&mut graph, "attention", [q, kv], None);
        made.map(|_| ()).unwrap_err().to_string()
    };
    let good = [2, 8, 2, 3, 4];
    for (kv, why) in [
        ([2, 8, 2, 3, 4], "do not match"),
        ([1, 8, 2, 2, 4], "do not match"),
        ([2, 8, 2, 2, 5], "do not match"),
        ([2, 8, 3, 2, 4], "[b, t, 2, g, d]"),
    ] {
        let said = attempt(good, kv, 0);
        assert!(said.contains(why) && said.contains("attention"), "{said}");
    }
    let said = attempt([2, 8, 0, 3, 4], [2, 8, 2, 0, 4], 0);
    assert!(said.contains("no heads"), "{said}");
    let said = attempt(good, [2, 8, 2, 2, 4], 1);
    assert!(said.contains("no axis 1"), "{said}");
}
