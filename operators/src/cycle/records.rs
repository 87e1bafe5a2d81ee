//! What flows between the operators of a cycle.

use advect_engine::Cycle;
use serde::{Deserialize, Serialize};

use crate::observations::{Fault, Report};

/// A report with its departure, on its way to the checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Departed {
    /// Worker that this copy is for.
    pub to: u64,
    /// The report.
    pub report: Report,
    /// 1 if the copy is the report's own, 0 if it only serves as a neighbour.
    pub own: bool,
    /// Whether it comes (true) or is taken back (false).
    pub comes: bool,
    /// Observed minus background mean.
    pub departure: f64,
    /// Predicted anomalies, `[N]`; empty in a neighbour's copy.
    pub anomalies: Vec<f64>,
    /// Set if the report failed the check against the background.
    pub fault: Option<Fault>,
}

/// What became of a report: the last verdict on it counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The report.
    pub report: Report,
    /// `None` if it was assimilated.
    pub fault: Option<Fault>,
    /// Observed minus background mean, in the unit of the state.
    pub departure: f64,
    /// Whether the report is there (true) or was taken back (false).
    pub stands: bool,
}

/// The analysis at a site; of those with one cycle and site the one with the latest `known` counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteAnalysis {
    /// Cycle and when it was known.
    pub time: Cycle,
    /// Index of the site.
    pub site: u64,
    /// Background mean.
    pub background: f64,
    /// Analysis mean.
    pub mean: f64,
    /// Analysis standard deviation over the ensemble.
    pub spread: f64,
}
