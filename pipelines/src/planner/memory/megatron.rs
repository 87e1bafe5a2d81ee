//! Memory as three codes for long sequences had it, each a change of what [`deepspeed`] holds: Song et al. (2023),
//! *DeepSpeed4Science*, and the sources of Megatron-LM and Megatron-DeepSpeed of that year.
//!
//! | bytes | Megatron-LM | Megatron-DeepSpeed before | with long sequences |
//! |---|---|---|---|
//! | weights, gradients, optimizer of a parameter | 2 + 4 + 12 | 2 + 2, host | 2 + 2 + 4, host |
//! | table of positions | whole | whole | cut over tensor ranks |
//! | mask of queries × keys | 1 each | 1 each | none |
//! | gathered positions, 2sbh each | four | none: not cut | four |

use super::{Memory, Working, deepspeed};
use crate::planner::model::Gpt;
use crate::planner::run::{Policy, Run};

/// Buffers of all positions where tensor ranks cut them, which the caching allocator does not give back: the gathered
/// input of a product that cuts columns, the gradient of that input before it is scattered, the output of a product
/// that cuts rows before it is scattered, and the gathered gradient of that output.
const GATHERED: u64 = 4;

pub(super) fn stage(gpt: &Gpt, run: &Run, i: usize, m: usize) -> Memory {
    let plain = deepspeed::stage(gpt, run, i, m);
    let e = run.precision.bytes();
    let part = run.rank(gpt, i);
    let [gradients, optimizer] = match run.policy {
        Policy::MegatronLm => [4, 12],
        Policy::MegatronDeepspeedLong => [e + 4, 0],
        _ => [e, 0],
    };
    let pieces = run.pieces_of_positions() as u64;
    let positions = match part.first {
        true => (gpt.sequence * gpt.width) as u64,
        false => 0,
    };
    let n = plain.parameters - (positions - positions.div_ceil(pieces));
    let mask = match run.policy {
        Policy::MegatronDeepspeedLong => 0,
        _ => (run.micro as u64).saturating_mul((gpt.sequence as u64).saturating_pow(2)),
    };
    let gathered = match run.sequence && run.axes.tensor > 1 {
        // one is counted there
        true => (GATHERED - 1) * e * run.tokens(gpt) as u64 * gpt.width as u64,
        false => 0,
    };
    Memory {
        parameters: n,
        weights: e * n,
        gradients: gradients * n,
        early: gradients * n,
        averaged: gradients * n,
        optimizer: optimizer * n,
        working: Working {
            gathered: (plain.working.gathered + gathered).saturating_add(mask),
            ..plain.working
        },
        ..plain
    }
}
