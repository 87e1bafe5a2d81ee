//! Memory as this program stores it, which a counting allocator measures (`tests/tests/memory.rs`).
//!
//! Every worker stores its pieces of parameters, of their gradients and of both moments, and gathers what it
//! uses of them. While micro-batches are summed, the gradients of one of them wait for their place in the
//! sum, whose order is fixed: all of them where a worker goes through its layers without a message, and those
//! of one operator where messages between workers give sums their turn.
//!
//! A pass holds most at the loss, in the last feed-forward block, or, where context ranks fetch keys and values, in
//! the attention before it ([`attend`]).

use super::attend::{attend, fetched};
use super::{Memory, Working, between, columns, layers, residual, share, table};
use crate::planner::model::Gpt;
use crate::planner::run::{Recompute, Run};
use crate::planner::simulate::Limit;

pub(super) fn stage(gpt: &Gpt, run: &Run, i: usize, m: usize) -> Memory {
    let e = run.precision.learned();
    let n = parameters(gpt, run, i);
    let gradients = e * share(run, 2, n);
    // both uses of a tied table have their part of its gradient, one of them on another stage if there are any
    let twice = match gpt.tied && run.rank(gpt, i).first {
        true => e * table(gpt, run),
        false => 0,
    };
    let exchanges = run.axes.tensor > 1 || run.axes.context > 1;
    let sum = if m > 1 { gradients } else { 0 };
    let waiting = match (m > 1, run.sharding()) {
        // those of an operator leave while the next works
        (true, 2) => twice,
        (true, 3) => e * (gpt.width * gpt.hidden.div_ceil(run.axes.tensor)) as u64,
        // chunks that go around make theirs at different times, and have one message more
        (_, _) if run.stages() > run.axes.pipeline => residual(gpt, run),
        // those of the second begin while the first are the sum
        (true, _) if !exchanges => twice + if m > 2 { gradients } else { 0 },
        _ => 0,
    };
    let (layers, layer) = (layers(gpt, run, i), between(gpt, run, kept(gpt, run)));
    // gradients that are not added to a sum at once take the place of what layers had kept
    let growing = match m > 1 && (exchanges || run.sharding() >= 2) {
        true => 0,
        false => {
            let gained = e * share(run, 2, gpt.layer(run.axes.tensor));
            let gained = (layers.saturating_sub(1)).saturating_mul(gained.saturating_sub(layer));
            // the output of the function of the last block has been let go; of what is recomputed one end is there
            // anyhow, and between halves so is that output, widened
            let f = gpt.hidden.div_ceil(run.axes.tensor) as u64;
            let output = run.precision.bytes() * run.tokens(gpt) as u64 * f;
            gained.saturating_sub(match run.recompute {
                Recompute::None => output,
                Recompute::Full if run.precision.bytes() < e => output + residual(gpt, run),
                Recompute::Full => residual(gpt, run),
            })
        }
    };
    Memory {
        stage: i,
        parameters: n,
        weights: e * share(run, 1, n),
        gradients,
        waiting,
        early: sum + waiting,
        growing,
        // a run lets go of them with the step
        averaged: 0,
        optimizer: 2 * e * share(run, 1, n),
        moments: Limit::of(run.schedule, run.axes.pipeline, i, m).held,
        moment: layers.saturating_mul(layer),
        working: working(gpt, run, i),
        bucket: 0,
    }
}

/// Whether a rank uses the table of another as its head.
fn borrows(gpt: &Gpt, run: &Run, i: usize) -> bool {
    let ends = run.rank(gpt, i);
    gpt.tied && ends.last && !ends.first
}

/// Parameters that rank `i` stores and has gradients of: a tied table is stored at the first, which sends the
/// last a copy for every step; of the positions, those of the worker.
fn parameters(gpt: &Gpt, run: &Run, i: usize) -> u64 {
    let part = run.rank(gpt, i);
    let all = gpt.parameters(part, run.axes.tensor, false);
    let borrowed = match borrows(gpt, run, i) {
        true => table(gpt, run),
        false => 0,
    };
    let positions = match part.first {
        true => (gpt.sequence * gpt.width) as u64,
        false => 0,
    };
    let others = positions - positions.div_ceil(run.pieces_of_positions() as u64);
    all - borrowed - others
}

/// What one layer keeps for its backward if nothing is recomputed, bytes: inputs of both norms and, gathered
/// where positions are cut, what they give; mean and deviation of their rows; the logarithm of the sum of
/// each head; and what tensor ranks cut.
fn kept(gpt: &Gpt, run: &Run) -> u64 {
    // statistics of rows are in single precision beside halves
    let e = run.precision.learned();
    let gathered = if run.sequence { run.axes.tensor } else { 1 } as u64;
    let stream = residual(gpt, run);
    let rows = stream / (run.precision.bytes() * gpt.width as u64);
    let heads = gpt.heads.div_ceil(run.axes.tensor) as u64;
    let bytes = 2 * stream + 2 * gathered * stream;
    let bytes = bytes + e * (4 * rows + run.tokens(gpt) as u64 * heads);
    let bytes = bytes.saturating_add(fetched(gpt, run));
    bytes.saturating_add(columns(gpt, run, run.precision.bytes()))
}

/// What is alive only inside of a pass: either the cotangents around the first map of the last feed-forward
/// block, whose output is let go, and the gradients of its weights and of the head; or logits and their
/// cotangent, the last norm, and what rows are scaled by.
fn working(gpt: &Gpt, run: &Run, i: usize) -> Working {
    let (flows, e) = (run.precision.bytes(), run.precision.learned());
    let tokens = run.tokens(gpt) as u64;
    let (h, stream) = (gpt.width as u64, residual(gpt, run));
    let f = gpt.hidden.div_ceil(run.axes.tensor) as u64;
    let v = gpt.vocabulary.div_ceil(run.axes.tensor) as u64;
    let again = match run.recompute {
        Recompute::Full => kept(gpt, run),
        Recompute::None => 0,
    };
    let last = i + 1 == run.axes.pipeline;
    let begun = 2 * h * f + f + if last { table(gpt, run) } else { 0 };
    // between halves, operators widen what they work on: of a map with a function x, its cotangent, weights, both
    // sides of the function and what comes back; of a loss the logits and what comes back
    let [wide, wide_head] = match flows < e {
        true => [
            e * (h * f + 3 * tokens * f) + 3 * stream,
            3 * flows * tokens * v,
        ],
        false => [0, 0],
    };
    let layer = again.saturating_add(2 * stream + flows * tokens * f + e * begun + wide);
    let head = match last {
        true => tokens * (2 * flows * v + 5 * e) + 2 * stream + wide_head,
        false => 0,
    };
    let mut gathered = 0;
    if run.sequence {
        gathered += stream;
    }
    gathered += match run.sharding() {
        1 | 2 => e * parameters(gpt, run, i),
        // the largest that is used
        3 => e * (h * f).max(if head > layer { table(gpt, run) } else { 0 }),
        _ => 0,
    };
    if borrows(gpt, run, i) {
        // and its gradient, on the way to where it is stored
        let copies = if run.sharding() == 0 { 2 } else { 1 };
        gathered += copies * e * table(gpt, run);
    }
    // of the block after it, what attention goes back through finds gradients and not what was kept
    let after = e * (begun + gpt.width as u64 + output(gpt, run));
    let attend = again.saturating_add(after + attend(gpt, run));
    let layer = layer.max(attend.saturating_sub(kept_after(gpt, run)));
    // the head is done before a layer begins
    match head > layer {
        true => Working {
            layer: 0,
            head,
            gathered,
        },
        false => Working {
            layer,
            head: 0,
            gathered,
        },
    }
}

/// Numbers of the map from heads to the residual stream.
fn output(gpt: &Gpt, run: &Run) -> u64 {
    let [q, _] = gpt.columns(run.axes.tensor);
    (q * gpt.width + gpt.width) as u64
}

/// What the feed-forward block of a layer keeps, bytes.
fn kept_after(gpt: &Gpt, run: &Run) -> u64 {
    let gathered = if run.sequence { run.axes.tensor } else { 1 } as u64;
    let (stream, bytes) = (residual(gpt, run), run.precision.bytes());
    let rows = stream / (bytes * gpt.width as u64);
    let f = 2 * gpt.hidden.div_ceil(run.axes.tensor) as u64;
    (1 + gathered) * stream
        + 2 * run.precision.learned() * rows
        + bytes * run.tokens(gpt) as u64 * f
}
