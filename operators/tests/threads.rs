//! The number of threads of an operator changes no bit: of a block of a transformer, forward and back, whose
//! tensors are large enough to be cut into tasks everywhere.

use std::collections::BTreeMap;

use advect_engine::graph::Value;
use advect_engine::{DType, Data, threads};
use advect_operators::training::Initial;
use advect_operators::transformer::{Activation, Gpt, Strategy, Style};

/// All outputs and cotangents, with operators of `count` threads.
fn with_threads(count: usize) -> Vec<Data> {
    threads::fix(count);
    let gpt = Gpt {
        vocabulary: 1,
        context: 700,
        layers: 1,
        width: 320,
        heads: 5,
        groups: 5,
        head: 64,
        hidden: 1280,
        activation: Activation::Gelu,
        style: Style::GPT2,
    };
    let trainable = gpt.blocks(3, DType::F32, &Strategy::alone());
    let graph = trainable.expect("the extents fit").graph;
    let piece = |name: &str, value: Value| {
        let deviation = if name.ends_with(".weight") { 0.05 } else { 1.0 };
        let spec = graph.spec(value);
        vec![Initial::Normal { deviation }.piece(3, name, spec, graph.mesh(), 0)]
    };
    let sources: BTreeMap<_, _> = (graph.sources())
        .map(|(name, value)| (name.to_owned(), piece(name, value)))
        .collect();
    let (_, y) = graph.outputs().next().expect("it has an output");
    let now = graph.rehearse(&sources, [0, 0], 0).expect("it runs");
    let wrt: Vec<Value> = graph.sources().map(|(_, value)| value).collect();
    let seeds = BTreeMap::from([(y, piece("seed", y))]);
    let found = now.adjoint(&seeds, &wrt).expect("it runs back");
    assert_eq!(found.len(), wrt.len());
    let cotangents = found.values().map(|pieces| pieces[0].data().clone());
    [now.value(y)[0].data().clone()]
        .into_iter()
        .chain(cotangents)
        .collect()
}

#[test]
fn threads_change_no_bit() {
    let alone = with_threads(1);
    for count in [2, 3, 8] {
        for (a, b) in alone.iter().zip(with_threads(count)) {
            assert_eq!(a.as_bytes(), b.as_bytes(), "{count} threads");
        }
    }
}
