//! Observations III.1 to III.4 of Dash et al. (2024): how throughput depends on the axes.

use super::speed::rate;
use super::{Check, Claim};
use crate::planner::error::Result;
use crate::planner::machine::Machine;
use crate::planner::recipes::{gpt_175b, scripted};
use crate::planner::run::Run;

/// Observations III.1 to III.4 of Dash et al. (2024), on 175B.
pub(super) fn checks() -> Result<Vec<Check>> {
    let machine = Machine::built_in("frontier")?;
    let gpt = gpt_175b();
    let rates = |runs: &[Run]| -> Result<Vec<f64>> {
        runs.iter().map(|run| rate(&machine, &gpt, run)).collect()
    };
    // the largest ratio of each rate to the one before
    let steepest = |rates: &[f64]| rates.windows(2).map(|w| w[1] / w[0]).fold(0.0, f64::max);
    // m stays 320, replicas make room for tensor ranks
    let tensor = rates(&[1, 2, 4, 8].map(|t| scripted(t, 16, 8 / t, 1, 320 * 8 / t)))?;
    let full = rates(&[640, 320, 160, 80, 40, 20].map(|b| scripted(4, 16, 2, 1, b)))?;
    let stages = rates(&[8, 16, 32].map(|p| scripted(4, p, 2, 1, 640)))?;
    let constant = rates(&[4, 8, 16].map(|p| scripted(4, p, 2, 1, 40 * p)))?;
    let held = constant.windows(2).map(|w| w[1] / w[0]);
    let held = held.fold(1.0, |worst: f64, r| {
        if (r - 1.0).abs() > (worst - 1.0).abs() {
            r
        } else {
            worst
        }
    });
    Ok(vec![
        Check::new(
            "III.1: twice the tensor ranks",
            "",
            [steepest(&tensor), 1.0],
            Claim::Below,
        ),
        Check::new(
            "III.2: half the micro-batches",
            "",
            [steepest(&full), 1.0],
            Claim::Below,
        ),
        Check::new(
            "III.3: twice the stages",
            "",
            [steepest(&stages), 1.0],
            Claim::Below,
        ),
        Check::new("III.4: twice both", "", [held, 1.0], Claim::Part(0.03)),
    ])
}
