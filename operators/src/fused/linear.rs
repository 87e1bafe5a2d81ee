//! Linear maps and gates on a tape.

use advect_engine::graph::Site;

use super::{OnTape, Result, exactly, remade, widened};
use crate::OperatorError;
use crate::gpu::{Known, Of};
use crate::local::{DType, Handle, Tape};
use crate::network::{Gated, Linear, Pointwise};

impl OnTape for Linear {
    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle> {
        let (&[x, w], shift) = inputs.split_at(inputs.len().min(2)) else {
            let why = format!("it takes 2 or 3 inputs, not {}", inputs.len());
            return Err(OperatorError::tensor("linear", why));
        };
        let (of_x, of_w) = (tape.shape(x)?.to_vec(), tape.shape(w)?.to_vec());
        let lead = &of_x[..of_x.len().saturating_sub(self.over)];
        let columns = match self.transposed {
            true => &of_w[..of_w.len().saturating_sub(self.over)],
            false => &of_w[self.over.min(of_w.len())..],
        };
        let k = of_x[lead.len()..].iter().product();
        let (rows, m) = (lead.iter().product(), columns.iter().product());
        let flows = tape.dtype(x)?;
        let x = tape.reshape(x, &[rows, k])?;
        let w = tape.cast(w, flows)?;
        let w = match self.transposed {
            true => {
                let w = tape.reshape(w, &[m, k])?;
                tape.transpose(w)?
            }
            false => tape.reshape(w, &[k, m])?,
        };
        let product = tape.matmul(x, w)?;
        let mut ended = vec![product];
        for &b in shift {
            ended.push(tape.reshape(b, &[m])?);
        }
        let then = self.then;
        let y = match (then, flows) {
            // the sum is kept in half the bytes
            (Some(function), DType::BF16) => {
                let known = Some(Known::Ended(number(function)));
                remade(tape, &ended, known, move |tape, ended| {
                    end(tape, ended, then)
                })?
            }
            _ => end(tape, &ended, then)?,
        };
        tape.reshape(y, &[lead, columns].concat())
    }
}

/// f(u + b) in the type of u, of which b and f may be absent.
fn end(tape: &mut Tape, ended: &[Handle], then: Option<Pointwise>) -> Result<Handle> {
    let Some(function) = then else {
        return tape.total(ended[0], &ended[1..]);
    };
    let flows = tape.dtype(ended[0])?;
    let mut y = widened(tape, ended[0])?;
    for &b in &ended[1..] {
        y = tape.add(y, b)?;
    }
    let y = of_each(tape, y, function)?;
    tape.cast(y, flows)
}

/// The function among those of kernels.
fn number(function: Pointwise) -> Of {
    match function {
        Pointwise::Sigmoid => Of::Sigmoid,
        Pointwise::Relu => Of::Relu,
        Pointwise::Tanh => Of::Tanh,
        Pointwise::Silu => Of::Silu,
        Pointwise::Gelu => Of::Gelu,
    }
}

fn of_each(tape: &mut Tape, x: Handle, function: Pointwise) -> Result<Handle> {
    match function {
        Pointwise::Sigmoid => tape.sigmoid(x),
        Pointwise::Relu => tape.relu(x),
        Pointwise::Tanh => tape.tanh(x),
        Pointwise::Silu => tape.silu(x),
        Pointwise::Gelu => tape.gelu(x),
    }
}

/// Of a gate the tape keeps a, b and what came out of it.
impl OnTape for Gated {
    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle> {
        let function = self.0;
        let known = Some(Known::Gated(number(function)));
        remade(tape, inputs, known, move |tape, inputs| {
            let [a, b] = exactly("gated", inputs)?;
            let flows = tape.dtype(a)?;
            let (a, b) = (widened(tape, a)?, widened(tape, b)?);
            let open = of_each(tape, a, function)?;
            let y = tape.mul(open, b)?;
            tape.cast(y, flows)
        })
    }
}
