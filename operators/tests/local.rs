//! Functions on a tape as operators: forces that are trained, what is kept, which types come and go, and
//! how refusals read.

mod common;

use std::collections::BTreeMap;

use advect_engine::graph::{Delivery, Site, Value};
use advect_engine::laws::{Sample, perform};
use advect_engine::{DType, Data, Fabric, Graph, Layout, Mesh, Placement, Result, Shard, Spec};
use advect_operators::OperatorError;
use advect_operators::local::{
    Cut, DType as Float, Function, Handle, Local, RowLayouts, Tape, Tensor,
};

use common::device;

type Made<T> = std::result::Result<T, OperatorError>;

const S0: Placement = Placement::Split { dim: 0 };

/// Numbers from −1 to 1 that look like chance.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(shape: &[usize], scale: f64, seed: u64) -> Tensor {
    let numbers = numbers(shape.iter().product(), seed);
    let numbers = numbers.into_iter().map(|x| scale * x).collect();
    Tensor::from_vec(numbers, shape, &device()).expect("a tensor")
}

// ---- forces ---------------------------------------------------------------------------------------

const ATOMS: usize = 6;
const WIDTH: usize = 5;
const RADIAL: usize = 4;
/// Messages end at this distance.
const CUTOFF: f64 = 4.0;

/// Shapes of the weights of one layer of messages and updates.
const LAYER: [&[usize]; 6] = [
    &[WIDTH, WIDTH],
    &[WIDTH, 3 * WIDTH],
    &[RADIAL, 3 * WIDTH],
    &[WIDTH, WIDTH],
    &[2 * WIDTH, WIDTH],
    &[WIDTH, WIDTH],
];

/// $\sin(n \pi d / r) / d$ times the cosine cutoff, `[edges, RADIAL]`, from distances `[edges, 1]`.
fn radial(tape: &mut Tape, d: Handle) -> Made<Handle> {
    let (mut waves, inverse) = (Vec::new(), tape.recip(d)?);
    for n in 1..=RADIAL {
        let phase = tape.affine(d, n as f64 * std::f64::consts::PI / CUTOFF, 0.0)?;
        let wave = tape.sin(phase)?;
        waves.push(tape.mul(wave, inverse)?);
    }
    let waves = tape.concat(&waves, 1)?;
    let phase = tape.affine(d, std::f64::consts::PI / CUTOFF, 0.0)?;
    let fall = tape.cos(phase)?;
    let fall = tape.affine(fall, 0.5, 0.5)?;
    tape.mul(waves, fall)
}

/// The energy of atoms by equivariant messages, after Schütt, Unke and Gastegger (2021), *PaiNN*: scalar
/// features `[atoms, f]` and vector features `[atoms, 3, f]` that meet in norms.
fn energy(tape: &mut Tape, x: Handle, edges: [&[i64]; 2], weights: &[Handle]) -> Made<Handle> {
    let [i, j] = edges.map(|ids| Tensor::new(ids, &device()));
    let (i, j) = (tape.constant(&i?), tape.constant(&j?));
    let (from, to) = (tape.gather_rows(x, j)?, tape.gather_rows(x, i)?);
    let apart = tape.sub(from, to)?;
    let square = tape.sqr(apart)?;
    let square = tape.sum_keepdim(square, &[1])?;
    let d = tape.sqrt(square)?;
    let towards = tape.div(apart, d)?;
    let edge_count = tape.shape(d)?[0];
    let towards = tape.reshape(towards, &[edge_count, 3, 1])?;
    let radial = radial(tape, d)?;
    let mut s = weights[0];
    let mut v = tape.constant(&Tensor::zeros((ATOMS, 3, WIDTH), Float::F64, &device())?);
    for w in weights[1..].chunks(LAYER.len()) {
        let hidden = tape.matmul(s, w[0])?;
        let hidden = tape.silu(hidden)?;
        let hidden = tape.matmul(hidden, w[1])?;
        let hidden = tape.gather_rows(hidden, j)?;
        let filter = tape.matmul(radial, w[2])?;
        let message = tape.mul(hidden, filter)?;
        let part = |tape: &mut Tape, n: usize| tape.narrow(message, 1, n * WIDTH, WIDTH);
        let (scalar, along, turned) = (part(tape, 0)?, part(tape, 1)?, part(tape, 2)?);
        let scalar = tape.segment_sum(scalar, i, ATOMS)?;
        s = tape.add(s, scalar)?;
        let along = tape.reshape(along, &[edge_count, 1, WIDTH])?;
        let along = tape.mul(along, towards)?;
        let turned = tape.reshape(turned, &[edge_count, 1, WIDTH])?;
        let neighbour = tape.gather_rows(v, j)?;
        let turned = tape.mul(turned, neighbour)?;
        let vector = tape.add(along, turned)?;
        let vector = tape.segment_sum(vector, i, ATOMS)?;
        v = tape.add(v, vector)?;
        let mixed = tape.matmul(v, w[3])?;
        let norm = tape.sqr(mixed)?;
        let norm = tape.sum(norm, &[1])?;
        let norm = tape.affine(norm, 1.0, 1e-3)?;
        let norm = tape.sqrt(norm)?;
        let both = tape.concat(&[s, norm], 1)?;
        let update = tape.matmul(both, w[4])?;
        let update = tape.gelu(update)?;
        let update = tape.matmul(update, w[5])?;
        s = tape.add(s, update)?;
    }
    let square = tape.sqr(s)?;
    tape.sum_all(square)
}

/// |F − F₀|² and, if asked for, its gradient in the weights.
fn force_loss(weights: &[Tensor], swept: bool) -> Made<(f64, Vec<Tensor>)> {
    let all = (0..ATOMS as i64).flat_map(|i| (0..ATOMS as i64).map(move |j| (i, j)));
    let (i, j): (Vec<i64>, Vec<i64>) = all.filter(|(i, j)| i != j).unzip();
    let mut tape = Tape::new();
    let x = tape.input("positions", &tensor(&[ATOMS, 3], 1.5, 3));
    let named = weights.iter().enumerate();
    let weights: Vec<Handle> = named
        .map(|(n, w)| tape.input(format!("weight {n}"), w))
        .collect();
    let energy = energy(&mut tape, x, [&i, &j], &weights)?;
    let one = tape.ones_like(energy)?;
    let slope = tape.gradients(&[energy], &[one], &[x])?[0];
    let expected = tape.constant(&tensor(&[ATOMS, 3], 1.0, 4));
    let apart = tape.add(slope, expected)?;
    let square = tape.sqr(apart)?;
    let loss = tape.sum_all(square)?;
    let value = tape.value(loss)?.to_scalar()?;
    tape.trim();
    let found = match swept {
        true => tape.sweep(&[loss], &[Tensor::new(1.0, &device())?], &weights)?,
        false => Vec::new(),
    };
    Ok((value, found))
}

/// The gradient of a loss of forces F = −∂E/∂x in every weight of a network of messages is that of
/// differences.
#[test]
fn forces_are_trained_through() -> Made<()> {
    let shapes = [&[ATOMS, WIDTH] as &[usize]];
    let shapes: Vec<&[usize]> = shapes.into_iter().chain(LAYER).chain(LAYER).collect();
    let draw = |scale: f64, seed: u64| -> Vec<Tensor> {
        let shapes = shapes.iter().enumerate();
        shapes
            .map(|(n, shape)| tensor(shape, scale, seed + n as u64))
            .collect()
    };
    let weights = draw(0.5, 10);
    let (_, gradient) = force_loss(&weights, true)?;
    for (n, direction) in draw(1.0, 100).iter().enumerate() {
        let at = |h: f64| -> Made<f64> {
            let mut moved = weights.clone();
            moved[n] = moved[n].add(&direction.affine(h, 0.0)?)?;
            Ok(force_loss(&moved, false)?.0)
        };
        let centred = |h: f64| Ok::<f64, OperatorError>((at(h)? - at(-h)?) / (2.0 * h));
        let expected = (4.0 * centred(5e-4)? - centred(1e-3)?) / 3.0;
        let found: f64 = gradient[n].mul(direction)?.sum_all()?.to_scalar()?;
        let apart = (found - expected).abs() / expected.abs().max(1.0);
        assert!(
            apart < 1e-7,
            "weight {n}: swept {found}, difference {expected}"
        );
    }
    Ok(())
}

/// A name is one device: tensors of two calls meet.
#[test]
fn devices_are_the_same_each_time() {
    assert!(device().same_device(&device()));
}

// ---- operators ------------------------------------------------------------------------------------

/// y = gelu(x W) V by rows; what `unused` says is not read.
#[derive(Debug, Clone, Copy)]
struct Network {
    unused: bool,
}

impl Function for Network {
    fn inputs(&self) -> usize {
        3
    }

    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let cuts = [Cut::Rows(0), Cut::Whole, Cut::Whole];
        let layouts = RowLayouts::try_new("Network", inputs, &cuts)?;
        let shape = [inputs[0].shape[0], inputs[2].shape[1]];
        Ok(vec![Spec::new(shape, inputs[0].dtype, layouts.rows(0))])
    }

    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Made<Vec<Handle>> {
        let hidden = tape.matmul(inputs[0], inputs[1])?;
        let hidden = tape.gelu(hidden)?;
        Ok(vec![match self.unused {
            true => tape.narrow(hidden, 1, 0, 2)?,
            false => tape.matmul(hidden, inputs[2])?,
        }])
    }
}

const ROWS: usize = 7;
const HIDDEN: usize = 16;

fn graph(local: Local<Network>, mesh: &Mesh, dtype: DType) -> Result<(Graph, [Value; 4])> {
    let mut graph = Graph::new(mesh.clone());
    let same = Layout::same(mesh);
    let x = graph.input("x", Spec::new([ROWS, 4], dtype, Layout::new([S0])))?;
    let w = graph.input("w", Spec::new([4, HIDDEN], dtype, same.clone()))?;
    let v = graph.input("v", Spec::new([HIDDEN, 2], dtype, same))?;
    let y = graph.apply("network", local, &[x, w, v])?;
    graph.output("y", y)?;
    Ok((graph, [x, w, v, y]))
}

fn data(dtype: DType, count: usize, seed: u64) -> Data {
    let numbers = numbers(count, seed);
    match dtype {
        DType::F32 => Data::from(numbers.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        DType::BF16 => {
            let rounded = numbers.iter().map(|&x| half::bf16::from_f64(x));
            Data::from(rounded.collect::<Vec<_>>())
        }
        _ => Data::from(numbers),
    }
}

fn pieces(graph: &Graph, value: Value, dual: bool, seed: u64) -> Result<Vec<Shard>> {
    let spec = match dual {
        true => graph.spec(value).dual()?,
        false => graph.spec(value).clone(),
    };
    let whole = data(spec.dtype, spec.shape.iter().product(), seed);
    spec.cut(graph.mesh(), 0, &whole)
}

/// Outputs and gradients in a dataflow of three workers, and the most bytes kept on one.
fn outcome(local: Local<Network>, dtype: DType) -> Result<(Vec<Data>, usize)> {
    let mesh = Mesh::line("rows", 3);
    let (graph, [x, w, v, y]) = graph(local, &mesh, dtype)?;
    let mut sample = Sample::default();
    for (name, value) in [("x", x), ("w", w), ("v", v)] {
        sample.sources.insert(
            name.to_owned(),
            pieces(&graph, value, false, value_seed(name))?,
        );
    }
    sample
        .seeds
        .insert("y".to_owned(), pieces(&graph, y, true, 9)?);
    let run = perform(
        &graph,
        &Fabric::Threads(3),
        Delivery::AsTheyCome,
        &[sample],
        &["x", "w", "v"],
    )?;
    let found = run.outputs.values().chain(run.cotangents.values());
    let found = found.flatten().map(|shard| shard.data().clone());
    Ok((found.collect(), run.peak.into_iter().max().unwrap_or(0)))
}

fn value_seed(name: &str) -> u64 {
    name.bytes().map(u64::from).sum()
}

/// A function that is computed again gives the same bits and keeps its inputs only.
#[test]
fn remade_functions_keep_inputs_only() -> Result<()> {
    let network = Network { unused: false };
    let (kept, all) = outcome(Local::new(network).on(device()), DType::F64)?;
    let (remade, inputs) = outcome(Local::new(network).on(device()).remade(), DType::F64)?;
    assert!(kept == remade, "bits differ");
    let rows = ROWS.div_ceil(3);
    let of_inputs = 8 * (rows * 4 + 4 * HIDDEN + HIDDEN * 2);
    assert_eq!(inputs, of_inputs);
    // x W for the derivative of gelu, and gelu(x W) for that of the product with V
    assert_eq!(all, of_inputs + 8 * 2 * rows * HIDDEN);
    Ok(())
}

/// Single precision and brain floats come out as they went in, and near the double-precision answer.
#[test]
fn types_go_through() -> Result<()> {
    let network = Network { unused: false };
    let (exact, _) = outcome(Local::new(network).on(device()), DType::F64)?;
    let close = |found: &[Data], numbers: &dyn Fn(&Data) -> Vec<f64>, limit: f64| {
        for (found, exact) in found.iter().zip(&exact) {
            let pairs = numbers(found).into_iter().zip(exact.get::<f64>().unwrap());
            for (a, b) in pairs {
                assert!((a - b).abs() < limit * b.abs().max(1.0), "{a} against {b}");
            }
        }
    };
    let (single, _) = outcome(Local::new(network).on(device()), DType::F32)?;
    let widen = |data: &Data| data.doubles().expect("f32");
    close(&single, &widen, 1e-5);
    let (brain, _) = outcome(Local::new(network).on(device()), DType::BF16)?;
    let widen = |data: &Data| {
        let numbers = data.get::<half::bf16>().expect("bf16");
        numbers.iter().map(|x| x.to_f64()).collect()
    };
    close(&brain, &widen, 0.05);
    Ok(())
}

/// A gradient that the function cuts is an error that names operator, worker and input.
#[test]
fn cut_gradients_are_named() -> Result<()> {
    let mesh = Mesh::line("rows", 1);
    let (graph, [x, w, v, y]) = graph(
        Local::new(Network { unused: true }).on(device()),
        &mesh,
        DType::F64,
    )?;
    let mut sources = BTreeMap::new();
    for (name, value) in [("x", x), ("w", w), ("v", v)] {
        sources.insert(name.to_owned(), pieces(&graph, value, false, 1)?);
    }
    let now = graph.rehearse(&sources, [0, 0], 0)?;
    let seeds = BTreeMap::from([(y, pieces(&graph, y, true, 2)?)]);
    assert!(now.adjoint(&seeds, &[x, w]).is_ok());
    let refused = now.adjoint(&seeds, &[x, w, v]).map(|_| ());
    let said = refused.expect_err("v is not read").to_string();
    assert!(
        said.contains("network on worker 0") && said.contains("input 2 has no gradient"),
        "{said}"
    );
    Ok(())
}

/// Types without tensors, layouts without rule and wrong numbers of inputs are refused before anything runs.
#[test]
fn refusals_come_before_the_run() -> Result<()> {
    let mesh = Mesh::line("rows", 2);
    let network = Local::new(Network { unused: false }).on(device());
    let said = graph(network.clone(), &mesh, DType::Canonical).map(|_| ());
    let said = said.expect_err("no tensors of that type").to_string();
    assert!(said.contains("F32, F64, BF16 or I64"), "{said}");
    let mut graph = Graph::new(mesh.clone());
    let x = graph.input("x", Spec::new([4, 4], DType::F64, Layout::new([S0])))?;
    let said = graph.apply("network", network.clone(), &[x]).map(|_| ());
    let said = said.expect_err("two inputs are missing").to_string();
    assert!(said.contains("it takes 3 inputs, not 1"), "{said}");
    let said = graph.apply("network", network, &[x, x, x]).map(|_| ());
    let said = said.expect_err("weights are cut").to_string();
    assert!(said.contains("cut all inputs of rows"), "{said}");
    Ok(())
}
