//! Every operation against differences.

use advect_operators::OperatorError;
use advect_operators::local::{DType, Handle, Tape, Tensor};

use crate::{Result, device, dot, flat, ids, tensor};

type Make = fn(&mut Tape, &[Handle]) -> Result<Handle>;

/// An operation, and inputs of its domain: centre + spread · chance.
struct Case {
    name: &'static str,
    shapes: &'static [&'static [usize]],
    centre: f64,
    make: Make,
}

const fn case(
    name: &'static str,
    shapes: &'static [&'static [usize]],
    centre: f64,
    make: Make,
) -> Case {
    Case {
        name,
        shapes,
        centre,
        make,
    }
}

/// Every primitive operation, in every way that its adjoint tells apart.
const CASES: &[Case] = &[
    case("add", &[&[2, 3], &[2, 3]], 0.0, |t, x| t.add(x[0], x[1])),
    case("add, row", &[&[2, 3], &[3]], 0.0, |t, x| t.add(x[0], x[1])),
    case("sub, column", &[&[2, 1], &[2, 3]], 0.0, |t, x| {
        t.sub(x[0], x[1])
    }),
    case("mul", &[&[2, 3], &[2, 3]], 0.0, |t, x| t.mul(x[0], x[1])),
    case("mul, outer", &[&[4, 1], &[3]], 0.0, |t, x| {
        t.mul(x[0], x[1])
    }),
    case("mul, number", &[&[2, 3], &[]], 0.0, |t, x| {
        t.mul(x[0], x[1])
    }),
    case("mul, twice", &[&[3]], 0.0, |t, x| t.mul(x[0], x[0])),
    case("div", &[&[2, 3], &[2, 3]], 2.5, |t, x| t.div(x[0], x[1])),
    case("div, row", &[&[2, 3], &[3]], 2.5, |t, x| t.div(x[0], x[1])),
    case("affine", &[&[2, 3]], 0.0, |t, x| t.affine(x[0], -1.5, 0.5)),
    case("neg", &[&[2, 3]], 0.0, |t, x| t.neg(x[0])),
    case("sqr", &[&[2, 3]], 0.0, |t, x| t.sqr(x[0])),
    case("exp", &[&[2, 3]], 0.0, |t, x| t.exp(x[0])),
    case("log", &[&[2, 3]], 2.0, |t, x| t.log(x[0])),
    case("sqrt", &[&[2, 3]], 2.0, |t, x| t.sqrt(x[0])),
    case("recip", &[&[2, 3]], 2.0, |t, x| t.recip(x[0])),
    case("powf", &[&[2, 3]], 2.0, |t, x| t.powf(x[0], 2.7)),
    case("sin", &[&[2, 3]], 0.0, |t, x| t.sin(x[0])),
    case("cos", &[&[2, 3]], 0.0, |t, x| t.cos(x[0])),
    case("tanh", &[&[2, 3]], 0.0, |t, x| t.tanh(x[0])),
    case("sigmoid", &[&[2, 3]], 0.0, |t, x| t.sigmoid(x[0])),
    case("relu", &[&[2, 3]], 0.0, |t, x| t.relu(x[0])),
    case("silu", &[&[2, 3]], 0.0, |t, x| t.silu(x[0])),
    case("gelu", &[&[2, 3]], 0.0, |t, x| t.gelu(x[0])),
    case("softmax", &[&[2, 3]], 0.0, |t, x| t.softmax(x[0])),
    case("log_softmax", &[&[2, 3]], 0.0, |t, x| t.log_softmax(x[0])),
    case("matmul", &[&[2, 3], &[3, 4]], 0.0, |t, x| {
        t.matmul(x[0], x[1])
    }),
    case("matmul, batches", &[&[2, 2, 3], &[2, 3, 4]], 0.0, |t, x| {
        t.matmul(x[0], x[1])
    }),
    case("matmul, one matrix", &[&[2, 2, 3], &[3, 4]], 0.0, |t, x| {
        t.matmul(x[0], x[1])
    }),
    case(
        "matmul, broadcast",
        &[&[2, 1, 2, 3], &[3, 3, 2]],
        0.0,
        |t, x| t.matmul(x[0], x[1]),
    ),
    case(
        "matmul, three leading",
        &[&[2, 1, 2, 2, 3], &[2, 2, 1, 3, 2]],
        0.0,
        |t, x| t.matmul(x[0], x[1]),
    ),
    case("matmul, turned", &[&[3, 2], &[4, 3]], 0.0, |t, x| {
        let (a, b) = (t.transpose(x[0])?, t.transpose(x[1])?);
        t.matmul(a, b)
    }),
    case(
        "matmul, strided",
        &[&[2, 3, 2, 2], &[2, 2, 2, 3]],
        0.0,
        |t, x| {
            let (a, b) = (
                t.permute(x[0], &[2, 0, 3, 1])?,
                t.permute(x[1], &[1, 2, 3, 0])?,
            );
            let b = t.transpose(b)?;
            let b = t.permute(b, &[0, 1, 3, 2])?;
            t.matmul(a, b)
        },
    ),
    case("reshape", &[&[2, 3]], 0.0, |t, x| t.reshape(x[0], &[3, 2])),
    case("permute", &[&[2, 3, 4]], 0.0, |t, x| {
        t.permute(x[0], &[2, 0, 1])
    }),
    case("broadcast", &[&[3, 1]], 0.0, |t, x| {
        t.broadcast(x[0], &[2, 3, 2])
    }),
    case("narrow", &[&[2, 5]], 0.0, |t, x| t.narrow(x[0], 1, 1, 3)),
    case("pad", &[&[2, 2]], 0.0, |t, x| t.pad(x[0], 0, 1, 2)),
    case("concat", &[&[2, 1], &[2, 3], &[2, 2]], 0.0, |t, x| {
        t.concat(x, 1)
    }),
    case("sum, first", &[&[3, 4]], 0.0, |t, x| t.sum(x[0], &[0])),
    case("sum, last", &[&[3, 4]], 0.0, |t, x| t.sum(x[0], &[1])),
    case("sum, middle", &[&[2, 3, 2]], 0.0, |t, x| {
        t.sum_keepdim(x[0], &[1])
    }),
    case("sum, ends", &[&[2, 3, 2]], 0.0, |t, x| t.sum(x[0], &[0, 2])),
    case("sum, all", &[&[2, 3]], 0.0, |t, x| t.sum_all(x[0])),
    case("mean", &[&[2, 3]], 0.0, |t, x| t.mean(x[0], &[0])),
    case("cast", &[&[3]], 0.0, |t, x| t.cast(x[0], DType::F64)),
    case("gather_rows", &[&[3, 2]], 0.0, |t, x| {
        let ids = ids(t, &[2, 0, 2, i64::MAX]);
        t.gather_rows(x[0], ids)
    }),
    case("segment_sum", &[&[4, 2]], 0.0, |t, x| {
        let ids = ids(t, &[2, 0, 2, i64::MAX]);
        t.segment_sum(x[0], ids, 4)
    }),
    case("choose", &[&[2, 3], &[2, 3]], 0.0, |t, x| {
        let mask = t.above(x[0], 0.1)?;
        t.choose(mask, x[0], x[1])
    }),
    case("remake", &[&[2, 3], &[3]], 0.0, |t, x| {
        let made = t.remake(x, |t, x| {
            let y = t.mul(x[0], x[1])?;
            Ok(vec![t.tanh(y)?, t.sin(x[1])?])
        })?;
        t.mul(made[0], made[1])
    }),
    case("remake in remake", &[&[3]], 0.0, |t, x| {
        let made = t.remake(x, |t, x| {
            let inner = t.remake(x, |t, x| Ok(vec![t.exp(x[0])?]))?;
            Ok(vec![t.mul(inner[0], x[0])?])
        })?;
        t.sin(made[0])
    }),
];

/// φ(x) = ⟨w, sin f(x)⟩: a number that bends, whatever f does.
fn bent(case: &Case, tape: &mut Tape, x: &[Handle]) -> Result<Handle> {
    let y = (case.make)(tape, x)?;
    let bent = tape.sin(y)?;
    let weights = tensor(tape.shape(y)?, 77);
    let weights = tape.constant(&weights);
    let all = tape.mul(bent, weights)?;
    tape.sum_all(all)
}

fn leaves(tape: &mut Tape, x: &[Tensor]) -> Vec<Handle> {
    x.iter().map(|x| tape.input("x", x)).collect()
}

fn value(case: &Case, x: &[Tensor]) -> Result<f64> {
    let mut tape = Tape::new();
    let x = leaves(&mut tape, x);
    let phi = bent(case, &mut tape, &x)?;
    Ok(flat(tape.value(phi)?)[0])
}

/// dφ along v by a sweep that releases a trimmed tape.
fn slope(case: &Case, x: &[Tensor], v: &[Tensor]) -> Result<f64> {
    let mut tape = Tape::new();
    let x = leaves(&mut tape, x);
    let phi = bent(case, &mut tape, &x)?;
    tape.trim();
    let found = tape.sweep(&[phi], &[Tensor::new(1.0, &device())?], &x)?;
    Ok(found.iter().zip(v).map(|(g, v)| dot(g, v)).sum())
}

/// d(dφ along v) along u by a sweep of a recorded sweep.
fn curvature(case: &Case, x: &[Tensor], v: &[Tensor], u: &[Tensor]) -> Result<f64> {
    let mut tape = Tape::new();
    let x = leaves(&mut tape, x);
    let phi = bent(case, &mut tape, &x)?;
    tape.trim();
    let one = tape.ones_like(phi)?;
    let found = tape.gradients(&[phi], &[one], &x)?;
    let mut sum = None;
    for (&g, v) in found.iter().zip(v) {
        let v = tape.constant(v);
        let part = tape.mul(g, v)?;
        let part = tape.sum_all(part)?;
        sum = Some(match sum {
            Some(sum) => tape.add(sum, part)?,
            None => part,
        });
    }
    tape.trim();
    let along = sum.expect("an input");
    let found = tape.sweep(&[along], &[Tensor::new(1.0, &device())?], &x)?;
    Ok(found.iter().zip(u).map(|(g, u)| dot(g, u)).sum())
}

/// Richardson's extrapolation of centred differences along v.
fn difference(x: &[Tensor], v: &[Tensor], f: impl Fn(&[Tensor]) -> Result<f64>) -> Result<f64> {
    let at = |h: f64| {
        let moved = x.iter().zip(v).map(|(x, v)| Ok(x.add(&v.affine(h, 0.0)?)?));
        f(&moved.collect::<Result<Vec<_>>>()?)
    };
    let centred = |h: f64| Ok::<f64, OperatorError>((at(h)? - at(-h)?) / (2.0 * h));
    Ok((4.0 * centred(5e-4)? - centred(1e-3)?) / 3.0)
}

/// The sweep of every operation is its derivative, and the sweep of that sweep the derivative of it.
#[test]
fn primitives_have_the_derivatives_of_differences() -> Result<()> {
    for (number, case) in CASES.iter().enumerate() {
        let draw = |seed: u64, centre: f64| -> Result<Vec<Tensor>> {
            let shapes = case.shapes.iter().enumerate();
            let drawn =
                shapes.map(|(i, shape)| {
                    Ok(tensor(shape, seed + 10 * i as u64 + 100 * number as u64)
                        .affine(1.0, centre)?)
                });
            drawn.collect()
        };
        let (x, v, u) = (draw(1, case.centre)?, draw(2, 0.0)?, draw(3, 0.0)?);
        let near = |found: f64, expected: f64, order: &str| {
            let apart = (found - expected).abs() / expected.abs().max(1.0);
            assert!(
                apart < 1e-9,
                "{}, {order}: swept {found}, difference {expected}",
                case.name
            );
        };
        let first = difference(&x, &v, |x| value(case, x))?;
        near(slope(case, &x, &v)?, first, "first order");
        let second = difference(&x, &u, |x| slope(case, x, &v))?;
        near(curvature(case, &x, &v, &u)?, second, "second order");
    }
    Ok(())
}
