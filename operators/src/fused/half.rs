//! In `bf16` forms give what kernels of processors give in double precision, to the rounding of `bf16`, and the same
//! bits each time: as they are recorded, and by their kernels where the environment variable `ADVECT_DEVICE` names a
//! GPU.

use std::collections::BTreeMap;
use std::sync::Arc;

use advect_engine::graph::{Mixed, Operator, Value};
use advect_engine::{DType, Data, Graph, Layout, Mesh, Result, Spec};
use half::bf16;

use super::{Fit, Fused, OnTape};
use crate::attention::Attention;
use crate::local::{Local, device};
use crate::network::{Add, Bias, Gated, LayerNorm, Linear, Pointwise, Residual, RmsNorm};

/// The largest error of a tensor, of its norm.
const LIMIT: f64 = 1e-2;
/// The same beside a step in the derivative, which numbers near 0 are on another side of when they are rounded.
const BESIDE_A_STEP: f64 = 1e-1;
const FUNCTIONS: [Pointwise; 5] = [
    Pointwise::Sigmoid,
    Pointwise::Relu,
    Pointwise::Tanh,
    Pointwise::Silu,
    Pointwise::Gelu,
];

/// Numbers that look like chance, all of them in `bf16`.
fn numbers(count: usize, seed: usize) -> Vec<f64> {
    let number = |i: usize| (1.7 * seed as f64 + i as f64 * 12.9898).sin() * 43_758.545;
    let fraction = |x: f64| bf16::from_f64(2.0 * (x - x.floor()) - 1.0).to_f64();
    (0..count).map(|i| fraction(number(i))).collect()
}

/// Numbers as a tensor of this type.
fn data(numbers: Vec<f64>, dtype: DType) -> Data {
    match dtype {
        DType::F64 => numbers.into(),
        DType::F32 => numbers.iter().map(|&x| x as f32).collect::<Vec<_>>().into(),
        _ => (numbers.into_iter().map(bf16::from_f64))
            .collect::<Vec<_>>()
            .into(),
    }
}

/// The output and the cotangents of all inputs of the only operator of a graph.
fn outcome(graph: &Graph) -> Result<Vec<Data>> {
    let inputs: Vec<(&str, Value)> = graph.sources().collect();
    let of = |value: Value, seed: usize| {
        let spec = graph.spec(value);
        let count = spec.shape.iter().product();
        spec.cut(graph.mesh(), 0, &data(numbers(count, seed), spec.dtype))
    };
    let mut given = BTreeMap::new();
    for (seed, (name, value)) in inputs.iter().enumerate() {
        given.insert((*name).to_owned(), of(*value, seed)?);
    }
    let now = graph.rehearse(&given, [0, 0], 0)?;
    let (_, y) = graph.outputs().next().expect("an output");
    let values: Vec<Value> = inputs.into_iter().map(|(_, value)| value).collect();
    let cotangents = now.adjoint(&BTreeMap::from([(y, of(y, 50)?)]), &values)?;
    let all = [now.value(y)].into_iter();
    let all = all.chain(values.iter().map(|value| &cotangents[value][..]));
    Ok(all.map(|pieces| pieces[0].data().clone()).collect())
}

/// A graph of one operator.
fn graph(operator: impl Operator + 'static, inputs: &[(&[usize], DType)]) -> Result<Graph> {
    let mesh = Mesh::line("one", 1);
    let mut graph = Graph::new(mesh.clone());
    let mut values = Vec::new();
    for (i, &(shape, dtype)) in inputs.iter().enumerate() {
        let spec = Spec::new(shape, dtype, Layout::same(&mesh));
        values.push(graph.input(&format!("{i}"), spec)?);
    }
    let y = graph.apply("operator", operator, &values)?;
    graph.output("y", y)?;
    Ok(graph)
}

fn hold<O>(operator: O, flow: usize, shapes: &[&[usize]]) -> Result<()>
where
    O: Operator + OnTape + Clone + 'static,
{
    within(LIMIT, operator, flow, shapes)
}

/// Holds an operator whose first inputs flow, and whose others are single precision, against itself.
fn within<O>(limit: f64, operator: O, flow: usize, shapes: &[&[usize]]) -> Result<()>
where
    O: Operator + OnTape + Clone + 'static,
{
    let exact: Vec<(&[usize], DType)> = shapes.iter().map(|s| (*s, DType::F64)).collect();
    let want = outcome(&graph(operator.clone(), &exact)?)?;
    let dtype = |i: usize| if i < flow { DType::BF16 } else { DType::F32 };
    let mixed: Vec<(&[usize], DType)> = (shapes.iter().enumerate())
        .map(|(i, s)| (*s, dtype(i)))
        .collect();
    let weights: Vec<usize> = (flow..shapes.len())
        .filter(|&i| shapes[i].len() > 1)
        .collect();
    let host = graph(Mixed::of(operator.clone()).rounding(weights), &mixed)?;
    let name = std::env::var("ADVECT_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let on = device(&name).unwrap_or_else(|e| panic!("ADVECT_DEVICE: {e}"));
    let form = |_: &str| Some(Arc::new(operator.clone()) as Arc<dyn OnTape>);
    let made = host.fused(
        |_| Fit::Joins,
        |chain| {
            Ok(Arc::new(
                Local::new(Fused::try_new(chain, form)?).on(on.clone()),
            ))
        },
    )?;
    let (got, again) = (outcome(&made)?, outcome(&made)?);
    assert!(got == again, "{operator:?} {shapes:?}: other bits");
    for (i, (want, got)) in want.iter().zip(&got).enumerate() {
        let (want, got) = (
            want.doubles().unwrap_or_default(),
            got.doubles().unwrap_or_default(),
        );
        assert_eq!(want.len(), got.len());
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let apart = norm(&mut want.iter().zip(&got).map(|(a, b)| a - b));
        // of what is 0, as beside one key, an error is one of numbers around 1
        let size = norm(&mut want.iter().copied()).max(0.1 * (want.len() as f64).sqrt());
        let error = apart / size;
        let what = if i == 0 { "value" } else { "cotangent" };
        assert!(
            error < limit,
            "{operator:?} {shapes:?}: {what} {i} is off by {error:.1e}"
        );
    }
    Ok(())
}

#[test]
fn norms() -> Result<()> {
    let epsilon = 1e-5;
    for (rows, h) in [(&[5, 7][..], 64), (&[1], 768), (&[9], 77), (&[3, 2], 2056)] {
        let x = [rows, &[h]].concat();
        hold(LayerNorm { epsilon }, 1, &[&x, &[h], &[h]])?;
        hold(RmsNorm { epsilon }, 1, &[&x, &[h]])?;
    }
    Ok(())
}

#[test]
fn ends_of_products() -> Result<()> {
    for (rows, m) in [(&[50][..], 40), (&[3, 300], 13), (&[1], 8)] {
        let (x, w) = ([rows, &[24]].concat(), [24, m]);
        hold(Linear::LAST, 1, &[&x, &w])?;
        hold(Linear::LAST.shifted(), 1, &[&x, &w, &[m]])?;
        let y = [rows, &[m]].concat();
        for function in FUNCTIONS {
            let limit = match function {
                Pointwise::Relu => BESIDE_A_STEP,
                _ => LIMIT,
            };
            within(limit, Linear::LAST.then(function), 1, &[&x, &w])?;
            let shifted = Linear::LAST.shifted().then(function);
            within(limit, shifted, 1, &[&x, &w, &[m]])?;
            hold(Gated(function), 2, &[&y, &y])?;
        }
        hold(Residual, 2, &[&y, &y, &[m]])?;
        hold(Add, 2, &[&y, &y])?;
        hold(Bias, 1, &[&y, &[m]])?;
    }
    // positions, which have two dimensions
    hold(Bias, 1, &[&[7, 5, 24], &[5, 24]])
}

/// Positions that fill no tile, heads that share keys, and a width without a kernel.
#[test]
fn attention() -> Result<()> {
    for (b, n, g, r, d) in [
        (2, 130, 2, 3, 32),
        (1, 257, 3, 1, 64),
        (2, 64, 1, 2, 64),
        (1, 100, 1, 2, 96),
        (1, 193, 2, 1, 128),
        (2, 1, 1, 1, 64),
        (1, 50, 2, 1, 40),
    ] {
        for operator in [Attention::FULL, Attention::CAUSAL] {
            hold(operator, 2, &[&[b, n, g, r, d], &[b, n, 2, g, d]])?;
        }
    }
    Ok(())
}
