//! Norms on a tape. Of a norm the tape keeps x and what came out of it.

use advect_engine::graph::Site;

use super::{OnTape, Result, exactly, remade, widened};
use crate::gpu::Known;
use crate::local::{Handle, Tape};
use crate::network::{LayerNorm, RmsNorm};

impl OnTape for LayerNorm {
    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle> {
        let epsilon = self.epsilon;
        let known = Known::Norm {
            epsilon,
            rms: false,
        };
        remade(tape, inputs, Some(known), move |tape, inputs| {
            let [x, gain, shift] = exactly("layer norm", inputs)?;
            let flows = tape.dtype(x)?;
            let x = widened(tape, x)?;
            let mean = mean_of_last(tape, x, 0.0)?;
            let centred = tape.sub(x, mean)?;
            let hat = by_root_mean_square(tape, centred, epsilon)?;
            let y = tape.mul(hat, gain)?;
            let y = tape.add(y, shift)?;
            tape.cast(y, flows)
        })
    }
}

impl OnTape for RmsNorm {
    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle> {
        let epsilon = self.epsilon;
        let known = Known::Norm { epsilon, rms: true };
        remade(tape, inputs, Some(known), move |tape, inputs| {
            let [x, gain] = exactly("rms norm", inputs)?;
            let flows = tape.dtype(x)?;
            let x = widened(tape, x)?;
            let hat = by_root_mean_square(tape, x, epsilon)?;
            let y = tape.mul(hat, gain)?;
            tape.cast(y, flows)
        })
    }
}

/// $x / \sqrt{\overline{x^2} + \epsilon}$ over the last dimension.
fn by_root_mean_square(tape: &mut Tape, x: Handle, epsilon: f64) -> Result<Handle> {
    let square = tape.sqr(x)?;
    let mean = mean_of_last(tape, square, epsilon)?;
    let root = tape.sqrt(mean)?;
    tape.div(x, root)
}

/// The mean over the last dimension, which stays with extent 1, plus a number.
fn mean_of_last(tape: &mut Tape, x: Handle, plus: f64) -> Result<Handle> {
    let shape = tape.shape(x)?;
    let last = shape.len().saturating_sub(1);
    let n = shape.last().copied().unwrap_or(1).max(1);
    let sum = tape.sum_keepdim(x, &[last])?;
    tape.affine(sum, 1.0 / n as f64, plus)
}
