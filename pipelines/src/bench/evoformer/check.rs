//! Whether what is measured is right: against differences, and against the plain form.

use std::collections::BTreeMap;
use std::sync::Mutex;

use advect_engine::{DType, Data, Shard};
use half::bf16;

use super::part::whole_numbers;
use super::plain::{Found, Tensors, by_row, place};
use super::{Case, NAME, SEED, engine};
use crate::bench::{BenchError, Figure, Report};

/// The greatest difference of a cotangent to differences, relative to its largest entry.
const GRADIENT: f64 = 1e-6;
/// The greatest differences to the plain form, relative to the largest entry of a tensor.
const SINGLE: f64 = 1e-4;
const ROUNDED: f64 = 2e-2;
/// Half of the distance of two points whose outputs are compared.
const STEP: f64 = 1e-5;
const REAL: [&str; 4] = ["q", "k", "v", "bias"];

/// Outputs (`y`) and cotangents by the name of their input.
type Results = BTreeMap<String, Vec<f64>>;

fn data(numbers: &[f64], dtype: DType) -> Data {
    match dtype {
        DType::F32 => numbers.iter().map(|&x| x as f32).collect::<Vec<_>>().into(),
        DType::BF16 => {
            let rounded = numbers.iter().map(|&x| bf16::from_f64(x));
            rounded.collect::<Vec<_>>().into()
        }
        _ => numbers.to_vec().into(),
    }
}

/// Numbers of the sources and of the cotangent, as `dtype` has them, by name.
fn numbers(case: &Case, dtype: DType) -> Result<BTreeMap<String, Vec<f64>>, BenchError> {
    let rounded = case.numbers()?.into_iter().map(|(name, numbers)| {
        let numbers = numbers.doubles().unwrap_or_default();
        let rounded = data(&numbers, dtype).doubles().unwrap_or_default();
        (name, rounded)
    });
    Ok(rounded.collect())
}

/// What the operator gives; without cotangents where there is no seed.
fn fused(
    case: &Case,
    numbers: &BTreeMap<String, Vec<f64>>,
    dtype: DType,
    back: bool,
) -> Result<(Results, Vec<Data>), BenchError> {
    let graph = case.graph(dtype).map_err(engine)?;
    let shapes = case.shapes().into_iter();
    let pieces = shapes.map(|(name, shape)| {
        let data = match name {
            "mask" => whole_numbers(&data(&numbers[name], DType::F32)),
            _ => data(&numbers[name], dtype),
        };
        (name.to_owned(), vec![Shard::new(0, shape, data)])
    });
    let mut sources: BTreeMap<_, _> = pieces.collect();
    let seed = sources.remove(SEED).unwrap_or_default();
    let now = graph.rehearse(&sources, [0, 0], 0).map_err(engine)?;
    let Some((_, y)) = graph.outputs().next() else {
        return Err(BenchError::failed(NAME, "the graph has no output"));
    };
    let mut found = vec![("y", now.value(y)[0].data().clone())];
    if back {
        let wanted: Vec<_> = graph.sources().filter(|(n, _)| REAL.contains(n)).collect();
        let values: Vec<_> = wanted.iter().map(|(_, value)| *value).collect();
        let seeds = BTreeMap::from([(y, seed)]);
        let back = now.adjoint(&seeds, &values).map_err(engine)?;
        found.extend(wanted.iter().map(|(n, v)| (*n, back[v][0].data().clone())));
    }
    let bits = found.iter().map(|(_, data)| data.clone()).collect();
    let named = found.into_iter().map(|(name, data)| {
        let numbers = data.doubles().unwrap_or_default();
        (name.to_owned(), numbers)
    });
    Ok((named.collect(), bits))
}

/// The greatest difference, relative to the largest entry; NaN is one.
fn apart(got: &[f64], want: &[f64]) -> f64 {
    let size = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let gaps = got.iter().zip(want).map(|(a, b)| (a - b).abs());
    let gap = gaps.fold(0.0f64, |m, g| if m.is_nan() || g <= m { m } else { g });
    if got.len() == want.len() {
        gap / size
    } else {
        f64::NAN
    }
}

fn within(what: &str, found: f64, limit: f64) -> Result<(), BenchError> {
    if found <= limit {
        return Ok(());
    }
    let why = format!("{what}: {found:.1e} is above {limit:.0e}");
    Err(BenchError::failed(NAME, why))
}

/// Every entry of every cotangent against the difference of the outputs at two points, in double precision.
pub(super) fn differences(report: &mut Report) -> Result<(), BenchError> {
    let case = Case::new([1, 3, 7, 2, 5]);
    let mut at = numbers(&case, DType::F64)?;
    // some rows see nothing, and others something
    let mask = at.get_mut("mask").into_iter().flatten();
    mask.enumerate()
        .for_each(|(i, x)| *x = f64::from(u8::from(i >= 7 && i % 3 != 0)));
    let (exact, _) = fused(&case, &at, DType::F64, true)?;
    let seed = at[SEED].clone();
    let mut worst = 0.0f64;
    for name in REAL {
        let mut slopes = Vec::new();
        for i in 0..at[name].len() {
            let along = |step: f64| -> Result<f64, BenchError> {
                let mut moved = at.clone();
                if let Some(x) = moved.get_mut(name) {
                    x[i] += step;
                }
                let (found, _) = fused(&case, &moved, DType::F64, false)?;
                Ok(found["y"].iter().zip(&seed).map(|(y, s)| y * s).sum())
            };
            slopes.push((along(STEP)? - along(-STEP)?) / (2.0 * STEP));
        }
        let gap = apart(&exact[name], &slopes);
        within(
            &format!("cotangent of {name} to differences"),
            gap,
            GRADIENT,
        )?;
        worst = worst.max(gap);
    }
    let what = format!("{case}: largest difference of gradients to differences, f64");
    report.give(Figure::new(NAME, what, worst, "of 1"));
    Ok(())
}

/// Results in `f32` and `bf16` against the plain form in double precision on the same numbers, and against
/// themselves.
pub(super) fn results(case: Case, report: &mut Report) -> Result<(), BenchError> {
    for (dtype, limit) in [(DType::F32, SINGLE), (DType::BF16, ROUNDED)] {
        let of = numbers(&case, dtype)?;
        let want = plain(&case, &of);
        let (found, bits) = fused(&case, &of, dtype, true)?;
        let mut worst = 0.0f64;
        for (name, want) in &want {
            let gap = apart(&found[name], want);
            within(
                &format!("{case}, {dtype:?}, {name} to the plain form"),
                gap,
                limit,
            )?;
            worst = worst.max(gap);
        }
        let what = format!("{case}: largest difference to the plain form, {dtype:?}");
        report.give(Figure::new(NAME, what, worst, "of 1"));
        let (_, again) = fused(&case, &of, dtype, true)?;
        let mut pairs = bits.iter().zip(&again);
        if pairs.any(|(a, b)| a.as_bytes() != b.as_bytes()) {
            let why = format!("{case}, {dtype:?}: two runs differ in a bit");
            return Err(BenchError::failed(NAME, why));
        }
        let what = format!("{case}: bits that differ in a second run, {dtype:?}");
        report.give(Figure::new(NAME, what, 0.0, "bits"));
    }
    Ok(())
}

/// The plain form, row by row.
fn plain(case: &Case, of: &BTreeMap<String, Vec<f64>>) -> Results {
    let (l, h) = (case.length, case.heads);
    let len = of["q"].len();
    let results = Mutex::new([(); 4].map(|()| vec![0.0; len]));
    let tensors = Tensors {
        q: &of["q"],
        k: &of["k"],
        v: &of["v"],
        mask: &of["mask"],
        bias: &of["bias"],
        given: &of[SEED],
    };
    let by_head = by_row(case, &tensors, |cell, found: Found<f64>| {
        let mut results = results
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for (to, from) in results.iter_mut().zip([found.y, found.q, found.k, found.v]) {
            for (at, x) in from.into_iter().enumerate() {
                to[place(case, cell, at % l, at / l)] = x;
            }
        }
    });
    let mut to_bias = vec![0.0; by_head.len()];
    for (at, x) in by_head.into_iter().enumerate() {
        let (b, head, pair) = (at / (h * l * l), at / (l * l) % h, at % (l * l));
        to_bias[(b * l * l + pair) * h + head] = x;
    }
    let results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let names = ["y", "q", "k", "v"].map(str::to_owned);
    let mut named: Results = names.into_iter().zip(results).collect();
    named.insert("bias".to_owned(), to_bias);
    named
}
