//! The longest sequences of GPTs of 25 and 33 billion parameters on A100 of 40 GB: figure of Song et al. (2023),
//! *DeepSpeed4Science*.
//!
//! Extents are those of the scripts of its co-authors: 64 and 80 layers of 5760, 64 heads, as many tensor ranks as
//! devices, one sequence, every layer recomputed, the tokens of GPT-2. That the optimizer of both
//! Megatron-DeepSpeeds is on the host (ZeRO-Offload) is read from their logs, and from the figure: 36 thousand
//! positions of checkpoints that are not cut leave 9 of 40 GiB, and 25 billion parameters on 16 devices would take 25.
//! Attention of the older one is counted without scores for the same reason: they would be 27 GB.
//!
//! Nothing is fitted to a cell: the reserve is the 10 % of all machines here.

use super::{Check, Claim};
use crate::planner::error::Result;
use crate::planner::longest::longest;
use crate::planner::machine::Machine;
use crate::planner::model::Gpt;
use crate::planner::recipes::scripted;
use crate::planner::run::{Policy, Precision, Run};

/// Devices of the figure.
const DEVICES: [usize; 3] = [16, 32, 64];
/// Sequences are multiples of so many positions, a "k" of the figure.
const GRAIN: usize = 1024;

/// A model and the thousands of positions that each code reached, by devices.
struct Figure {
    name: &'static str,
    layers: usize,
    before: [f64; 3],
    megatron: [f64; 3],
    after: [f64; 3],
}

const FIGURES: [Figure; 2] = [
    Figure {
        name: "25B",
        layers: 64,
        before: [36.0, 42.0, 42.0],
        megatron: [26.0, 48.0, 52.0],
        after: [192.0, 448.0, 512.0],
    },
    Figure {
        name: "33B",
        layers: 80,
        before: [28.0, 32.0, 32.0],
        megatron: [14.0, 46.0, 52.0],
        after: [128.0, 384.0, 448.0],
    },
];

/// Megatron-DeepSpeed before, Megatron-LM, and Megatron-DeepSpeed with long sequences, on `devices`.
fn codes(devices: usize) -> [Run; 3] {
    let plain = scripted(devices, 1, 1, 0, 1);
    [
        Run {
            policy: Policy::MegatronDeepspeed,
            ..plain.clone()
        },
        Run {
            policy: Policy::MegatronLm,
            sequence: true,
            flash: false,
            ..plain.clone()
        },
        Run {
            policy: Policy::MegatronDeepspeedLong,
            precision: Precision::Bf16,
            sequence: true,
            ..plain
        },
    ]
}

/// Longest sequences in thousands, and how many times as long the newer code's are as the older one's.
pub(super) fn checks() -> Result<Vec<Check>> {
    let mut machine = Machine::built_in("dgx-a100")?;
    machine.memory.bytes = 40.0 * f64::from(1 << 30);
    let (mut ratios, mut lengths) = (Vec::new(), Vec::new());
    for figure in &FIGURES {
        // the vocabulary of GPT-2, filled up to a multiple of 128
        let gpt = Gpt::plain(figure.layers, 5760, 64, GRAIN, 50304);
        for (k, devices) in DEVICES.into_iter().enumerate() {
            let mut found = [0.0; 3];
            for (run, found) in codes(devices).iter().zip(&mut found) {
                *found = longest(&machine, &gpt, run, GRAIN)? as f64 / GRAIN as f64;
            }
            let of = |what: &str| format!("{} on {devices} A100-40GB: {what}", figure.name);
            let times = [found[2] / found[0], figure.after[k] / figure.before[k]];
            let claim = Claim::Part(0.25);
            ratios.push(Check::new(
                of("longest, after over before"),
                "",
                times,
                claim,
            ));
            for (code, got, want) in [
                ("Megatron-DeepSpeed before", found[0], figure.before[k]),
                ("Megatron-LM", found[1], figure.megatron[k]),
                ("Megatron-DeepSpeed after", found[2], figure.after[k]),
            ] {
                lengths.push(Check::new(
                    of(code),
                    "Ki positions",
                    [got, want],
                    Claim::None,
                ));
            }
        }
    }
    ratios.extend(lengths);
    Ok(ratios)
}
