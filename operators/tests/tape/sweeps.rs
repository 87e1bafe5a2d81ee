//! What a sweep lets go and gives, and when.

use advect_operators::OperatorError;
use advect_operators::local::{Handle, Tape, Tensor};

use crate::{Result, device, flat, tensor};

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

/// The same sweep twice has the same bits, with many cotangents that meet.
#[test]
fn sweeps_are_reproducible() -> Result<()> {
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

/// A chain of 100 000 operations is recorded, swept twice and let go on a stack of 2 MiB.
#[test]
fn long_chains_need_no_stack() {
    let run = || -> Result<f64> {
        let mut tape = Tape::new();
        let x = tape.input("x", &Tensor::new(&[0.5], &device())?);
        let mut y = tape.sqr(x)?;
        for _ in 0..50_000 {
            let scaled = tape.affine(y, 1.0 - 1e-3, 0.0)?;
            y = tape.add(scaled, x)?;
        }
        assert!(tape.len() > 100_000);
        let one = tape.ones_like(y)?;
        let slope = tape.gradients(&[y], &[one], &[x])?[0];
        let value = flat(tape.value(slope)?)[0];
        tape.sweep(&[slope], &[Tensor::new(&[1.0], &device())?], &[x])?;
        Ok(value)
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    let slope = thread.expect("a thread").join().expect("no overflow");
    // y ← 0.999 y + x from y = x² has the slope d ← 0.999 d + 1 from d = 2 x
    let expected = (0..50_000).fold(1.0, |d, _| (1.0 - 1e-3) * d + 1.0);
    assert!((slope.expect("a slope") - expected).abs() < 1e-9 * expected);
}

/// Whole powers have all their derivatives at 0, also those that are 0.
#[test]
fn powers_have_derivatives_at_zero() -> Result<()> {
    for (p, at_two) in [
        (1.0, [1.0, 0.0, 0.0]),
        (2.0, [4.0, 2.0, 0.0]),
        (3.0, [12.0, 12.0, 6.0]),
    ] {
        let at_zero = [
            f64::from(p == 1.0),
            2.0 * f64::from(p == 2.0),
            6.0 * f64::from(p == 3.0),
        ];
        let mut tape = Tape::new();
        let x = tape.input("x", &Tensor::new(&[0.0, 2.0], &device())?);
        let mut y = tape.powf(x, p)?;
        for order in 0..3 {
            let one = tape.ones_like(y)?;
            let Some(slope) = tape.gradients_if_any(&[y], &[one], &[x])?[0] else {
                assert_eq!([at_zero[order], at_two[order]], [0.0, 0.0], "{p}, {order}");
                break;
            };
            y = slope;
            assert_eq!(
                flat(tape.value(y)?),
                [at_zero[order], at_two[order]],
                "{p}, {order}"
            );
        }
    }
    Ok(())
}
