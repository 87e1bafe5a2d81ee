//! The buddy check: a report against the departures of its neighbours.
//!
//! The departure $d_i$ is compared with the weighted mean of those within `radius`,
//!
//! $$ \hat d_i = \frac{\sum_j w_{ij} d_j}{\sum_j w_{ij}}, \qquad w_{ij} = e^{-(r_{ij}/L)^2},\quad
//!    L = \text{radius}/2, $$
//!
//! and fails if $|d_i - \hat d_i|$ exceeds `limit` (after Dee et al. 2001, with the local mean in
//! place of an adaptive fit). Neighbours are taken in a fixed order, so that the verdict has the
//! same bits wherever it is made.

use serde::{Deserialize, Serialize};

use super::grid::distance;

/// A report's departure from the background, at its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Departure {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Observed minus background, in the unit of the variable.
    pub departure: f64,
}

/// The buddy check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buddy {
    /// Distance within which reports are neighbours, km.
    pub radius: f64,
    /// Largest difference from the neighbours' mean, in the unit of the variable.
    pub limit: f64,
    /// Fewer neighbours give no verdict.
    pub at_least: usize,
}

impl Buddy {
    /// Whether `of` passes beside `neighbours` (in the caller's fixed order; a neighbour at the very
    /// place of `of` with the same departure is taken to be `of` itself and skipped once).
    pub fn passes<'a>(
        &self,
        of: &Departure,
        neighbours: impl IntoIterator<Item = &'a Departure>,
    ) -> bool {
        let (mut sum, mut weight, mut count) = (0.0, 0.0, 0);
        let mut itself = true;
        for other in neighbours {
            if itself && other == of {
                itself = false;
                continue;
            }
            if (other.latitude - of.latitude).abs() * 111.0 > self.radius {
                continue;
            }
            let km = distance(of.latitude, of.longitude, other.latitude, other.longitude);
            if km <= self.radius {
                let w = (-(2.0 * km / self.radius).powi(2)).exp();
                sum += w * other.departure;
                weight += w;
                count += 1;
            }
        }
        count < self.at_least || (of.departure - sum / weight).abs() <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(latitude: f64, longitude: f64, departure: f64) -> Departure {
        Departure {
            latitude,
            longitude,
            departure,
        }
    }

    /// A lone outlier fails, a shared departure passes, and too few neighbours give no verdict.
    #[test]
    fn outliers_fail_and_fronts_pass() {
        let buddy = Buddy {
            radius: 200.0,
            limit: 6.0,
            at_least: 3,
        };
        let around: Vec<Departure> = (0..6)
            .map(|i| at(40.0 + 0.2 * f64::from(i), -100.0, 8.0))
            .collect();
        assert!(buddy.passes(&at(40.1, -100.1, 9.0), &around));
        assert!(!buddy.passes(&at(40.1, -100.1, -1.0), &around));
        assert!(buddy.passes(&at(40.1, -100.1, -1.0), &around[..2]));
        assert!(buddy.passes(&at(60.0, -100.1, -50.0), &around));
    }
}
