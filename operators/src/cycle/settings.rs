//! What a cycling assimilation is told: the filter, the checks and the model between cycles.

use std::rc::Rc;

use crate::assimilation::Inflation;
use crate::observations::{Buddy, Corners, Grid, Interpolation, Report};

/// Settings of a cycling LETKF of one surface scalar.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The analysis grid; one cell is one local analysis.
    pub grid: Grid,
    /// Height of every cell, m above sea level, `[cells]`.
    pub heights: Rc<Vec<f64>>,
    /// Members of the ensemble, N.
    pub members: usize,
    /// Half support of the Gaspari–Cohn taper, km; observations are heard up to twice as far.
    pub half_support: f64,
    /// Difference in height that counts as much as `half_support`, m; infinity for none.
    pub vertical_half_support: f64,
    /// Inflation and relaxation.
    pub inflation: Inflation,
    /// Standard deviation of an observation, its representativeness included (unit of the state).
    pub observation_error: f64,
    /// Decrease of the state with height (K/m).
    pub lapse_rate: f64,
    /// A departure of more than this many expected standard deviations is a gross error.
    pub gross_limit: f64,
    /// The buddy check.
    pub buddy: Buddy,
    /// Cycles for which a late or corrected report is still taken.
    pub window: u64,
}

impl Settings {
    /// The observation operator of a report, `None` outside the grid. A report without a height is
    /// taken at that of the grid.
    pub fn operator(&self, report: &Report) -> Option<Interpolation> {
        let corners = Corners::around(&self.grid, report.latitude(), report.longitude())?;
        let ground = Interpolation::new(corners, 0.0, 0.0).apply(|c| self.heights[c]);
        let above = report.elevation().map_or(0.0, |z| z - ground);
        Some(Interpolation::new(corners, above, self.lapse_rate))
    }

    /// First cycle that reports known at `known` can still change.
    pub fn first_open(&self, known: u64) -> u64 {
        known.saturating_sub(self.window)
    }
}

/// What carries the ensemble from one cycle to the next.
pub trait Model {
    /// The ensemble of the first cycle, `[rows.len() * columns][N]`, rows `rows` of the grid.
    fn start(&self, rows: std::ops::Range<usize>) -> Vec<f64>;

    /// The background ensemble of cycle `to` from the analysis ensemble of the cycle before, both
    /// `[rows.len() * columns][N]`.
    fn next(&self, to: u64, rows: std::ops::Range<usize>, analysis: &[f64]) -> Vec<f64>;
}
