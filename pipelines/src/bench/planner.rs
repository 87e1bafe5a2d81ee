//! `planner`: what the planner predicts, beside what was published and logged.
//!
//! Fails if a claim does not hold, so that no change of the model goes unseen.

use super::{BenchError, Figure, Options, Report};
use crate::planner::validate::{Check, checks};

const NAME: &str = "planner";

/// Gives every prediction beside the published number.
///
/// # Errors
/// If a claim does not hold.
pub(crate) fn run(_: &Options, report: &mut Report) -> Result<(), BenchError> {
    let checks = checks().map_err(|e| BenchError::failed(NAME, e))?;
    for check in &checks {
        let case = format!("{} ({})", check.quantity, check.claim);
        let figure = Figure::new(NAME, case, check.predicted, check.unit);
        report.give(figure.beside(check.published));
    }
    let broken: Vec<String> = checks.iter().filter(|c| !c.holds()).map(told).collect();
    if broken.is_empty() {
        return Ok(());
    }
    let why = format!(
        "claims do not hold: {}; mend the model, or claim less and say so in docs/planner.md",
        broken.join(", ")
    );
    Err(BenchError::failed(NAME, why))
}

fn told(check: &Check) -> String {
    format!(
        "{} is {} and not {} ({})",
        check.quantity, check.predicted, check.published, check.claim
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure for every check, and no claim is broken.
    #[test]
    fn every_check_is_a_figure() {
        let mut report = Report::keeping();
        run(&Options::default(), &mut report).expect("claims hold");
        assert_eq!(
            report.figures().len(),
            checks().expect("they are made").len()
        );
    }
}
