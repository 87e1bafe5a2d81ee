//! Operators between tensors in `bf16` are those between tensors in `f32`, rounded once at their edges.

use std::collections::BTreeMap;

use advect_engine::graph::{Mixed, Value};
use advect_engine::{DType, Data, Graph, Layout, Mesh, Operator, Shard, Spec};
use advect_operators::attention::{Attention, Rotary};
use advect_operators::evoformer::{Along, EvoformerAttention};
use advect_operators::network::{Gated, LayerNorm, Linear, Pointwise, RmsNorm};
use half::bf16;

/// Numbers in [-1, 1), the same for the same seed.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let next = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let states = std::iter::successors(Some(next(seed + 1)), |x| Some(next(*x)));
    let part = |x: u64| (x >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    states.skip(4).take(len).map(part).collect()
}

fn rounded(numbers: &[f32]) -> Vec<f32> {
    numbers
        .iter()
        .map(|x| bf16::from_f32(*x).to_f32())
        .collect()
}

/// `numbers` as a tensor.
fn data(numbers: &[f32], dtype: DType) -> Data {
    match dtype {
        DType::BF16 => numbers
            .iter()
            .map(|x| bf16::from_f32(*x))
            .collect::<Vec<_>>()
            .into(),
        _ => numbers.to_vec().into(),
    }
}

/// Output of `operator`, and cotangents of its inputs for a cotangent of 1, 2, ... over their number.
fn at<O: Operator + 'static>(operator: O, inputs: &[(Spec, Vec<f32>)]) -> (Shard, Vec<Shard>) {
    let mut graph = Graph::new(Mesh::line("one", 1));
    let mut sources = BTreeMap::new();
    let mut values: Vec<Value> = Vec::new();
    for (i, (spec, numbers)) in inputs.iter().enumerate() {
        let name = format!("input {i}");
        values.push(graph.input(&name, spec.clone()).expect("a source"));
        let shard = Shard::new(0, spec.shape.clone(), data(numbers, spec.dtype));
        sources.insert(name, vec![shard]);
    }
    let y = graph.apply("operator", operator, &values).expect("it fits");
    let now = graph.rehearse(&sources, [0, 0], 0).expect("it works");
    let out = now.value(y)[0].clone();
    let n = out.len() as f32;
    let given: Vec<f32> = (1..=out.len()).map(|i| i as f32 / n).collect();
    let seed = Shard::new(0, out.shape.clone(), data(&rounded(&given), out.dtype()));
    let mut found = now
        .adjoint(&BTreeMap::from([(y, vec![seed])]), &values)
        .expect("it has one");
    let cotangents = values
        .iter()
        .map(|v| found.remove(v).expect("it is there").remove(0));
    (out, cotangents.collect())
}

/// Compares an operator in mixed precision with itself in single precision on the same numbers: activations
/// and those parameters that are named are rounded, the others are not. What it gives is rounded once, and
/// its cotangents are near, since what was kept was rounded, too.
fn check<O: Operator + Clone + 'static>(
    operator: O,
    shapes: &[&[usize]],
    activations: usize,
    weights: &[usize],
) {
    let layout = Layout::same(&Mesh::line("one", 1));
    let of = |mixed: bool| -> Vec<(Spec, Vec<f32>)> {
        let each = shapes.iter().enumerate().map(|(i, shape)| {
            let plain = numbers(i as u64, shape.iter().product());
            let narrow = i < activations;
            let dtype = if mixed && narrow {
                DType::BF16
            } else {
                DType::F32
            };
            let plain = match narrow || (!mixed && weights.contains(&i)) {
                true => rounded(&plain),
                false => plain,
            };
            (Spec::new(*shape, dtype, layout.clone()), plain)
        });
        each.collect()
    };
    let place = format!("{operator:?}");
    let (mixed, back) = at(Mixed::of(operator.clone()).rounding(weights), &of(true));
    let (single, want) = at(operator, &of(false));
    assert_eq!(mixed.dtype(), DType::BF16, "{place}");
    assert_eq!(
        mixed.data().doubles(),
        data(single.elements::<f32>(), DType::BF16).doubles(),
        "{place}: rounded once"
    );
    for (i, (got, want)) in back.iter().zip(&want).enumerate() {
        let dtype = if i < activations {
            DType::BF16
        } else {
            DType::F32
        };
        assert_eq!(got.dtype(), dtype, "{place}: cotangent {i}");
        let [got, want] = [got, want].map(|shard| shard.data().doubles().unwrap_or_default());
        let size = want.iter().map(|x| x * x).sum::<f64>().sqrt();
        let apart = got
            .iter()
            .zip(&want)
            .map(|(a, b)| (a - b) * (a - b))
            .sum::<f64>()
            .sqrt();
        assert!(
            apart <= 6e-3 * size,
            "{place}: cotangent {i} by {apart} of {size}"
        );
    }
}

#[test]
fn operators_are_rounded_once() {
    check(Linear::LAST, &[&[3, 5, 7], &[7, 6]], 1, &[1]);
    let then = Linear::LAST.shifted().then(Pointwise::Gelu);
    check(then, &[&[3, 5, 7], &[7, 6], &[6]], 1, &[1]);
    check(LayerNorm { epsilon: 1e-5 }, &[&[4, 9], &[9], &[9]], 1, &[]);
    check(RmsNorm { epsilon: 1e-5 }, &[&[4, 9], &[9]], 1, &[]);
    check(Gated(Pointwise::Silu), &[&[4, 9], &[4, 9]], 2, &[]);
    check(Pointwise::Gelu, &[&[4, 9]], 1, &[]);
    check(
        Attention::CAUSAL,
        &[&[2, 5, 2, 2, 4], &[2, 5, 2, 2, 4]],
        2,
        &[],
    );
    check(
        EvoformerAttention::new(Along::Columns).biased(),
        &[
            &[2, 5, 3, 2, 4],
            &[2, 5, 3, 2, 4],
            &[2, 5, 3, 2, 4],
            &[2, 5, 5, 2],
        ],
        4,
        &[],
    );
    check(
        Rotary {
            base: 1e4,
            with_values: false,
        },
        &[&[2, 5, 2, 2, 4]],
        1,
        &[],
    );
}

/// The tangent goes along with what was rounded, and is rounded itself: to a part of 2^7 it is the difference of
/// outputs in single precision.
#[test]
fn tangents_are_rounded() {
    let layout = Layout::same(&Mesh::line("one", 1));
    let mut graph = Graph::new(Mesh::line("one", 1));
    let spec = |shape: &[usize], dtype| Spec::new(shape, dtype, layout.clone());
    let x = graph
        .input("x", spec(&[3, 5], DType::BF16))
        .expect("a source");
    let w = graph
        .input("w", spec(&[5, 4], DType::F32))
        .expect("a source");
    let then = Mixed::of(Linear::LAST.then(Pointwise::Gelu)).rounding([1]);
    let y = graph.apply("y", then, &[x, w]).expect("it fits");
    let piece = |seed, shape: &[usize], dtype| {
        let plain = rounded(&numbers(seed, shape.iter().product()));
        vec![Shard::new(0, shape.to_vec(), data(&plain, dtype))]
    };
    let at = |x: u64, w: u64| {
        let x = ("x".to_owned(), piece(x, &[3, 5], DType::BF16));
        BTreeMap::from([x, ("w".to_owned(), piece(w, &[5, 4], DType::F32))])
    };
    let now = graph.rehearse(&at(0, 1), [0, 0], 0).expect("it works");
    let along = now.tangent(&at(2, 3)).expect("it has one");
    let got = along.last().expect("one of y")[0].clone();
    assert_eq!((got.dtype(), now.value(y).len()), (DType::BF16, 1));
    let read = |seed, len| {
        rounded(&numbers(seed, len))
            .into_iter()
            .map(f64::from)
            .collect::<Vec<_>>()
    };
    let [x, dx] = [0, 2].map(|seed| read(seed, 15));
    let [w, dw] = [1, 3].map(|seed| read(seed, 20));
    let u = |t: f64, i: usize, j: usize| -> f64 {
        let of = |k: usize| (x[i * 5 + k] + t * dx[i * 5 + k]) * (w[k * 4 + j] + t * dw[k * 4 + j]);
        (0..5).map(of).sum()
    };
    let gelu = |u: f64| 0.5 * u * (1.0 + libm::erf(u / 2f64.sqrt()));
    let got = got.data().doubles().expect("it is real");
    for (at, got) in got.iter().enumerate() {
        let [more, less] = [1e-4, -1e-4].map(|t| gelu(u(t, at / 4, at % 4)));
        let want = (more - less) / 2e-4;
        assert!(
            (got - want).abs() <= 0.02 * want.abs() + 0.01,
            "{at}: {got} and {want}"
        );
    }
}

/// Weights that are not named are used as they are, and outputs that are to be merged keep their precision.
#[test]
fn what_is_not_rounded() {
    let layout = Layout::same(&Mesh::line("one", 1));
    let x = vec![1.0f32; 4];
    let w: Vec<f32> = (0..4).map(|i| 1.0 + (i + 1) as f32 / 1024.0).collect();
    let inputs = [
        (Spec::new([1, 4], DType::BF16, layout.clone()), x),
        (Spec::new([4, 1], DType::F32, layout), w),
    ];
    let [plain, named] = [vec![], vec![1]].map(|rounding| {
        let operator = Mixed::of(Linear::LAST).rounding(rounding).whole();
        at(operator, &inputs).0
    });
    assert_eq!(plain.elements::<f32>(), [4.0 + 10.0 / 1024.0]);
    assert_eq!(named.elements::<f32>(), [4.0], "to multiples of a 128th");
}
