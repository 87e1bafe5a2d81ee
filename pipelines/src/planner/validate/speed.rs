//! Throughput against published numbers.

use super::{Check, Claim};
use crate::planner::error::{PlannerError, Result};
use crate::planner::machine::Machine;
use crate::planner::model::Gpt;
use crate::planner::recipes::{
    gpt_1t, gpt_22b, gpt_175b, gpt_405b, recipe_1t, recipe_22b, recipe_175b, recipe_405b, scripted,
};
use crate::planner::run::{Run, Schedule};
use crate::planner::search::{Planner, Space};
use crate::planner::time::estimate;

pub(super) fn checks() -> Result<Vec<Check>> {
    let mut all = throughput()?;
    all.push(place()?);
    all.extend(scaling()?);
    all.extend(interleaving()?);
    Ok(all)
}

/// TFLOP/s a device that `run` executes.
pub(super) fn rate(machine: &Machine, gpt: &Gpt, run: &Run) -> Result<f64> {
    Ok(estimate(machine, gpt, run)?.rate / 1e12)
}

/// The three headline numbers, and what they would be without the assumption on links inside a
/// node.
fn throughput() -> Result<Vec<Check>> {
    let machine = Machine::built_in("frontier")?;
    // one level between modules, at the middle of the range that is documented, and the link
    // efficiency that serves both numbers best
    let mut flat = Machine {
        link_efficiency: 0.55,
        ..machine.clone()
    };
    for level in &mut flat.levels {
        if level.name == "node" || level.name == "half node" {
            level.bandwidth = 75e9;
        }
    }
    let mut all = Vec::new();
    let models = [
        ("22B", gpt_22b(), recipe_22b(), 73.5),
        ("175B", gpt_175b(), recipe_175b(), 69.2),
        ("1T", gpt_1t(), recipe_1t(), 61.2),
    ];
    for (name, gpt, run, published) in &models {
        let got = rate(&machine, gpt, run)?;
        all.push(Check::new(
            format!("{name}: throughput"),
            "TFLOP/s",
            [got, *published],
            Claim::Part(0.03),
        ));
    }
    for (name, gpt, run, published) in &models[1..] {
        let got = rate(&flat, gpt, run)?;
        let what = format!("{name}: 75 GB/s between all modules");
        all.push(Check::new(what, "TFLOP/s", [got, *published], Claim::None));
    }
    // the log itself ran m = 160 with an older kernel, and every step overflowed
    let logged = Run {
        batch: 320,
        ..recipe_175b()
    };
    let step = estimate(&machine, &gpt_175b(), &logged)?.step;
    all.push(Check::new(
        "log: step, m 160",
        "s",
        [step, 195.08],
        Claim::None,
    ));
    Ok(all)
}

/// The published configuration of 175B against the fastest of what DeepSpeed could run on 128 GCDs.
/// It is third of 29, 214.5 s a step. Two others are faster, by less than the model resolves: t2 p16 d4,
/// 210.6 s, whose rings stay in a module, and t4 p8 d4, 210.8 s, whose head weighs less in a stage of
/// twelve layers. Both need 45 GB and more, not 35.
fn place() -> Result<Check> {
    let machine = Machine::built_in("frontier")?;
    let gpt = gpt_175b();
    let ranking = Planner::new(&machine, &gpt, Space::deepspeed(640)).rank(128)?;
    let step = |place: usize| ranking.ranked.get(place).map_or(f64::NAN, |e| e.step);
    let own = ranking.place(&recipe_175b()).unwrap_or(0);
    let ratio = step(own.wrapping_sub(1)) / step(0);
    let what = "175B: recipe over fastest, 1F1B, 128 GCDs";
    Ok(Check::new(what, "", [ratio, 1.0], Claim::Part(0.03)))
}

/// Strong scaling from one replica or two to all. The paper reports 89 and 87 % for batches that
/// are recollected, not read; bubble and messages explain a part, and the rest is left unexplained.
fn scaling() -> Result<Vec<Check>> {
    let machine = Machine::built_in("frontier")?;
    let efficiency = |gpt: &Gpt, few: Run, many: Run| -> Result<f64> {
        Ok(rate(&machine, gpt, &many)? / rate(&machine, gpt, &few)?)
    };
    let small = efficiency(
        &gpt_175b(),
        scripted(4, 16, 2, 1, 8000),
        scripted(4, 16, 16, 1, 8000),
    )?;
    let large = efficiency(
        &gpt_1t(),
        scripted(8, 64, 1, 1, 8016),
        scripted(8, 64, 6, 1, 8016),
    )?;
    let each = |what: &str, got, want| Check::new(what, "", [got, want], Claim::None);
    Ok(vec![
        each("175B: strong scaling, 128 to 1024", small, 0.89),
        each("1T: strong scaling, 512 to 3072", large, 0.87),
    ])
}

/// The gain of two pieces a rank on 405B, 512 H100, 32 sequences a replica.
fn interleaving() -> Result<Vec<Check>> {
    let machine = Machine::built_in("dgx-h100")?;
    let gpt = gpt_405b();
    let run = recipe_405b();
    let pieces = Run {
        schedule: Schedule::Interleaved(2),
        ..run.clone()
    };
    let tokens = |run: &Run| Ok::<_, PlannerError>(estimate(&machine, &gpt, run)?.tokens / 512.0);
    let [plain, cut] = [tokens(&run)?, tokens(&pieces)?];
    // published with products in eight bits, here in bf16: only the direction is claimed
    let each = |what: &str, got, want| Check::new(what, "tokens/s", [got, want], Claim::None);
    Ok(vec![
        Check::new(
            "405B: interleaved over 1F1B",
            "",
            [cut / plain, 1.28],
            Claim::Side,
        ),
        each("405B: a device, 1F1B", plain, 100.0),
        each("405B: a device, interleaved", cut, 128.0),
    ])
}
