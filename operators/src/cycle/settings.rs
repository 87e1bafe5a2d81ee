//! What a cycling assimilation is told: the filter, the checks and the model between cycles.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::assimilation::Inflation;
use crate::assimilation::localization::gaspari_cohn;
use crate::observations::{Buddy, Corners, Field, Grid, Interpolation, Krige, Place, Report};

/// How loudly a cell hears an observation: two Gaspari–Cohn tapers, a narrow one for what is near and
/// a wide one for what many observations say together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taper {
    /// Half support of the narrow taper, km.
    pub near: f64,
    /// Half support of the wide taper, km.
    pub far: f64,
    /// Share of the wide taper at distance zero, 0 to 1.
    pub share: f64,
}

impl Taper {
    /// The weight at a distance in km, 0 to 1.
    pub fn at(&self, km: f64) -> f64 {
        let (near, far) = (gaspari_cohn(km, self.near), gaspari_cohn(km, self.far));
        self.share * far + (1.0 - self.share) * near
    }

    /// Distance beyond which nothing is heard, km.
    pub fn reach(&self) -> f64 {
        2.0 * self.near.max(self.far)
    }
}

/// The hybrid-gain step (Penny 2014, equation 5): the mean of the analysis is
/// $(1 - \alpha)\,\bar x^{LETKF} + \alpha\,(\bar x^b + K d)$ with the static gain $K$ of [`Krige`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hybrid {
    /// Weight $\alpha$ of the static gain, 0 (LETKF alone) to 1.
    pub weight: f64,
    /// The static covariance.
    #[serde(rename = "static")]
    pub krige: Krige,
}

/// Settings of a cycling LETKF of one surface scalar.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The analysis grid; one cell is one local analysis.
    pub grid: Grid,
    /// Height of every cell, m above sea level, `[cells]`.
    pub heights: Rc<Vec<f64>>,
    /// Fraction of land, read where reports and cells are.
    pub land: Field,
    /// Places off the grid that get a local analysis of their own, with their own height.
    pub sites: Rc<Vec<Site>>,
    /// Members of the ensemble, N.
    pub members: usize,
    /// Localization.
    pub taper: Taper,
    /// Inflation and relaxation.
    pub inflation: Inflation,
    /// Blending with a static gain.
    pub hybrid: Hybrid,
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
    /// First cycle of the run, whose background is [`Predictor::start`]: 0, or where a run that was
    /// [resumed](super::Resumed) begins.
    pub begin: u64,
    /// Number of cycles; `u64::MAX` without end.
    pub cycles: u64,
}

/// A place off the grid that gets an analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// A station whose reports the analysis here does not hear: leave-one-out verification. The
    /// background must not have heard it either.
    pub without: Option<String>,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Height, m above sea level.
    pub height: f64,
}

impl Settings {
    /// The observation operator of a report, `None` outside the grid. A report without a height is
    /// taken at that of the grid.
    pub fn operator(&self, report: &Report) -> Option<Interpolation> {
        self.operator_at(report.latitude(), report.longitude(), report.elevation())
    }

    /// The observation operator at a point, `None` outside the grid.
    pub fn operator_at(
        &self,
        latitude: f64,
        longitude: f64,
        height: Option<f64>,
    ) -> Option<Interpolation> {
        let corners = Corners::around(&self.grid, latitude, longitude)?;
        let ground = Interpolation::new(corners, 0.0, 0.0).apply(|c| self.heights[c]);
        let above = height.map_or(0.0, |z| z - ground);
        Some(Interpolation::new(corners, above, self.lapse_rate))
    }

    /// Number of analysed points: cells, then sites.
    pub fn points(&self) -> usize {
        self.grid.cells() + self.sites.len()
    }

    /// Where an analysed point is: a cell, or a site behind the last cell.
    pub fn place(&self, point: usize) -> Place {
        let (latitude, longitude, height) = match point.checked_sub(self.grid.cells()) {
            None => {
                let (row, column) = self.grid.place(point);
                let height = self.heights[point];
                (self.grid.latitude(row), self.grid.longitude(column), height)
            }
            Some(site) => {
                let site = &self.sites[site];
                (site.latitude, site.longitude, site.height)
            }
        };
        let land = self.land.at(latitude, longitude);
        Place {
            latitude,
            longitude,
            height,
            land,
        }
    }

    /// Where a report is. One without a height stands at that of the grid.
    pub fn place_of(&self, report: &Report) -> Place {
        let (latitude, longitude) = (report.latitude(), report.longitude());
        let ground = || {
            let corners = Corners::around(&self.grid, latitude, longitude)?;
            Some(Interpolation::new(corners, 0.0, 0.0).apply(|c| self.heights[c]))
        };
        let height = report.elevation().or_else(ground).unwrap_or(0.0);
        let land = self.land.at(latitude, longitude);
        Place {
            latitude,
            longitude,
            height,
            land,
        }
    }

    /// First cycle that reports known at `known` can still change.
    pub fn first_open(&self, known: u64) -> u64 {
        known.saturating_sub(self.window)
    }
}

/// What carries the ensemble from one cycle to the next.
pub trait Predictor {
    /// The ensemble of the first cycle of the run, `[rows.len() * columns][N]`, rows `rows` of the grid.
    fn start(&self, rows: std::ops::Range<usize>) -> Vec<f64>;

    /// The background ensemble of cycle `to` from the analysis ensemble of the cycle before, both
    /// `[rows.len() * columns][N]`.
    fn next(&self, to: u64, rows: std::ops::Range<usize>, analysis: &[f64]) -> Vec<f64>;
}
