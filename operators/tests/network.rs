//! Networks on many layouts have the gradients of one worker. Four families:
//!
//! * `gradient_*`: the sharded dataflow against the unsharded one, for every way of cutting.
//! * `slope_*`: the gradient against differences of the loss.
//! * `batch_*`: micro-batches of one step against the whole batch.
//! * `distance_*`: positions enter as differences alone.

use std::collections::BTreeMap;

use advect_engine::graph::{Delivery, Value};
use advect_engine::laws::{Outcome, Sample, perform};
use advect_engine::{
    DType, Data, Fabric, Graph, Layout, Mesh, Monoid, Placement, Result, Shard, Spec, Tick,
};
use advect_operators::attention::{Attention, AttentionPartial, FinishAttention, Rotary};
use advect_operators::loss::MeanSquare;
use advect_operators::network::{Add, Bias, Linear, Pointwise};

const SAME: Placement = Placement::Same;
const SUM: Placement = Placement::Partial(Monoid::Sum);
const S0: Placement = Placement::Split { dim: 0 };
const S1: Placement = Placement::Split { dim: 1 };

const BATCH: usize = 6;
const WIDTH: usize = 5;
const HIDDEN: usize = 7;

/// Numbers between −1 and 1, from a name.
fn numbers(name: &str, n: usize) -> Vec<f64> {
    let seed = name.bytes().fold(7.0, |s, b| s * 1.3 + f64::from(b));
    (0..n).map(|i| (seed + i as f64 * 12.9898).sin()).collect()
}

/// How one axis of the mesh is used.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Axis {
    /// Batch cut, weights the same.
    Data,
    /// Batch cut, weights cut and gathered for use.
    Sharded,
    /// Hidden units cut: first weight by column, second by row.
    Tensor,
}

fn layout(axes: &[Axis], of: impl Fn(Axis) -> Placement) -> Layout {
    Layout::new(axes.iter().map(|&a| of(a)).collect::<Vec<_>>())
}

/// y = x + gelu(x W + b) V; loss = mean square of y − t.
fn perceptron(mesh: &Mesh, axes: &[Axis], batch: usize) -> Result<Graph> {
    let mut graph = Graph::new(mesh.clone());
    let by_batch = layout(axes, |a| if a == Axis::Tensor { SAME } else { S0 });
    let split = |tensor: Placement| {
        layout(axes, move |a| match a {
            Axis::Data => SAME,
            Axis::Sharded => S0,
            Axis::Tensor => tensor,
        })
    };
    let used =
        |tensor: Placement| layout(axes, move |a| if a == Axis::Tensor { tensor } else { SAME });
    let real = |shape: &[usize], layout: Layout| Spec::new(shape, DType::F64, layout);
    let x = graph.input("x", real(&[batch, WIDTH], by_batch.clone()))?;
    let t = graph.input("t", real(&[batch, WIDTH], by_batch.clone()))?;
    let mut weight = |name: &str, shape: &[usize], tensor: Placement| -> Result<Value> {
        let w = graph.parameter(name, real(shape, split(tensor)))?;
        graph.relayout(w, &used(tensor))
    };
    let w = weight("w", &[WIDTH, HIDDEN], S1)?;
    let b = weight("b", &[HIDDEN], S0)?;
    let v = weight("v", &[HIDDEN, WIDTH], S0)?;
    let up = graph.apply("up", Linear::LAST, &[x, w])?;
    let biased = graph.apply("bias", Bias, &[up, b])?;
    let hidden = graph.apply("gelu", Pointwise::Gelu, &[biased])?;
    let down = graph.apply("down", Linear::LAST, &[hidden, v])?;
    let whole = graph.relayout(down, &by_batch)?;
    let y = graph.apply("residual", Add, &[x, whole])?;
    let loss = graph.apply("loss", MeanSquare, &[y, t])?;
    graph.output("loss", loss)?;
    Ok(graph)
}

/// Causal attention of x over itself with one weight for queries, keys and values alike, keys
/// cut over the workers or gathered, or queries cut.
fn attention(mesh: &Mesh, keys: Placement, queries: Placement) -> Result<Graph> {
    let mut graph = Graph::new(mesh.clone());
    let spec = |shape: &[usize], p: Placement| Spec::new(shape, DType::F64, Layout::new([p]));
    let cut = if keys == S1 { S1 } else { queries };
    let x = graph.input("x", spec(&[2, BATCH, WIDTH], cut))?;
    let t = graph.input("t", spec(&[2, BATCH, WIDTH], SAME))?;
    let mut projection = |name: &str, shape: &[usize], p: Placement| -> Result<Value> {
        let w = graph.parameter(name, spec(shape, SAME))?;
        let y = graph.apply(&format!("x {name}"), Linear::LAST, &[x, w])?;
        graph.relayout(y, &Layout::new([p]))
    };
    let q = projection("w", &[WIDTH, 1, 1, WIDTH], queries)?;
    let kv = projection("v", &[WIDTH, 2, 1, WIDTH], keys)?;
    let partial = AttentionPartial::new(Attention::CAUSAL);
    let rows = graph.apply("partial", partial, &[q, kv])?;
    let merged = if keys == S1 {
        graph.relayout(rows, &Layout::new([S1]))?
    } else {
        rows
    };
    let y = graph.apply("finish", FinishAttention, &[merged])?;
    let b = graph.parameter("b", spec(&[1, 1, WIDTH, WIDTH], SAME))?;
    let y = graph.apply("y b", Linear::over(3), &[y, b])?;
    let y = graph.relayout(y, &Layout::same(mesh))?;
    let loss = graph.apply("loss", MeanSquare, &[y, t])?;
    graph.output("loss", loss)?;
    Ok(graph)
}

/// Pieces of every source, from its name; `rows` chooses a part of the inputs' first dimension.
fn sources(graph: &Graph, rows: Option<std::ops::Range<usize>>) -> BTreeMap<String, Vec<Shard>> {
    let parameters: Vec<&str> = graph.parameters().map(|(name, _)| name).collect();
    let pieces = graph.sources().map(|(name, value)| {
        let spec = graph.spec(value);
        let n: usize = spec.shape.iter().product();
        let whole: Data = match &rows {
            Some(rows) if !parameters.contains(&name) => numbers(name, BATCH * WIDTH)
                [rows.start * WIDTH..rows.end * WIDTH]
                .to_vec()
                .into(),
            _ => numbers(name, n).into(),
        };
        (
            name.to_owned(),
            spec.cut(graph.mesh(), 0, &whole)
                .expect("the graph is right"),
        )
    });
    pieces.collect()
}

/// A cotangent of 1 for the loss.
fn seeds(graph: &Graph) -> BTreeMap<String, Vec<Shard>> {
    let outputs = graph.outputs().map(|(name, value)| {
        let dual = graph.spec(value).dual().expect("the graph is right");
        (
            name.to_owned(),
            dual.cut(graph.mesh(), 0, &vec![1.0].into())
                .expect("the graph is right"),
        )
    });
    outputs.collect()
}

fn run(graph: &Graph, delivery: Delivery) -> Outcome {
    let sample = Sample {
        sources: sources(graph, None),
        seeds: seeds(graph),
        ..Sample::default()
    };
    let fabric = Fabric::Threads(graph.mesh().workers());
    perform(
        graph,
        &fabric,
        delivery,
        &[sample],
        &["x", "t", "w", "b", "v"],
    )
    .expect("the graph is right")
}

/// The whole tensor of a cotangent.
fn cotangent(graph: &Graph, outcome: &Outcome, name: &str, moment: Tick) -> Vec<f64> {
    let (_, value) = graph
        .sources()
        .find(|(n, _)| *n == name)
        .expect("the graph is right");
    let pieces = &outcome.cotangents[&(name.to_owned(), moment, 0)];
    let whole = graph
        .spec(value)
        .dual()
        .expect("the graph is right")
        .join(graph.mesh(), pieces)
        .expect("the graph is right");
    whole.get::<f64>().expect("the graph is right").to_vec()
}

fn near(place: &str, a: &[f64], b: &[f64]) {
    let size = a.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    assert!(
        size > 1e-6 && a.len() == b.len(),
        "{place}: nothing to compare"
    );
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= 1e-12 * size, "{place}: {x} and {y}");
    }
}

fn compare(alone: &Graph, graph: &Graph, place: &str) {
    let reference = run(alone, Delivery::AsTheyCome);
    let found = run(graph, Delivery::Shuffled(1));
    let now = Tick::default();
    for name in ["x", "t", "w", "b", "v"] {
        let (a, b) = (
            cotangent(alone, &reference, name, now),
            cotangent(graph, &found, name, now),
        );
        near(&format!("{name}, {place}"), &a, &b);
    }
    let again = run(graph, Delivery::Shuffled(2));
    for (at, pieces) in &found.cotangents {
        for (a, b) in pieces.iter().zip(&again.cotangents[at]) {
            assert_eq!(a.data(), b.data(), "{at:?}, {place}: bits");
        }
    }
    assert_eq!(found.left, vec![0; graph.mesh().workers()]);
}

/// Data, sharded and tensor parallelism on 1 to 4 workers, and every pair of them on two axes,
/// more workers than columns included.
#[test]
fn gradient_of_a_sharded_network() {
    let alone = perceptron(&Mesh::line("x", 1), &[Axis::Data], BATCH).unwrap();
    let kinds = [Axis::Data, Axis::Sharded, Axis::Tensor];
    for kind in kinds {
        for workers in [1, 2, 3, 4, 8] {
            let graph = perceptron(&Mesh::line("x", workers), &[kind], BATCH).unwrap();
            compare(&alone, &graph, &format!("{kind:?} on {workers}"));
        }
    }
    for a in kinds {
        for b in kinds {
            for [m, n] in [[2, 2], [1, 3], [3, 2]] {
                let mesh = Mesh::new([("a", m), ("b", n)]).unwrap();
                let graph = perceptron(&mesh, &[a, b], BATCH).unwrap();
                compare(&alone, &graph, &format!("{a:?} x {b:?} on {m} x {n}"));
            }
        }
    }
}

/// Keys cut (partials merge), keys gathered beside cut queries, and heads cut: one attention.
#[test]
fn gradient_of_sharded_attention() {
    let alone = attention(&Mesh::line("x", 1), SAME, SAME).unwrap();
    for workers in [1, 2, 3, 4, 8] {
        let mesh = Mesh::line("x", workers);
        for (keys, queries) in [(S1, SAME), (SAME, S1), (S0, S0)] {
            let graph = attention(&mesh, keys, queries).unwrap();
            compare(
                &alone,
                &graph,
                &format!("keys {keys}, queries {queries} on {workers}"),
            );
        }
    }
}

/// Tensor parallelism sends what Megatron-LM counts for a block of two weights: one all-reduce of
/// the activation forward and one back.
#[test]
fn gradient_of_columns_and_rows_sends_one_all_reduce_each_way() {
    let workers = 2;
    let graph = perceptron(&Mesh::line("x", workers), &[Axis::Tensor], BATCH).unwrap();
    let all_reduce = 2 * (workers - 1) * BATCH * WIDTH * 8;
    let total = |of: &dyn Fn(usize) -> usize| (0..workers).map(of).sum::<usize>();
    assert_eq!(total(&|w| graph.bytes_sent(w)), all_reduce);
    assert_eq!(total(&|w| graph.bytes_sent_back(w)), all_reduce);
    let (_, x) = graph.sources().next().unwrap();
    let before = graph.spec(x).dual().unwrap().layout;
    assert_eq!(
        before,
        Layout::new([SUM]),
        "the block before it takes up the sum"
    );
}

/// The gradient along a direction is the slope of the loss.
#[test]
fn slope_of_the_loss_is_the_gradient() {
    let graphs = [
        perceptron(&Mesh::line("x", 1), &[Axis::Data], BATCH).unwrap(),
        attention(&Mesh::line("x", 1), SAME, SAME).unwrap(),
    ];
    for graph in graphs {
        let found = run(&graph, Delivery::AsTheyCome);
        for name in ["x", "t", "w", "b", "v"] {
            let gradient = cotangent(&graph, &found, name, Tick::default());
            let change = numbers(&format!("change of {name}"), gradient.len());
            let loss = |h: f64| {
                let mut sources = sources(&graph, None);
                let piece = &mut sources.get_mut(name).unwrap()[0];
                let pairs = piece.elements::<f64>().iter().zip(&change);
                let moved: Vec<f64> = pairs.map(|(x, d)| x + h * d).collect();
                *piece = Shard::new(0, piece.shape.clone(), moved.into());
                let now = graph.rehearse(&sources, [0, 0], 0).unwrap();
                let (_, value) = graph.outputs().next().unwrap();
                now.value(value)[0].elements::<f64>()[0]
            };
            let centred = |h: f64| (loss(h) - loss(-h)) / (2.0 * h);
            let slope = (4.0 * centred(5e-4) - centred(1e-3)) / 3.0;
            let want: f64 = gradient.iter().zip(&change).map(|(g, d)| g * d).sum();
            let size = gradient.iter().map(|g| g.abs()).sum::<f64>();
            assert!(
                (slope - want).abs() <= 1e-9 * size,
                "{name}: {slope} and {want}"
            );
        }
    }
}

/// The gradient of a step of three micro-batches is three times that of the whole batch, each
/// loss being a mean over a third, and comes once, at the last of them.
#[test]
fn batch_in_micro_batches_has_the_same_gradient() {
    let whole = perceptron(&Mesh::line("x", 1), &[Axis::Data], BATCH).unwrap();
    let reference = run(&whole, Delivery::AsTheyCome);
    for (workers, kind) in [(2, Axis::Data), (2, Axis::Sharded), (3, Axis::Tensor)] {
        let graph = perceptron(&Mesh::line("x", workers), &[kind], BATCH / 3).unwrap();
        let samples: Vec<Sample> = (0..3)
            .map(|micro| {
                let mut sources = sources(&graph, Some(micro * 2..micro * 2 + 2));
                if micro > 0 {
                    sources.retain(|name, _| ["x", "t"].contains(&name.as_str()));
                }
                let moment = Tick::new(9, micro as u64);
                Sample {
                    moment,
                    key: 0,
                    sources,
                    seeds: seeds(&graph),
                }
            })
            .collect();
        let fabric = Fabric::Threads(workers);
        let delivery = Delivery::Shuffled(5);
        let found = perform(&graph, &fabric, delivery, &samples, &["w", "b", "v"]).unwrap();
        assert_eq!(found.cotangents.len(), 3, "one gradient for each parameter");
        for name in ["w", "b", "v"] {
            let sum = cotangent(&graph, &found, name, Tick::new(9, 2));
            let mean: Vec<f64> = sum.iter().map(|g| g / 3.0).collect();
            let want = cotangent(&whole, &reference, name, Tick::default());
            near(&format!("{name}, {kind:?}"), &want, &mean);
        }
    }
}

/// One row turned to many positions: the product of two of them depends on their distance alone, and is
/// that of the row with itself at distance 0; values beside keys stay.
#[test]
fn distance_alone_is_left_of_rotary_positions() {
    let (n, d) = (9, 6);
    let row = numbers("row", d);
    for with_values in [false, true] {
        let copies = if with_values { 2 } else { 1 };
        let mut graph = Graph::new(Mesh::line("x", 1));
        let spec = Spec::new([1, n, copies, d], DType::F64, Layout::new([SAME]));
        let x = graph.input("x", spec).unwrap();
        let turn = Rotary {
            base: 50.0,
            with_values,
        };
        let y = graph.apply("turned", turn, &[x]).unwrap();
        let rows = row.repeat(n * copies);
        let x = Shard::new(0, vec![1, n, copies, d], rows.into());
        let sources = BTreeMap::from([("x".to_owned(), vec![x])]);
        let now = graph.rehearse(&sources, [0, 0], 0).unwrap();
        let y = now.value(y)[0].elements::<f64>();
        let at = |p: usize| &y[p * copies * d..][..d];
        let product = |p: usize, q: usize| at(p).iter().zip(at(q)).map(|(a, b)| a * b).sum::<f64>();
        for p in 0..n {
            for q in p..n {
                assert!(
                    (product(p, q) - product(0, q - p)).abs() < 1e-12,
                    "{p} and {q}"
                );
            }
            if with_values {
                assert_eq!(y[(p * copies + 1) * d..][..d], row);
            }
        }
        assert!((product(0, 3) - product(0, 0)).abs() > 1e-3, "it turns");
    }
}
