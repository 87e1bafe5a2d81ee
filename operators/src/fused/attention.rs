//! Attention and rotary positions on a tape.
//!
//! Queries are taken in blocks, each of which is a segment that is made again on the way back: of scores, which are
//! queries × keys, there are those of one block at a time, and the tape keeps q, k, v and y only. A block of causal
//! attention reads no key behind its last query. Source: Rabe and Staats (2021), *Self-attention does not need
//! O(n²) memory*.

use advect_engine::graph::Site;

use super::{OnTape, Result, exactly, remade, widened};
use crate::OperatorError;
use crate::attention::{Attention, Rotary};
use crate::gpu::{Known, kernel};
use crate::local::{DType, Handle, Tape, Tensor, wide};

/// Queries that are taken at once.
const QUERIES: usize = 128;
/// What is added to the score of a key that is not seen: its weight is then 0, and no number is infinite.
const UNSEEN: f64 = -1e30;

impl OnTape for Attention {
    fn record(&self, site: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle> {
        let attention = *self;
        let positions = site.input_indices(0).swap_remove(1);
        // of queries that follow each other
        let first = positions.first().copied().unwrap_or(0);
        let follow = positions.iter().enumerate().all(|(i, &p)| p == first + i);
        let known = Known::Attention {
            causal: self.causal,
            first,
        };
        let kernel = kernel(known).filter(|_| follow && !self.bounded);
        let Some(kernel) = tape.taken(inputs, kernel)? else {
            return blocks(attention, &positions, tape, inputs, Some(QUERIES));
        };
        let made = tape.remake_by(inputs, kernel, move |tape, inputs| {
            let y = blocks(attention, &positions, tape, inputs, Some(QUERIES))?;
            Ok(vec![y])
        })?;
        let [y] = exactly("attention", &made)?;
        Ok(y)
    }
}

/// Attention in blocks of so many queries that are made again; or all at once, with all scores and weights kept.
pub(crate) fn by_blocks(
    attention: Attention,
    site: &Site,
    tape: &mut Tape,
    inputs: &[Handle],
    most: Option<usize>,
) -> Result<Handle> {
    let positions = site.input_indices(0).swap_remove(1);
    blocks(attention, &positions, tape, inputs, most)
}

/// The same of queries at these positions.
fn blocks(
    attention: Attention,
    positions: &[usize],
    tape: &mut Tape,
    inputs: &[Handle],
    most: Option<usize>,
) -> Result<Handle> {
    let (q, kv, bounds) = match attention.bounded {
        false => {
            let [q, kv] = exactly("attention", inputs)?;
            (q, kv, None)
        }
        true => {
            let [q, kv, bounds] = exactly("attention", inputs)?;
            (q, kv, Some(bounds))
        }
    };
    let (&[b, n, ..], &[_, t, ..]) = (tape.shape(q)?, tape.shape(kv)?) else {
        let why = "q is [b, n, g, r, d], keys with values are [b, t, 2, g, d]".to_owned();
        return Err(OperatorError::tensor("attention", why));
    };
    if tape.value(q)?.elem_count() == 0 || tape.value(kv)?.elem_count() == 0 {
        return nothing(tape, q, kv);
    }
    let (dtype, device) = (wide(tape.dtype(q)?), tape.device(q)?.clone());
    let row = |numbers: Vec<f64>| Tensor::new(numbers, &device)?.to_dtype(dtype);
    let queries = row(positions.iter().map(|&p| p as f64).collect())?.reshape((n, 1))?;
    let keys = row((0..t).map(|j| j as f64).collect())?.reshape((1, t))?;
    let (k, v) = (half(tape, kv, 0)?, half(tape, kv, 1)?);
    let bounds = match bounds {
        Some(bounds) => {
            let bounds = tape.cast(bounds, dtype)?;
            Some(tape.reshape(bounds, &[b, 1, 1, n, 2])?)
        }
        None => None,
    };
    let mut blocks = Vec::new();
    for first in (0..n).step_by(most.unwrap_or(n).max(1)) {
        let len = most.unwrap_or(n).min(n - first);
        let seen = match attention.causal {
            true => t.min(positions[first + len - 1] + 1),
            false => t,
        };
        let sight = Sight {
            queries: match attention.causal && positions[first] + 1 < seen {
                true => Some(queries.narrow(0, first, len)?),
                false => None,
            },
            keys: keys.narrow(1, 0, seen)?,
        };
        let mut inputs = vec![tape.narrow(q, 1, first, len)?, k, v];
        if let Some(bounds) = bounds {
            inputs.push(tape.narrow(bounds, 3, first, len)?);
        }
        blocks.push(match most {
            Some(_) => remade(tape, &inputs, None, move |tape, inputs| {
                attend(tape, inputs, &sight)
            })?,
            None => attend(tape, &inputs, &sight)?,
        });
    }
    match blocks[..] {
        [only] => Ok(only),
        _ => tape.concat(&blocks, 1),
    }
}

/// Which keys the queries of a block see.
struct Sight {
    /// Positions of the queries `[n, 1]`, if some of the keys are behind some of them.
    queries: Option<Tensor>,
    /// Positions of the keys `[1, seen]`: more are not seen by any.
    keys: Tensor,
}

impl Sight {
    /// How often a key is hidden from a query, `[…, n, seen]`; `None` if all are seen.
    fn hidden(&self, tape: &mut Tape, bounds: Option<Handle>) -> Result<Option<Handle>> {
        let keys = tape.constant(&self.keys);
        let mut hidden = match &self.queries {
            Some(queries) => {
                let queries = tape.constant(queries);
                Some(beyond(tape, keys, queries, 0.5)?)
            }
            None => None,
        };
        if let Some(bounds) = bounds {
            let (first, end) = (tape.narrow(bounds, 4, 0, 1)?, tape.narrow(bounds, 4, 1, 1)?);
            let before = beyond(tape, first, keys, 0.5)?;
            let after = beyond(tape, keys, end, -0.5)?;
            let outside = tape.add(before, after)?;
            hidden = Some(match hidden {
                Some(behind) => tape.add(outside, behind)?,
                None => outside,
            });
        }
        Ok(hidden)
    }
}

/// 1 where a − b > by, else 0.
fn beyond(tape: &mut Tape, a: Handle, b: Handle, by: f64) -> Result<Handle> {
    let apart = tape.sub(a, b)?;
    let (mask, dtype) = (tape.above(apart, by)?, tape.dtype(apart)?);
    tape.cast(mask, dtype)
}

/// Keys (0) or values (1) `[b, g, t, d]` of both `[b, t, 2, g, d]`.
fn half(tape: &mut Tape, kv: Handle, which: usize) -> Result<Handle> {
    let of = tape.shape(kv)?.to_vec();
    let one = tape.narrow(kv, 2, which, 1)?;
    let one = tape.reshape(one, &[of[0], of[1], of[3], of[4]])?;
    tape.permute(one, &[0, 2, 1, 3])
}

/// 0 where there is no query, or no key.
fn nothing(tape: &mut Tape, q: Handle, kv: Handle) -> Result<Handle> {
    let sum = tape.sum_all(kv)?;
    let y = tape.affine(q, 0.0, 0.0)?;
    let zero = tape.affine(sum, 0.0, 0.0)?;
    tape.add(y, zero)
}

/// One block: queries `[b, n, g, r, d]`, keys and values `[b, g, t, d]`, and bounds `[b, 1, 1, n, 2]`, if there are
/// any.
fn attend(tape: &mut Tape, inputs: &[Handle], sight: &Sight) -> Result<Handle> {
    let (&[q, k, v], bounds) = inputs.split_at(inputs.len().min(3)) else {
        let why = format!("a block has {} inputs", inputs.len());
        return Err(OperatorError::tensor("attention", why));
    };
    let (flows, of) = (tape.dtype(q)?, tape.shape(q)?.to_vec());
    let &[b, n, g, r, d] = &of[..] else {
        let why = format!("{of:?} is not [b, n, g, r, d]");
        return Err(OperatorError::tensor("attention", why));
    };
    let seen = sight.keys.elem_count();
    let q = tape.permute(q, &[0, 2, 3, 1, 4])?;
    let q = tape.reshape(q, &[b, g, r * n, d])?;
    let (k, v) = (tape.narrow(k, 2, 0, seen)?, tape.narrow(v, 2, 0, seen)?);
    let turned = tape.transpose(k)?;
    let scores = tape.matmul(q, turned)?;
    let scores = widened(tape, scores)?;
    let scores = tape.affine(scores, 1.0 / (d as f64).sqrt(), 0.0)?;
    let mut scores = tape.reshape(scores, &[b, g, r, n, seen])?;
    let hidden = sight.hidden(tape, bounds.first().copied())?;
    if let Some(hidden) = hidden {
        let unseen = tape.affine(hidden, UNSEEN, 0.0)?;
        scores = tape.add(scores, unseen)?;
    }
    let mut weights = tape.softmax(scores)?;
    if let (Some(hidden), false) = (hidden, bounds.is_empty()) {
        // of a query that sees no key all weights are 0
        let hidden = tape.above(hidden, 0.5)?;
        let hidden = tape.cast(hidden, wide(flows))?;
        let shown = tape.affine(hidden, -1.0, 1.0)?;
        weights = tape.mul(weights, shown)?;
    }
    let weights = tape.cast(weights, flows)?;
    let weights = tape.reshape(weights, &[b, g, r * n, seen])?;
    let y = tape.matmul(weights, v)?;
    let y = tape.reshape(y, &[b, g, r, n, d])?;
    tape.permute(y, &[0, 3, 1, 2, 4])
}

impl OnTape for Rotary {
    fn record(&self, site: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle> {
        let [x] = exactly("rotary", inputs)?;
        let of = tape.shape(x)?.to_vec();
        let d = of.last().copied().unwrap_or(0);
        if tape.value(x)?.elem_count() == 0 {
            return Ok(x);
        }
        let positions = site.input_indices(0).swap_remove(1);
        let angle = |i: usize| self.base.powf(-2.0 * i as f64 / d as f64);
        let angles: Vec<f64> = (0..d / 2).map(angle).collect();
        let turns = positions.iter();
        let turns = turns.flat_map(|&p| angles.iter().map(move |a| p as f64 * a));
        // [positions, 1, …, pairs], beside x
        let mut shape = vec![1; of.len() - 1];
        (shape[0], shape[of.len() - 2]) = (positions.len(), d / 2);
        let (dtype, device) = (wide(tape.dtype(x)?), tape.device(x)?.clone());
        let table = |of: fn(f64) -> f64, turns: &[f64]| -> candle_core::Result<Tensor> {
            let numbers: Vec<f64> = turns.iter().map(|&a| of(a)).collect();
            Tensor::from_vec(numbers, &*shape, &device)?.to_dtype(dtype)
        };
        let turns: Vec<f64> = turns.collect();
        let turn = [table(f64::cos, &turns)?, table(f64::sin, &turns)?];
        let with_values = self.with_values;
        remade(tape, &[x], None, move |tape, inputs| {
            let [x] = exactly("rotary", inputs)?;
            if !with_values {
                return turned(tape, x, &turn);
            }
            let (keys, values) = (tape.narrow(x, 2, 0, 1)?, tape.narrow(x, 2, 1, 1)?);
            let keys = turned(tape, keys, &turn)?;
            tape.concat(&[keys, values], 2)
        })
    }
}

/// Pairs of columns turned by angles of which cosines and sines are given.
fn turned(tape: &mut Tape, x: Handle, turn: &[Tensor; 2]) -> Result<Handle> {
    let flows: DType = tape.dtype(x)?;
    let x = widened(tape, x)?;
    let of = tape.shape(x)?;
    let (last, pairs) = (of.len() - 1, of.last().copied().unwrap_or(0) / 2);
    let a = tape.narrow(x, last, 0, pairs)?;
    let b = tape.narrow(x, last, pairs, pairs)?;
    let [cosines, sines] = [0, 1].map(|i| tape.constant(&turn[i]));
    let (along, across) = (tape.mul(a, cosines)?, tape.mul(b, sines)?);
    let first = tape.sub(along, across)?;
    let (along, across) = (tape.mul(b, cosines)?, tape.mul(a, sines)?);
    let second = tape.add(along, across)?;
    let y = tape.concat(&[first, second], last)?;
    tape.cast(y, flows)
}
