//! Memory as DeepSpeed stores it.
//!
//! With N parameters a rank, ZeRO-1 over d replicas and half precision, DeepSpeed rests at $2N +
//! 14N/d$ bytes and peaks at $4N + 12N/d + n (2sbh\,l + 2sbh/t) + W$: n moments in flight, l
//! layers, and a working set W of what is alive only inside a pass. The formula gives the public
//! log of 175B on 128 GCDs to the rounding of the log. Layers that are not recomputed hold $sbh(10
//! + 24/t + 5as/ht)$: Korthikanti et al. (2022).

use super::{Memory, Working, between, columns, cut, keys, layers, residual, share};
use crate::planner::model::Gpt;
use crate::planner::run::{Recompute, Run};
use crate::planner::simulate::Limit;

/// Numbers of one bucket in which gradients are reduced, the default.
const BUCKET: u64 = 500_000_000;

pub(super) fn stage(gpt: &Gpt, run: &Run, i: usize, m: usize) -> Memory {
    let e = run.precision.bytes();
    // a tied table is stored at both ends
    let n = gpt.parameters(run.rank(gpt, i), run.axes.tensor, true);
    let state = match e {
        // a single-precision copy and both moments; ZeRO-2 and 3 also hold gradients in single
        // precision
        2 => 12 + if run.sharding() >= 2 { 4 } else { 0 },
        _ => 2 * e,
    };
    let gradients = e * share(run, 2, n);
    // what stages send is cut over the tensor ranks, and kept beside the gathered copy
    let sent = match run.axes.pipeline {
        1 => 0,
        _ => run.tokens(gpt) as u64 * gpt.width as u64 * e / run.axes.tensor as u64,
    };
    Memory {
        stage: i,
        parameters: n,
        weights: e * share(run, 3, n),
        gradients,
        waiting: 0,
        early: gradients,
        growing: 0,
        averaged: e * share(run, 1, n),
        optimizer: state * share(run, 1, n),
        moments: Limit::of(run.schedule, run.axes.pipeline, i, m).held,
        // scores of a long sequence that are kept may be more than can be counted
        moment: (layers(gpt, run, i).saturating_mul(between(gpt, run, kept(gpt, run))))
            .saturating_add(sent),
        working: working(gpt, run, i),
        bucket: match run.sharding() {
            0 => 0,
            _ => e * BUCKET.min(n),
        },
    }
}

/// What one layer keeps for its backward if nothing is recomputed, bytes: inputs of both norms and what they
/// give, masks of dropout, and what tensor ranks cut.
pub(super) fn kept(gpt: &Gpt, run: &Run) -> u64 {
    let e = run.precision.bytes();
    let stream = 4 * residual(gpt, run) + 2 * residual(gpt, run) / e;
    stream.saturating_add(columns(gpt, run, 2 * e + 1))
}

/// An estimate of W. On the public log it is 708 of the measured 1010 MiB, 1 % of the peak.
fn working(gpt: &Gpt, run: &Run, i: usize) -> Working {
    let e = run.precision.bytes();
    let tokens = run.tokens(gpt) as u64;
    let [qkv, ff] = cut(gpt, run);
    let inside = 4 * residual(gpt, run) + e * tokens * (qkv + ff);
    let again = match run.recompute {
        Recompute::Full => kept(gpt, run),
        Recompute::None => 0,
    };
    let mut gathered = keys(gpt, run);
    if run.sequence && run.axes.tensor > 1 {
        gathered += e * tokens * gpt.width as u64;
    }
    if run.sharding() == 3 {
        // the layer in work, the one that comes next, and the gradient of the first
        gathered += 3 * e * gpt.layer(run.axes.tensor);
    }
    let columns = gpt.vocabulary.div_ceil(run.axes.tensor) as u64;
    let each = if e == 2 { e + 4 + e } else { 3 * e };
    Working {
        layer: again.saturating_add(inside),
        head: match i + 1 == run.axes.pipeline {
            true => each * tokens * columns,
            false => 0,
        },
        gathered,
    }
}
