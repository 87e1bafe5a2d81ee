//! Forms on a tape give what kernels give, and parameters of a chain come to a device once a version.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use advect_engine::graph::{Delivery, Value};
use advect_engine::laws::{Outcome, Sample, perform};
use advect_engine::{DType, Data, Fabric, Graph, Layout, Mesh, Placement, Result, Spec, Tick};

use super::{Fused, fit, on_tape};
use crate::attention::{Attention, Rotary};
use crate::local::{Device, Local};
use crate::network::{LayerNorm, Linear, Pointwise, RmsNorm};

const VERSIONS: u64 = 2;
const MICROS: u64 = 3;

fn graph(workers: usize) -> Result<(Graph, [Value; 3])> {
    let mesh = Mesh::line("rows", workers);
    let mut graph = Graph::new(mesh.clone());
    let rows = Layout::new([Placement::Split { dim: 0 }]);
    let x = graph.input("x", Spec::new([6, 4], DType::F64, rows))?;
    let w = graph.parameter("w", Spec::new([4, 5], DType::F64, Layout::same(&mesh)))?;
    let y = graph.apply("linear", Linear::LAST.then(Pointwise::Gelu), &[x, w])?;
    graph.output("y", y)?;
    Ok((graph, [x, w, y]))
}

fn numbers(count: usize, seed: u64) -> Data {
    let number = |i: usize| (seed as f64 + i as f64 * 12.9898).sin();
    (0..count).map(number).collect::<Vec<f64>>().into()
}

/// Outputs and cotangents of all moments of two versions.
fn outcome(graph: &Graph, [x, w, y]: [Value; 3]) -> Result<Outcome> {
    let cut = |value: Value, dual: bool, seed: u64| {
        let spec = match dual {
            true => graph.spec(value).dual()?,
            false => graph.spec(value).clone(),
        };
        spec.cut(graph.mesh(), 0, &numbers(spec.shape.iter().product(), seed))
    };
    let mut samples = Vec::new();
    for (step, micro) in (0..VERSIONS).flat_map(|step| (0..MICROS).map(move |micro| (step, micro)))
    {
        let mut sample = Sample {
            moment: Tick::new(step, micro),
            sources: BTreeMap::from([("x".to_owned(), cut(x, false, 7 * step + micro)?)]),
            seeds: BTreeMap::from([("y".to_owned(), cut(y, true, 11 * step + micro)?)]),
            ..Sample::default()
        };
        if micro == 0 {
            sample
                .sources
                .insert("w".to_owned(), cut(w, false, 90 + step)?);
        }
        samples.push(sample);
    }
    let fabric = Fabric::Threads(graph.mesh().workers());
    perform(graph, &fabric, Delivery::AsTheyCome, &samples, &["x", "w"])
}

fn apart(a: &Data, b: &Data) -> f64 {
    let (a, b) = (
        a.doubles().unwrap_or_default(),
        b.doubles().unwrap_or_default(),
    );
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(&b);
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

/// The weight comes to the device once a version on each worker, however many micro-batches there are, and the
/// next version is another weight.
#[test]
fn weights_are_brought_once_a_version() -> Result<()> {
    for workers in [1, 2] {
        let (host, values) = graph(workers)?;
        let kept: Mutex<Option<Local<Fused>>> = Mutex::default();
        let form =
            |name: &str| on_tape(&Linear::LAST.then(Pointwise::Gelu)).filter(|_| name == "linear");
        let fused = host.fused(
            |name| fit(form(name)),
            |chain| {
                assert_eq!(chain.held, [false, true]);
                let local = Local::new(Fused::try_new(chain, form)?)
                    .on(Device::Cpu)
                    .holding([1]);
                *kept.lock().expect("nobody failed") = Some(local.clone());
                Ok(Arc::new(local))
            },
        )?;
        let (want, got) = (outcome(&host, values)?, outcome(&fused, values)?);
        for (want, got) in [
            (want.outputs, got.outputs),
            (want.cotangents, got.cotangents),
        ] {
            assert!(!want.is_empty() && want.keys().eq(got.keys()));
            for (key, pieces) in want {
                for (a, b) in pieces.iter().zip(&got[&key]) {
                    assert!(apart(a.data(), b.data()) < 1e-13, "{key:?}");
                }
            }
        }
        let local = kept
            .lock()
            .expect("nobody failed")
            .take()
            .expect("it was made");
        assert_eq!(local.brought(), workers * VERSIONS as usize);
    }
    Ok(())
}

/// What a block is made of has a form.
#[test]
fn blocks_have_forms() {
    let epsilon = 1e-5;
    let turn = Rotary {
        base: 10.0,
        with_values: true,
    };
    assert!(on_tape(&LayerNorm { epsilon }).is_some());
    assert!(on_tape(&RmsNorm { epsilon }).is_some());
    assert!(on_tape(&turn).is_some());
    assert!(on_tape(&Attention::CAUSAL).is_some());
    assert!(on_tape(&crate::network::Residual).is_some());
    assert!(on_tape(&crate::network::Embedding).is_none());
}

/// Outputs of a graph and cotangents of its inputs, on one worker.
fn rehearsed(graph: &Graph) -> Result<Vec<Data>> {
    let sources: Vec<(String, Value)> = (graph.sources())
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let pieces = |value: Value, seed: u64| {
        let spec = graph.spec(value);
        let count = spec.shape.iter().product();
        let whole = match spec.dtype {
            // some ranges are empty, and some end behind the last position
            DType::I64 => (0..count as i64)
                .map(|i| (i * 37) % 150)
                .collect::<Vec<_>>()
                .into(),
            _ => numbers(count, seed),
        };
        spec.cut(graph.mesh(), 0, &whole)
    };
    let mut given = BTreeMap::new();
    for (seed, (name, value)) in sources.iter().enumerate() {
        given.insert(name.clone(), pieces(*value, seed as u64)?);
    }
    let now = graph.rehearse(&given, [0, 0], 0)?;
    let mut seeds = BTreeMap::new();
    for (seed, (_, value)) in graph.outputs().enumerate() {
        seeds.insert(value, pieces(value, 50 + seed as u64)?);
    }
    let real = sources.iter().map(|(_, value)| *value);
    let real: Vec<Value> = real
        .filter(|v| graph.spec(*v).dtype == DType::F64)
        .collect();
    let cotangents = now.adjoint(&seeds, &real)?;
    let outputs = graph.outputs().map(|(_, value)| now.value(value));
    let cotangents = real.iter().map(|value| &cotangents[value][..]);
    Ok(outputs
        .chain(cotangents)
        .map(|pieces| pieces[0].data().clone())
        .collect())
}

/// The graph with every operator that `form` knows in a chain, and the number of chains.
fn fused(
    host: &Graph,
    form: &dyn Fn(&str) -> Option<Arc<dyn super::OnTape>>,
) -> Result<(Graph, usize)> {
    let chains = Mutex::new(0);
    let made = host.fused(
        |name| fit(form(name)),
        |chain| {
            *chains.lock().expect("nobody failed") += 1;
            Ok(Arc::new(Local::new(Fused::try_new(chain, form)?)))
        },
    )?;
    Ok((made, chains.into_inner().expect("nobody failed")))
}

fn equal(host: &Graph, fused: &Graph) -> Result<()> {
    for (want, got) in rehearsed(host)?.iter().zip(rehearsed(fused)?) {
        let by = apart(want, &got);
        assert!(by < 1e-12, "{by} in\n{fused}");
    }
    Ok(())
}

/// Attention in several blocks of queries, with and without bounds, gives what its kernel gives: values and
/// cotangents.
#[test]
fn attention_is_that_of_the_kernel() -> Result<()> {
    let mesh = Mesh::line("one", 1);
    for (causal, bounded) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut graph = Graph::new(mesh.clone());
        let same = || Layout::same(&mesh);
        let q = graph.input("q", Spec::new([2, 140, 2, 3, 4], DType::F64, same()))?;
        let kv = graph.input("kv", Spec::new([2, 140, 2, 2, 4], DType::F64, same()))?;
        let mut inputs = vec![q, kv];
        if bounded {
            inputs.push(graph.input("bounds", Spec::new([2, 140, 2], DType::I64, same()))?);
        }
        let attention = Attention { causal, bounded };
        let y = graph.apply("attention", attention, &inputs)?;
        graph.output("y", y)?;
        let (made, chains) = fused(&graph, &|name| {
            on_tape(&attention).filter(|_| name == "attention")
        })?;
        assert_eq!(chains, 1);
        equal(&graph, &made)?;
    }
    Ok(())
}

/// What another operator uses of a chain goes out and ends it; what follows begins the next one.
#[test]
fn chains_end_at_other_operators() -> Result<()> {
    let mesh = Mesh::line("one", 1);
    let mut graph = Graph::new(mesh.clone());
    let spec = |shape: &[usize]| Spec::new(shape, DType::F64, Layout::same(&mesh));
    let x = graph.input("x", spec(&[5, 4]))?;
    let w = graph.parameter("w", spec(&[4, 4]))?;
    let a = graph.apply("a", Linear::LAST, &[x, w])?;
    let b = graph.apply("b", Linear::LAST, &[a, w])?;
    // of the first chain, b alone
    let sum = graph.apply("sum", crate::network::Add, &[x, b])?;
    let c = graph.apply("c", Linear::LAST, &[sum, w])?;
    let d = graph.apply("d", Linear::LAST, &[c, w])?;
    // of the second chain, c and d
    let end = graph.apply("end", crate::network::Add, &[c, d])?;
    graph.output("d", d)?;
    graph.output("end", end)?;
    let (made, chains) = fused(&graph, &|name| {
        on_tape(&Linear::LAST).filter(|_| ["a", "b", "c", "d"].contains(&name))
    })?;
    assert_eq!(chains, 2);
    assert_eq!(made.to_string().matches("Fused").count(), 1 + 2);
    equal(&graph, &made)?;
    // the end of a branch ends the chain that it is in: a, b and their sum; c, d and theirs
    let (made, chains) = fused(&graph, &|name| match name {
        "sum" | "end" => on_tape(&crate::network::Add),
        _ => on_tape(&Linear::LAST),
    })?;
    assert_eq!(chains, 2);
    equal(&graph, &made)
}
