//! What each operation does to a cotangent, in operations of the tape.
//!
//! For $y = f(x_0, x_1, \ldots)$ and the cotangent $\bar y$ it is $\bar x_i = (\partial f/\partial x_i)^\top
//! \bar y$. It reads only what [`Operation::needs_itself`] and [`Operation::needs_input`] name.

use super::operation::Operation;
use super::tape::{Handle, Tape};
use crate::OperatorError;

/// √(2/π)
const SLOPE: f64 = 0.797_884_560_802_865_4;
/// Hendrycks and Gimpel (2016).
const CUBIC: f64 = 0.044715;

impl Tape {
    /// The cotangent of input `i` of node `at` from that of the node, `g`.
    pub(super) fn cotangent(
        &mut self,
        at: Handle,
        i: usize,
        g: Handle,
    ) -> Result<Handle, OperatorError> {
        let node = self.node(at)?;
        let (operation, x) = (node.operation.clone(), node.inputs[i]);
        let other = node.inputs.get(1 - i.min(1)).copied().unwrap_or(x);
        match operation {
            Operation::Leaf(_) | Operation::Above(_) | Operation::Segment { .. } => {
                let why = format!("{} has no derivative of its own", self.name(at));
                Err(OperatorError::tensor(operation.name(), why))
            }
            Operation::Add => Ok(g),
            Operation::Subtract => match i {
                0 => Ok(g),
                _ => self.neg(g),
            },
            Operation::Multiply => self.mul(g, other),
            Operation::Divide => match i {
                0 => self.div(g, other),
                _ => {
                    let ratio = self.div(at, x)?;
                    let slope = self.neg(ratio)?;
                    self.mul(g, slope)
                }
            },
            Operation::Affine { scale, .. } => self.affine(g, scale, 0.0),
            Operation::MatMul => {
                let turned = self.transpose(other)?;
                match i {
                    0 => self.apply(Operation::MatMul, &[g, turned]),
                    _ => self.apply(Operation::MatMul, &[turned, g]),
                }
            }
            Operation::Exp => self.mul(g, at),
            Operation::Log => self.div(g, x),
            Operation::Sqrt => {
                let half = self.affine(g, 0.5, 0.0)?;
                self.div(half, at)
            }
            Operation::Recip => {
                let square = self.mul(at, at)?;
                let slope = self.neg(square)?;
                self.mul(g, slope)
            }
            // 0 and g for every x: at 0, x to the power of p - 1 is not finite
            Operation::Power(0.0) => self.zeros_like(g),
            Operation::Power(1.0) => Ok(g),
            Operation::Power(p) => {
                let less = self.powf(x, p - 1.0)?;
                let slope = self.affine(less, p, 0.0)?;
                self.mul(g, slope)
            }
            Operation::Sin => {
                let slope = self.cos(x)?;
                self.mul(g, slope)
            }
            Operation::Cos => {
                let sine = self.sin(x)?;
                let slope = self.neg(sine)?;
                self.mul(g, slope)
            }
            Operation::Tanh => {
                let square = self.mul(at, at)?;
                let slope = self.affine(square, -1.0, 1.0)?;
                self.mul(g, slope)
            }
            Operation::Sigmoid => {
                let rest = self.affine(at, -1.0, 1.0)?;
                let slope = self.mul(at, rest)?;
                self.mul(g, slope)
            }
            Operation::Relu => {
                let mask = self.above(at, 0.0)?;
                let zero = self.zeros_like(g)?;
                self.choose(mask, g, zero)
            }
            Operation::Silu => {
                let s = self.sigmoid(x)?;
                let rest = self.affine(s, -1.0, 1.0)?;
                let bend = self.mul(x, rest)?;
                let bend = self.affine(bend, 1.0, 1.0)?;
                let slope = self.mul(s, bend)?;
                self.mul(g, slope)
            }
            Operation::Gelu => {
                let slope = self.slope_of_gelu(x)?;
                self.mul(g, slope)
            }
            Operation::Softmax => {
                let weighted = self.mul(g, at)?;
                let mean = self.sum_of_last(weighted)?;
                let apart = self.sub(g, mean)?;
                self.mul(at, apart)
            }
            Operation::LogSoftmax => {
                let total = self.sum_of_last(g)?;
                let shares = self.exp(at)?;
                let back = self.mul(shares, total)?;
                self.sub(g, back)
            }
            Operation::Reshape(_) => {
                let shape = self.shape(x)?.to_vec();
                self.reshape(g, &shape)
            }
            Operation::Permute(dims) => {
                let mut back = vec![0; dims.len()];
                for (to, &from) in dims.iter().enumerate() {
                    back[from] = to;
                }
                self.permute(g, &back)
            }
            Operation::Broadcast(_) => {
                let shape = self.shape(x)?.to_vec();
                self.sum_to(g, &shape)
            }
            Operation::Narrow { dim, start, len } => {
                let after = self.shape(x)?[dim] - start - len;
                self.pad(g, dim, start, after)
            }
            Operation::Pad { dim, before, .. } => {
                let len = self.shape(x)?[dim];
                self.narrow(g, dim, before, len)
            }
            Operation::Concat { dim } => {
                let mut start = 0;
                for &earlier in &self.node(at)?.inputs[..i] {
                    start += self.shape(earlier)?[dim];
                }
                let len = self.shape(x)?[dim];
                self.narrow(g, dim, start, len)
            }
            Operation::Sum(_) => {
                let shape = self.shape(x)?.to_vec();
                self.broadcast(g, &shape)
            }
            Operation::Total => self.of_term(g, x),
            Operation::Columns(_) => {
                let (shape, dtype) = (self.shape(x)?.to_vec(), self.dtype(x)?);
                let whole = self.broadcast(g, &shape)?;
                self.cast(whole, dtype)
            }
            Operation::Cast(_) => {
                let dtype = self.dtype(x)?;
                self.cast(g, dtype)
            }
            Operation::Gather => {
                let rows = self.shape(x)?[0];
                self.segment_sum(g, other, rows)
            }
            Operation::SegmentSum { .. } => self.gather_rows(g, other),
            Operation::Choose => {
                let mask = self.node(at)?.inputs[0];
                let zero = self.zeros_like(g)?;
                match i {
                    1 => self.choose(mask, g, zero),
                    _ => self.choose(mask, zero, g),
                }
            }
        }
    }

    /// $\tfrac12 (1 + t) + \tfrac12 x (1 - t^2) u'$ with $t = \tanh u$, $u = \sqrt{2/\pi}\,(x + 0.044715\,x^3)$.
    fn slope_of_gelu(&mut self, x: Handle) -> Result<Handle, OperatorError> {
        let square = self.mul(x, x)?;
        let stretch = self.affine(square, SLOPE * CUBIC, SLOPE)?;
        let u = self.mul(x, stretch)?;
        let t = self.tanh(u)?;
        let step = self.affine(t, 0.5, 0.5)?;
        let t_square = self.mul(t, t)?;
        let rest = self.affine(t_square, -0.5, 0.5)?;
        let inner = self.affine(square, 3.0 * SLOPE * CUBIC, SLOPE)?;
        let bend = self.mul(x, rest)?;
        let bend = self.mul(bend, inner)?;
        self.add(step, bend)
    }

    /// The cotangent of a term from that of the total.
    fn of_term(&mut self, g: Handle, term: Handle) -> Result<Handle, OperatorError> {
        let (shape, dtype) = (self.shape(term)?.to_vec(), self.dtype(term)?);
        let flows = self.dtype(g)?;
        if self.shape(g)? == shape || dtype == flows {
            let whole = self.cast(g, dtype)?;
            return self.sum_to(whole, &shape);
        }
        let sums = self.apply(Operation::Columns(shape.into()), &[g])?;
        self.cast(sums, dtype)
    }

    fn sum_of_last(&mut self, x: Handle) -> Result<Handle, OperatorError> {
        let last = self.shape(x)?.len() - 1;
        self.sum_keepdim(x, &[last])
    }
}
