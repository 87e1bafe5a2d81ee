//! Segments whose inner values are made again.

use advect_operators::local::{Handle, Tape, Tensor};

use crate::{Result, dot, flat, tensor};

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
    // x and what leaves the segments, but for the last, which nothing more is computed from
    assert_eq!(between, 32 * 8 + 6 * matrix + 6 * activation);
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
