//! Rings of eight devices against attention that sends nothing: Zhu (2024), *ring-flash-attention*, forward and
//! backward on eight H800.
//!
//! A layer of five heads of 128 and so many positions that all but attention vanishes. What a ring loses beside waits
//! (merges of partials, kernels of half a block) is in no term.

use super::{Check, Claim};
use crate::planner::error::Result;
use crate::planner::machine::Machine;
use crate::planner::model::Gpt;
use crate::planner::recipes::scripted;
use crate::planner::run::{Keys, Policy, Precision, Recompute, Run};
use crate::planner::time::estimate;

const DEVICES: usize = 8;

pub(super) fn checks() -> Result<Vec<Check>> {
    let machine = Machine::built_in("dgx-h100")?;
    let gpt = Gpt::plain(1, 640, 5, 1 << 20, 256);
    let run = |context, keys| {
        let mut run = Run {
            precision: Precision::Bf16,
            recompute: Recompute::None,
            policy: Policy::Advect,
            keys,
            ..scripted(1, 1, 1, 0, 1)
        };
        run.axes.context = context;
        run
    };
    let alone = estimate(&machine, &gpt, &run(1, Keys::GATHER))?.step;
    let part = |keys| -> Result<f64> {
        Ok(alone / DEVICES as f64 / estimate(&machine, &gpt, &run(DEVICES, keys))?.step)
    };
    let each = |what: &str, got, want, claim| {
        Check::new(format!("8 devices around: {what}"), "", [got, want], claim)
    };
    Ok(vec![
        each(
            "contiguous positions",
            part(Keys::RING)?,
            0.539,
            Claim::Part(0.03),
        ),
        each("zig-zag", part(Keys::ZIG_ZAG)?, 0.902, Claim::Part(0.12)),
        each(
            "zig-zag over contiguous",
            part(Keys::ZIG_ZAG)? / part(Keys::RING)?,
            1.673,
            Claim::Part(0.15),
        ),
    ])
}
