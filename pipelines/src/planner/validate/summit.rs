//! The LSS Transformer against Megatron's sequence parallelism on 144 V100 of Summit: Wang et al. (2023),
//! *Ultra-long sequence distributed Transformer*, 10.2 times less memory and 5.6 times faster.
//!
//! A GPT with the extents of their encoder and decoder together, 12 layers of 512 with 8 heads, one sequence of 58
//! positions a device, single precision. Their baseline keeps its scores and recomputes nothing. Eight heads are cut
//! over 144 ranks unevenly: eight ranks have a head, the others none, and all wait for these. Where heads are cut
//! evenly, 8 ranks are a replica, and 18 replicas have a sequence each; there this program takes the same 18
//! sequences one after the other on all 144.

use super::{Check, Claim};
use crate::planner::error::{PlannerError, Result};
use crate::planner::machine::Machine;
use crate::planner::memory;
use crate::planner::model::Gpt;
use crate::planner::recipes::scripted;
use crate::planner::run::{Keys, Policy, Precision, Recompute, Run};
use crate::planner::time::estimate;

const DEVICES: usize = 144;

/// Sequences of 58 positions a device and of as many times more.
const LENGTHS: [usize; 3] = [DEVICES * 58, DEVICES * 116, DEVICES * 348];

/// Ways of keys to queries that are compared.
const WAYS: [Keys; 2] = [Keys::GATHER, Keys::RING];

/// Bytes of 256 values.
fn gpt(sequence: usize) -> Gpt {
    Gpt::plain(12, 512, 8, sequence, 256)
}

/// Megatron on replicas of `tensor` ranks, a sequence each.
fn megatron(tensor: usize) -> Run {
    Run {
        sequence: true,
        precision: Precision::F32,
        recompute: Recompute::None,
        flash: false,
        ..scripted(tensor, 1, DEVICES / tensor, 0, DEVICES / tensor)
    }
}

/// This program on as many sequences, one after the other.
fn advect(keys: Keys, batch: usize) -> Run {
    let mut run = Run {
        precision: Precision::F32,
        recompute: Recompute::None,
        policy: Policy::Advect,
        keys,
        ..scripted(1, 1, 1, 0, batch)
    };
    run.axes.context = DEVICES;
    run
}

/// Bytes of a device, and seconds of a step.
fn cost(machine: &Machine, gpt: &Gpt, run: &Run) -> Result<[f64; 2]> {
    let stages = memory::stages(gpt, run, None).map_err(|why| PlannerError::rejected(run, why))?;
    let (_, bytes) = memory::largest(&stages);
    Ok([bytes as f64, estimate(machine, gpt, run)?.step])
}

pub(super) fn checks() -> Result<Vec<Check>> {
    let machine = Machine::built_in("summit")?;
    let mut all = Vec::new();
    for sequence in LENGTHS {
        let gpt = gpt(sequence);
        for (tensor, ways) in [(DEVICES, &WAYS[..]), (8, &WAYS[1..])] {
            let base = megatron(tensor);
            let theirs = cost(&machine, &gpt, &base)?;
            for &keys in ways {
                let ours = cost(&machine, &gpt, &advect(keys, base.batch))?;
                let check = |what: &str, k: usize, published, claim| {
                    let what = format!(
                        "LSS, {sequence} positions: {what}, Megatron t{tensor} over {keys}"
                    );
                    Check::new(what, "", [theirs[k] / ours[k], published], claim)
                };
                // kept keys of the shortest are as much as its scores are cut to
                let less = match (tensor, keys, sequence == LENGTHS[0]) {
                    (DEVICES, Keys::RING, _) | (DEVICES, _, false) => Claim::Above,
                    _ => Claim::None,
                };
                // below, both wait for messages: a gather of a layer takes as long whatever it is for
                let faster = match (tensor, sequence == LENGTHS[2]) {
                    (DEVICES, true) => Claim::Above,
                    _ => Claim::None,
                };
                all.push(check("memory", 0, 10.2, less));
                all.push(check("time", 1, 5.6, faster));
            }
        }
    }
    Ok(all)
}
