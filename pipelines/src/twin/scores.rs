//! The table of `twin` and `scores.json`.

use advect_operators::twin::{Experiment, Report};
use serde::Serialize;

use crate::error::{PipelineError, Result};
use crate::pipeline::Run;

/// The result of one experiment.
#[derive(Debug, Serialize)]
pub(crate) struct Score {
    name: String,
    /// Whether the mean lies within the tolerance; absent if nothing was expected.
    passed: Option<bool>,
    /// Why there is no report.
    failure: Option<String>,
    report: Option<Report>,
}

/// The first line of the table.
pub(crate) fn heading() -> String {
    format!(
        "{:<16} {:>5}  {:<17} {:<14} {:>9}  verdict",
        "experiment", "seeds", "rmse mean ± sd", "expected", "µs/cycle"
    )
}

impl Score {
    /// The result of `experiment`: its report, or why it has none.
    pub(crate) fn new(experiment: &Experiment, outcome: Result<Report, String>) -> Self {
        let name = experiment.name.clone();
        match outcome {
            Ok(report) => Score {
                name,
                passed: report.passed,
                failure: None,
                report: Some(report),
            },
            Err(why) => Score {
                name,
                passed: Some(false),
                failure: Some(why),
                report: None,
            },
        }
    }

    /// Its line of the table.
    pub(crate) fn row(&self) -> String {
        let Some(report) = &self.report else {
            return format!(
                "{:<16} {}",
                self.name,
                self.failure.as_deref().unwrap_or("-")
            );
        };
        let expected = report.expected.as_ref();
        let expected = expected.map_or("-".into(), |e| {
            format!("{:.2} ± {:.2}", e.rmse, e.tolerance)
        });
        let lost = match report.diverged {
            0 => String::new(),
            n => format!(" ({n} seeds lost the truth)"),
        };
        format!(
            "{:<16} {:>5}  {:<17} {:<14} {:>9.1}  {}{lost}",
            self.name,
            report.seeds.len(),
            spread(report),
            expected,
            1e6 * report.seconds_per_cycle,
            match report.passed {
                Some(true) => "reached",
                Some(false) => "MISSED",
                None => "-",
            }
        )
    }

    /// What is wrong with it, if anything.
    fn complaint(&self) -> Option<String> {
        if self.passed != Some(false) {
            return None;
        }
        let expected = self
            .report
            .as_ref()
            .and_then(|r| Some((r, r.expected.as_ref()?)));
        Some(match expected {
            Some((report, e)) => format!(
                "{}: {} is not within {} ± {} ({})",
                self.name,
                spread(report),
                e.rmse,
                e.tolerance,
                e.source
            ),
            None => self.failure.clone().unwrap_or_else(|| self.name.clone()),
        })
    }
}

fn spread(report: &Report) -> String {
    let deviation = report.deviation.map_or("-".into(), |d| format!("{d:.4}"));
    format!("{:.4} ± {deviation}", report.rmse)
}

/// Writes `scores.json`: one object an experiment, the same bytes for every fabric.
///
/// # Errors
/// If the system refuses.
pub(crate) fn write(run: &Run, scores: &[Score]) -> Result<()> {
    let path = run.result("scores.json");
    let mend = "choose another directory with --out";
    let text = serde_json::to_vec_pretty(scores)
        .map_err(|e| PipelineError::file("write", &path, mend)(e.into()))?;
    std::fs::write(&path, text).map_err(PipelineError::file("write", &path, mend))
}

/// `Ok` if no score is outside of its tolerance.
///
/// # Errors
/// [`PipelineError::Failed`] that names every score that is.
pub(crate) fn judge(scores: &[Score]) -> Result<()> {
    let complaints: Vec<String> = scores.iter().filter_map(Score::complaint).collect();
    if complaints.is_empty() {
        return Ok(());
    }
    Err(PipelineError::Failed {
        pipeline: "twin".to_owned(),
        why: complaints.join("; "),
    })
}
