//! Holding one operator against the laws.

use std::collections::BTreeMap;

use crate::error::{EngineError, Result};
use crate::fabric::Fabric;
use crate::graph::{Delivery, Rehearsal, Spec, Value};
use crate::laws::bench::{Bench, Whole, sample};
use crate::laws::case::{Case, Placing};
use crate::laws::perform::{Sample, perform};
use crate::laws::vector::{distance, pair, shifted, vector};
use crate::layout::Layout;
use crate::mesh::Mesh;
use crate::shard::{Data, Shard};
use crate::time::Tick;

/// Relative error that double precision leaves to sums in another order.
const EXACT: f64 = 1e-12;
/// Relative error that a difference quotient of order 4 leaves to a smooth function.
const DIFFERENCE: f64 = 1e-9;
/// Step of the difference quotient: h⁴ and ε/h are both near 1e-13.
const STEP: f64 = 1e-3;

/// The largest relative errors that were found, and how much was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// |⟨J dx, y⟩ − ⟨dx, Jᵀ y⟩| over ‖J dx‖ ‖y‖.
    pub adjoint: f64,
    /// Tangent against the difference quotient.
    pub tangent: f64,
    /// Outputs, tangents and cotangents on many workers against one.
    pub layouts: f64,
    /// Meshes and layouts that were tried.
    pub placings: usize,
}

/// Values, tangents of the outputs and cotangents of the inputs, as whole tensors.
struct Answers {
    outputs: Vec<Data>,
    tangents: Vec<Data>,
    cotangents: Vec<Data>,
}

/// Holds a case against all laws.
///
/// # Errors
/// [`EngineError::Operator`] with the name of the case, the mesh, the layouts and the law that was
/// broken.
pub fn check(case: &Case) -> Result<Figures> {
    let mut figures = Figures::default();
    let alone = Mesh::line("x", 1);
    let same = vec![Layout::same(&alone); case.inputs.len()];
    let bench = Bench::build(case, &alone, &same)?;
    let whole = sample(case, &bench, 1);
    let reference = answers(case, &bench, &whole, &mut figures)?;
    differences(case, &bench, &whole, &reference, &mut figures)?;
    for placing in &case.placings {
        let bench = Bench::build(case, &placing.mesh, &placing.layouts)?;
        let found = answers(case, &bench, &whole, &mut figures)?;
        let specs = |named: &[(String, Value)]| -> Vec<Spec> {
            named
                .iter()
                .map(|(_, v)| bench.graph.spec(*v).clone())
                .collect()
        };
        let (outs, ins) = (specs(&bench.outputs), specs(&bench.smooth));
        for (what, specs, a, b) in [
            ("output", &outs, &reference.outputs, &found.outputs),
            ("tangent", &outs, &reference.tangents, &found.tangents),
            ("cotangent", &ins, &reference.cotangents, &found.cotangents),
        ] {
            for ((spec, a), b) in specs.iter().zip(a).zip(b) {
                let apart = distance(&vector(spec, a, a), &vector(spec, b, a));
                figures.layouts = figures.layouts.max(apart);
                let broken = format!("{what} {spec} differs from that of one worker by {apart:e}");
                hold(case, placing, apart <= EXACT, broken)?;
            }
        }
        order(case, placing, &bench)?;
        figures.placings += 1;
    }
    Ok(figures)
}

/// Values, tangents and cotangents; holds the adjoint law on the way.
fn answers(case: &Case, bench: &Bench, whole: &Whole, figures: &mut Figures) -> Result<Answers> {
    let now = bench
        .graph
        .rehearse(&bench.spread(&whole.sources)?, [0, 0], 0)?;
    let changes = bench.spread(&whole.changes)?;
    let tangents = now.tangent(&changes)?;
    let seeds = bench.seeds(&whole.seeds)?;
    let wrt: Vec<Value> = bench.smooth.iter().map(|(_, v)| *v).collect();
    let cotangents = if wrt.is_empty() {
        BTreeMap::new()
    } else {
        now.adjoint(&seeds, &wrt)?
    };
    let inner = |spec: &Spec, a: &[Shard], b: &[Shard]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| pair(spec, a.data(), b.data()))
            .sum()
    };
    let (mut left, mut size) = (0.0, 0.0);
    for (v, seed) in &seeds {
        let spec = bench.graph.spec(*v);
        left += inner(spec, &tangents[v.0], seed);
        let parts = tangents[v.0].iter().zip(seed);
        size += parts
            .map(|(a, b)| {
                pair(spec, a.data(), a.data()).sqrt() * pair(spec, b.data(), b.data()).sqrt()
            })
            .sum::<f64>();
    }
    let right: f64 = bench
        .smooth
        .iter()
        .filter_map(|(name, v)| {
            Some(inner(
                bench.graph.spec(*v),
                changes.get(name)?,
                cotangents.get(v)?,
            ))
        })
        .sum();
    let apart = if left == right {
        0.0
    } else {
        (left - right).abs() / size
    };
    figures.adjoint = figures.adjoint.max(apart);
    if apart.is_nan() || apart > EXACT {
        let specs: Vec<String> = bench
            .inputs
            .iter()
            .map(|(_, v)| bench.graph.spec(*v).to_string())
            .collect();
        return Err(broken(
            case,
            format!("<J dx, y> = {left} and <dx, J* y> = {right} for inputs {specs:?}"),
        ));
    }
    let join = |spec: &Spec, pieces: &[Shard]| bench.whole(spec, pieces);
    let of = |pieces: &dyn Fn(Value) -> Vec<Shard>| -> Result<Vec<Data>> {
        let outputs = bench.outputs.iter();
        outputs
            .map(|(_, v)| join(bench.graph.spec(*v), &pieces(*v)))
            .collect()
    };
    let smooth = bench.smooth.iter().map(|(_, v)| {
        let found = cotangents.get(v).map_or(&[] as &[Shard], Vec::as_slice);
        join(&bench.graph.spec(*v).dual()?, found)
    });
    Ok(Answers {
        outputs: of(&|v| now.value(v).to_vec())?,
        tangents: of(&|v| tangents[v.0].clone())?,
        cotangents: smooth.collect::<Result<_>>()?,
    })
}

/// The tangent against Richardson's extrapolation of centred differences.
fn differences(
    case: &Case,
    bench: &Bench,
    whole: &Whole,
    reference: &Answers,
    figures: &mut Figures,
) -> Result<()> {
    let at = |h: f64| -> Result<Vec<Vec<f64>>> {
        let mut sources = whole.sources.clone();
        for (name, v) in &bench.smooth {
            let moved = shifted(
                bench.graph.spec(*v),
                &sources[name],
                &whole.changes[name],
                h,
            );
            sources.insert(name.clone(), moved);
        }
        let now: Rehearsal<'_> = bench.graph.rehearse(&bench.spread(&sources)?, [0, 0], 0)?;
        let outputs = bench.outputs.iter().zip(&reference.outputs);
        let vectors = outputs.map(|((_, v), base)| {
            let spec = bench.graph.spec(*v);
            Ok(vector(spec, &bench.whole(spec, now.value(*v))?, base))
        });
        vectors.collect()
    };
    let centred = |h: f64| -> Result<Vec<Vec<f64>>> {
        let pairs = at(h)?.into_iter().zip(at(-h)?);
        let slope = |(a, b): (f64, f64)| (a - b) / (2.0 * h);
        Ok(pairs
            .map(|(a, b)| a.into_iter().zip(b).map(slope).collect())
            .collect())
    };
    let (coarse, fine) = (centred(STEP)?, centred(STEP / 2.0)?);
    for (i, (coarse, fine)) in coarse.iter().zip(&fine).enumerate() {
        let spec = bench.graph.spec(bench.outputs[i].1);
        let limit: Vec<f64> = coarse
            .iter()
            .zip(fine)
            .map(|(c, f)| (4.0 * f - c) / 3.0)
            .collect();
        let tangent = vector(spec, &reference.tangents[i], &reference.outputs[i]);
        let apart = distance(&limit, &tangent);
        figures.tangent = figures.tangent.max(apart);
        if apart > DIFFERENCE {
            let why = format!("the tangent of output {i} differs from differences by {apart:e}");
            return Err(broken(case, why));
        }
    }
    Ok(())
}

/// Shuffled delivery gives the bits of the rehearsal, for several moments and keys at once.
fn order(case: &Case, placing: &Placing, bench: &Bench) -> Result<()> {
    let moments = [
        (Tick::new(0, 0), 0),
        (Tick::new(0, 1), 0),
        (Tick::new(0, 1), 7),
    ];
    let wrt: Vec<&str> = bench.smooth.iter().map(|(name, _)| name.as_str()).collect();
    let (mut samples, mut expected) = (Vec::new(), BTreeMap::new());
    for (i, (moment, key)) in moments.into_iter().enumerate() {
        let whole = sample(case, bench, 2 + i as u64);
        let sources = bench.spread(&whole.sources)?;
        let now = bench
            .graph
            .rehearse(&sources, [moment.step, moment.micro], key)?;
        let seeds = bench.seeds(&whole.seeds)?;
        let values: Vec<Value> = bench.smooth.iter().map(|(_, v)| *v).collect();
        if !values.is_empty() {
            let found = now.adjoint(&seeds, &values)?;
            for (name, v) in &bench.smooth {
                expected.insert((name.clone(), moment, key), found[v].clone());
            }
        }
        for (name, v) in &bench.outputs {
            expected.insert((name.clone(), moment, key), now.value(*v).to_vec());
        }
        let named = bench
            .outputs
            .iter()
            .filter_map(|(n, v)| Some((n.clone(), seeds.get(v)?.clone())));
        samples.push(Sample {
            moment,
            key,
            sources,
            seeds: named.collect(),
        });
    }
    let fabric = Fabric::Threads(placing.mesh.workers());
    for seed in 0..2 {
        let found = perform(
            &bench.graph,
            &fabric,
            Delivery::Shuffled(seed),
            &samples,
            &wrt,
        )?;
        let mut got = found.outputs;
        got.extend(found.cotangents);
        let agree = got.len() == expected.len()
            && expected.iter().all(|(name, want)| {
                got.get(name).is_some_and(|have| {
                    have.len() == want.len()
                        && have.iter().zip(want).all(|(a, b)| {
                            a.shape == b.shape && a.data().as_bytes() == b.data().as_bytes()
                        })
                })
            });
        hold(
            case,
            placing,
            agree,
            format!("order {seed} of messages changes bits"),
        )?;
        let left: usize = found.left.iter().sum();
        hold(
            case,
            placing,
            left == 0,
            format!("{left} points are kept after the end"),
        )?;
    }
    Ok(())
}

fn hold(case: &Case, placing: &Placing, holds: bool, why: String) -> Result<()> {
    if holds {
        return Ok(());
    }
    let layouts: Vec<String> = placing.layouts.iter().map(Layout::to_string).collect();
    Err(broken(
        case,
        format!(
            "{why} (mesh {:?}, inputs {layouts:?})",
            placing.mesh.sizes()
        ),
    ))
}

fn broken(case: &Case, why: String) -> EngineError {
    EngineError::Operator {
        operator: case.name.clone(),
        why,
    }
}
