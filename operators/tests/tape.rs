//! Laws of the tape. Four families:
//!
//! * `primitives`: every operation against differences, at first and second order.
//! * `release_*`, `ready_*`: what a sweep lets go and gives, and when.
//! * `remade_*`: segments keep less and change no bit.
//! * `cut_*`, `long_*`: nothing is lost silently, and no stack is needed.

use advect_operators::OperatorError;
use advect_operators::local::{DType, Device, Handle, Tape, Tensor};

type Result<T> = std::result::Result<T, OperatorError>;
type Make = fn(&mut Tape, &[Handle]) -> Result<Handle>;

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

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let count = shape.iter().product();
    Tensor::from_vec(numbers(count, seed), shape, &Device::Cpu).expect("a tensor")
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let numbers = tensor.flatten_all().and_then(|t| t.to_vec1());
    numbers.expect("numbers")
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum()
}

/// An operation, and inputs of its domain: centre + spread · chance.
struct Case {
    name: &'static str,
    shapes: &'static [&'static [usize]],
    centre: f64,
    make: Make,
}

fn ids(tape: &mut Tape, ids: &[i64]) -> Handle {
    tape.constant(&Tensor::new(ids, &Device::Cpu).expect("ids"))
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
    let found = tape.sweep(&[phi], &[Tensor::new(1.0, &Device::Cpu)?], &x)?;
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
    let found = tape.sweep(&[along], &[Tensor::new(1.0, &Device::Cpu)?], &x)?;
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

/// A chain of `layers` products and functions, with a weight each.
fn layers(tape: &mut Tape, layers: usize, width: usize) -> Result<(Handle, Vec<Handle>)> {
    let mut h = tape.input("x", &tensor(&[64, width], 1));
    let mut weights = Vec::new();
    for layer in 0..layers {
        let w = tensor(&[width, width], 2 + layer as u64).affine(0.2, 0.0)?;
        let w = tape.input(format!("weight {layer}"), &w);
        weights.push(w);
        let product = tape.matmul(h, w)?;
        h = tape.tanh(product)?;
    }
    Ok((h, weights))
}

/// A sweep keeps less with every layer that it has passed, and nothing but the first layer in the end.
#[test]
fn release_of_values_as_the_sweep_passes() -> Result<()> {
    let mut tape = Tape::new();
    let (y, weights) = layers(&mut tape, 8, 32)?;
    let everything = tape.bytes();
    tape.trim();
    let (matrix, activation) = (32 * 32 * 8, 64 * 32 * 8);
    // each layer has its weight, its product and its tanh; the derivative does not need the product
    assert_eq!(everything, activation + 8 * (matrix + 2 * activation));
    assert_eq!(tape.bytes(), activation + 8 * (matrix + activation));
    let mut kept = Vec::new();
    let seed = tensor(&[64, 32], 5);
    tape.sweep_with(&[y], &[seed], &weights, |ready| {
        kept.push((ready.input, ready.kept));
        Ok(())
    })?;
    for (passed, &(layer, bytes)) in kept.iter().enumerate() {
        assert_eq!(layer, 7 - passed, "the last layer is ready first");
        let left = 7 - passed;
        // the tanh of this layer and all after it are gone; its weight goes when the sweep is there
        assert_eq!(bytes, activation + left * activation + (left + 1) * matrix);
    }
    assert_eq!(kept.len(), 8);
    Ok(())
}

/// All inputs are recorded first and all are ready when the last that uses them was swept.
#[test]
fn ready_as_soon_as_complete_whatever_the_order_of_inputs() -> Result<()> {
    let mut tape = Tape::new();
    let [early, middle, late] =
        ["early", "middle", "late"].map(|name| tape.input(name, &tensor(&[3], 4)));
    let a = tape.sin(early)?;
    let b = tape.mul(a, middle)?;
    let c = tape.mul(b, late)?;
    // used twice: complete only when the earlier use was swept
    let d = tape.mul(c, middle)?;
    let mut order = Vec::new();
    let steps = tape.len();
    tape.sweep_with(
        &[d],
        &[tensor(&[3], 9)],
        &[early, middle, late, d],
        |ready| {
            order.push(ready.input);
            Ok(())
        },
    )?;
    assert_eq!(order, [3, 2, 1, 0]);
    assert_eq!(steps, 7);
    Ok(())
}

/// An error of the hook ends the sweep and comes out.
#[test]
fn ready_may_refuse() -> Result<()> {
    let mut tape = Tape::new();
    let x = tape.input("x", &tensor(&[3], 4));
    let y = tape.exp(x)?;
    let refusal = OperatorError::NoPath {
        input: "mine".to_owned(),
    };
    let found = tape.sweep_with(&[y], &[tensor(&[3], 9)], &[x], |_| Err(refusal.clone()));
    assert_eq!(found, Err(refusal));
    Ok(())
}

/// The same network with its layers in segments.
fn in_segments(tape: &mut Tape, segments: bool) -> Result<(Handle, Vec<Handle>)> {
    let x = tape.input("x", &tensor(&[64, 32], 1));
    let shared = tape.input("shared", &tensor(&[32], 11));
    let mut h = x;
    let mut wanted = vec![x, shared];
    for layer in 0..6 {
        let w = tape.input("w", &tensor(&[32, 32], 2 + layer).affine(0.2, 0.0)?);
        wanted.push(w);
        let block = |tape: &mut Tape, x: &[Handle]| {
            let &[h, w, shared] = x else {
                unreachable!("three inputs")
            };
            let product = tape.matmul(h, w)?;
            let shifted = tape.add(product, shared)?;
            let bent = tape.gelu(shifted)?;
            let gated = tape.mul(bent, shared)?;
            Ok(vec![tape.add(gated, h)?])
        };
        let inputs = [h, w, shared];
        h = match segments {
            true => tape.remake(&inputs, block)?[0],
            false => block(tape, &inputs)?[0],
        };
    }
    Ok((h, wanted))
}

/// Segments keep the values between them only; values and gradients have the same bits.
#[test]
fn remade_values_change_no_bit_and_keep_less() -> Result<()> {
    let run = |segments: bool| -> Result<(usize, Vec<Vec<u64>>)> {
        let mut tape = Tape::new();
        let (y, wanted) = in_segments(&mut tape, segments)?;
        let mut found = vec![tape.value(y)?.clone()];
        tape.trim();
        let bytes = tape.bytes();
        let g = tape.input("g", &tensor(&[64, 32], 21));
        for slope in tape.gradients(&[y], &[g], &wanted)? {
            found.push(tape.value(slope)?.clone());
        }
        let mut tape = Tape::new();
        let (y, wanted) = in_segments(&mut tape, segments)?;
        found.extend(tape.sweep(&[y], &[tensor(&[64, 32], 21)], &wanted)?);
        let bits = found
            .iter()
            .map(|t| flat(t).iter().map(|x| x.to_bits()).collect());
        Ok((bytes, bits.collect()))
    };
    let (all, plain) = run(false)?;
    let (between, remade) = run(true)?;
    assert!(plain == remade, "segments change bits");
    let (matrix, activation) = (32 * 32 * 8, 64 * 32 * 8);
    assert_eq!(between, 32 * 8 + 6 * matrix + 7 * activation);
    assert!(3 * between < 2 * all, "{between} of {all} bytes are kept");
    Ok(())
}

/// Second derivatives through segments are those without, but for the order of additions, and keep less too.
#[test]
fn remade_values_have_second_derivatives() -> Result<()> {
    let run = |segments: bool| -> Result<(usize, Vec<Tensor>)> {
        let mut tape = Tape::new();
        let (y, wanted) = in_segments(&mut tape, segments)?;
        let g = tape.input("g", &tensor(&[64, 32], 21));
        let slopes = tape.gradients(&[y], &[g], &wanted)?;
        tape.trim();
        let bytes = tape.bytes();
        let mut along = Vec::new();
        for (i, &s) in slopes.iter().enumerate() {
            along.push(tensor(tape.shape(s)?, 31 + i as u64));
        }
        let found = tape.sweep(&slopes, &along, &[&wanted[..], &[g]].concat())?;
        Ok((bytes, found))
    };
    let (all, plain) = run(false)?;
    let (between, remade) = run(true)?;
    for (a, b) in plain.iter().zip(&remade) {
        let apart = a.sub(b)?;
        assert!(dot(&apart, &apart) < 1e-24 * dot(a, a));
    }
    assert!(3 * between < all, "{between} of {all} bytes are kept");
    Ok(())
}

/// The same sweep twice has the same bits, with many cotangents that meet.
#[test]
fn remade_or_not_a_sweep_is_reproducible() -> Result<()> {
    let run = || -> Result<Vec<u64>> {
        let mut tape = Tape::new();
        let x = tape.input("x", &tensor(&[50], 3));
        let mut sum = tape.sin(x)?;
        for i in 0..40 {
            let scaled = tape.affine(x, 0.1 * f64::from(i), 0.3)?;
            let bent = tape.exp(scaled)?;
            sum = tape.add(sum, bent)?;
        }
        let found = tape.sweep(&[sum, x], &[tensor(&[50], 4), tensor(&[50], 5)], &[x])?;
        Ok(flat(&found[0]).iter().map(|x| x.to_bits()).collect())
    };
    assert_eq!(run()?, run()?);
    Ok(())
}

/// A gradient that nothing connects to an output is an error that names the input; where it may be absent,
/// it is absent.
#[test]
fn cut_paths_are_errors_that_name_the_input() -> Result<()> {
    let mut tape = Tape::new();
    let x = tape.input("positions", &tensor(&[3], 1));
    let unused = tape.input("charges", &tensor(&[3], 2));
    let mask = tape.above(unused, 0.0)?;
    let square = tape.sqr(x)?;
    let y = tape.choose(mask, square, x)?;
    let one = tape.ones_like(y)?;
    let refused = tape.gradients(&[y], &[one], &[x, unused]);
    let expected = OperatorError::NoPath {
        input: "charges".to_owned(),
    };
    assert_eq!(refused, Err(expected.clone()));
    assert!(expected.to_string().starts_with("charges has no gradient"));
    let found = tape.gradients_if_any(&[y], &[one], &[x, unused])?;
    assert!(found[0].is_some() && found[1].is_none());
    let mut came = 0;
    let seed = tensor(&[3], 3);
    let refused = tape.sweep_with(&[y], &[seed], &[x, unused], |_| {
        came += 1;
        Ok(())
    });
    assert_eq!((refused, came), (Err(expected), 0));
    Ok(())
}

/// An input that one result of a segment reads and the asked one does not, has no path.
#[test]
fn cut_paths_are_seen_through_segments() -> Result<()> {
    let mut tape = Tape::new();
    let [x, z] = [1, 2].map(|seed| tape.input(format!("x{seed}"), &tensor(&[3], seed)));
    let made = tape.remake(&[x, z], |tape, x| {
        Ok(vec![tape.sin(x[0])?, tape.mul(x[0], x[1])?])
    })?;
    let one = tape.ones_like(made[0])?;
    let refused = tape.gradients(&made[..1], &[one], &[x, z]);
    assert!(matches!(refused, Err(OperatorError::NoPath { input }) if input == "x2"));
    let found = tape.gradients(&made, &[one, one], &[z, x])?;
    assert_eq!(flat(tape.value(found[0])?), flat(tape.value(x)?));
    Ok(())
}

/// What does not fit is refused with what was given, and nothing panics.
#[test]
fn cut_short_is_no_operation_that_does_not_fit() -> Result<()> {
    let mut tape = Tape::new();
    let x = tape.input("x", &tensor(&[2, 3], 1));
    let y = tape.input("y", &tensor(&[4, 5], 1));
    let ids = ids(&mut tape, &[0, 2]);
    let single = tape.cast(x, DType::F32)?;
    let refused = [
        tape.add(x, y),
        tape.add(x, single),
        tape.matmul(x, y),
        tape.matmul(ids, x),
        tape.gather_rows(x, ids),
        tape.gather_rows(x, y),
        tape.segment_sum(y, ids, 3),
        tape.reshape(x, &[4]),
        tape.permute(x, &[0, 0]),
        tape.broadcast(x, &[3, 3]),
        tape.narrow(x, 1, 2, 2),
        tape.narrow(x, 4, 0, 1),
        tape.pad(x, 3, 1, 1),
        tape.concat(&[], 0),
        tape.concat(&[x, y], 0),
        tape.concat(&[x], 7),
        tape.sum(x, &[2]),
        tape.transpose(ids),
        tape.choose(x, x, x),
    ];
    for (i, refused) in refused.into_iter().enumerate() {
        assert!(
            matches!(refused, Err(OperatorError::Tensor { .. })),
            "case {i}: {refused:?}"
        );
    }
    let sum = tape.sum_all(x)?;
    assert!(
        tape.gradients(&[sum], &[x], &[x]).is_err(),
        "cotangent of another shape"
    );
    assert!(tape.gradients(&[sum], &[], &[x]).is_err(), "no cotangent");
    let mut other = Tape::new();
    assert!(other.exp(x).is_err(), "a handle of another tape");
    Ok(())
}

/// Pieces may be empty: a worker that has no rows.
#[test]
fn cut_to_nothing_is_still_swept() -> Result<()> {
    let mut tape = Tape::new();
    let x = tape.input("x", &tensor(&[0, 3], 1));
    let w = tape.input("w", &tensor(&[3, 2], 2));
    let none = ids(&mut tape, &[]);
    let product = tape.matmul(x, w)?;
    let shares = tape.softmax(product)?;
    let logs = tape.log_softmax(shares)?;
    let both = tape.concat(&[shares, logs], 1)?;
    let rows = tape.segment_sum(both, none, 4)?;
    let back = tape.gather_rows(rows, none)?;
    let sum = tape.sum_all(back)?;
    let found = tape.sweep(&[sum], &[Tensor::new(1.0, &Device::Cpu)?], &[w, x])?;
    assert_eq!(flat(&found[0]), [0.0; 6]);
    assert_eq!(found[1].dims(), [0, 3]);
    Ok(())
}

/// A chain of 100 000 operations is recorded, swept twice and let go on a stack of 2 MiB.
#[test]
fn long_chains_need_no_stack() {
    let run = || -> Result<f64> {
        let mut tape = Tape::new();
        let x = tape.input("x", &Tensor::new(&[0.5], &Device::Cpu)?);
        let mut y = tape.sqr(x)?;
        for _ in 0..50_000 {
            let scaled = tape.affine(y, 1.0 - 1e-3, 0.0)?;
            y = tape.add(scaled, x)?;
        }
        assert!(tape.len() > 100_000);
        let one = tape.ones_like(y)?;
        let slope = tape.gradients(&[y], &[one], &[x])?[0];
        let value = flat(tape.value(slope)?)[0];
        tape.sweep(&[slope], &[Tensor::new(&[1.0], &Device::Cpu)?], &[x])?;
        Ok(value)
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    let slope = thread.expect("a thread").join().expect("no overflow");
    // y ← 0.999 y + x from y = x² has the slope d ← 0.999 d + 1 from d = 2 x
    let expected = (0..50_000).fold(1.0, |d, _| (1.0 - 1e-3) * d + 1.0);
    assert!((slope.expect("a slope") - expected).abs() < 1e-9 * expected);
}
