//! Statistical interpolation: the best linear estimate at a point from departures around it.
//!
//! With departures $d$ at places $s_i$, their covariances $C_{ij} = c(s_i, s_j)$ and the error
//! variance $r$ of each (the *nugget*),
//!
//! $$ \hat d(p) = c(p, \cdot)\,(C + r I)^{-1} d, \qquad
//!    c(p, q) = \sigma^2 e^{-D(p, q) / L} + \mu^2, $$
//!
//! optimal interpolation (Gandin 1963; Daley 1991, section 4.2) with a covariance that falls with
//! distance, with the difference in height and across coasts, as in surface analyses for aviation:
//!
//! $$ D^2 = r_{pq}^2 + (k_z\,\Delta z)^2 + (k_l\,\Delta l)^2, $$
//!
//! for the great-circle distance $r_{pq}$, heights $z$ and fractions of land $l$. The constant
//! $\mu^2$ is the variance of a level that all places share. Only the nearest departures count.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use serde::{Deserialize, Serialize};

use super::grid::distance;
use crate::OperatorError;

/// A place on the surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Height, m above sea level.
    pub height: f64,
    /// Fraction of land around it, 0 to 1.
    pub land: f64,
}

/// Statistical interpolation of departures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Krige {
    /// Variance $\sigma^2$ of departures at a place, in the unit of the variable squared.
    pub variance: f64,
    /// Length $L$ of the covariance, km.
    pub length: f64,
    /// Variance $\mu^2$ of the level that all places share.
    pub level: f64,
    /// Error variance $r$ of a departure, its representativeness included.
    pub nugget: f64,
    /// Distance that a difference in height counts for, $k_z$, km per m.
    pub per_height: f64,
    /// Distance that sea against land counts for, $k_l$, km.
    pub per_land: f64,
    /// Nearest departures that count.
    pub neighbours: usize,
    /// Departures further away than this do not count, km.
    pub radius: f64,
}

impl Krige {
    fn covariance(&self, p: &Place, q: &Place) -> f64 {
        let km = distance(p.latitude, p.longitude, q.latitude, q.longitude);
        let far = km
            .hypot(self.per_height * (p.height - q.height))
            .hypot(self.per_land * (p.land - q.land));
        self.variance * (-far / self.length).exp() + self.level
    }

    /// The estimate at `at` from `departures`; zero if none is near. Equal departures in any
    /// order give the same bits as long as `departures` is sorted by the caller's fixed rule.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Factorization`] if the covariances are not positive definite: the nugget is
    /// zero and two places are one, or a departure is not finite.
    pub fn estimate(&self, at: &Place, departures: &[(Place, f64)]) -> Result<f64, OperatorError> {
        let mut near: Vec<(f64, usize)> = Vec::new();
        for (i, (place, _)) in departures.iter().enumerate() {
            // a degree of latitude is never less than 110 km
            if (place.latitude - at.latitude).abs() * 110.0 <= self.radius {
                let km = distance(at.latitude, at.longitude, place.latitude, place.longitude);
                if km <= self.radius {
                    near.push((km, i));
                }
            }
        }
        let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if near.len() > self.neighbours {
            near.select_nth_unstable_by(self.neighbours, order);
            near.truncate(self.neighbours);
        }
        near.sort_unstable_by(order);
        let n = near.len();
        if n == 0 {
            return Ok(0.0);
        }
        let place = |i: usize| &departures[near[i].1].0;
        let covariances = Mat::from_fn(n, n, |i, j| {
            let nugget = if i == j { self.nugget } else { 0.0 };
            self.covariance(place(i), place(j)) + nugget
        });
        let failed = || OperatorError::Factorization {
            place: "Krige::estimate",
            size: n,
            mend: "give a positive nugget and check that departures are finite",
        };
        let factor = covariances.llt(Side::Lower).map_err(|_| failed())?;
        let lower = factor.L();
        let pivots = (0..n).map(|i| lower[(i, i)] * lower[(i, i)]);
        // two places that are one leave a pivot of rounding errors
        if pivots.fold(f64::INFINITY, f64::min) <= 1e-12 * covariances[(0, 0)] {
            return Err(failed());
        }
        let right = Mat::from_fn(n, 1, |i, _| departures[near[i].1].1);
        let weights = factor.solve(&right);
        let sum = (0..n)
            .map(|i| self.covariance(at, place(i)) * weights[(i, 0)])
            .sum::<f64>();
        if sum.is_finite() {
            Ok(sum)
        } else {
            Err(failed())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krige(nugget: f64) -> Krige {
        Krige {
            variance: 9.0,
            length: 500.0,
            level: 20.0,
            nugget,
            per_height: 0.25,
            per_land: 200.0,
            neighbours: 12,
            radius: 900.0,
        }
    }

    fn at(latitude: f64, longitude: f64, height: f64) -> Place {
        Place {
            latitude,
            longitude,
            height,
            land: 1.0,
        }
    }

    /// Without error an observed place is met exactly; with error it is drawn to its neighbours;
    /// far from everything nothing is said.
    #[test]
    fn observed_places_are_met() {
        let near: Vec<(Place, f64)> = (0..8)
            .map(|i| {
                (
                    at(
                        40.0 + 0.3 * f64::from(i),
                        -100.0 - 0.2 * f64::from(i * i % 5),
                        300.0,
                    ),
                    2.0,
                )
            })
            .chain([(at(41.0, -101.0, 320.0), 5.0)])
            .collect();
        let own = near[8].0;
        assert!((krige(0.0).estimate(&own, &near).unwrap() - 5.0).abs() < 1e-9);
        let drawn = krige(1.0).estimate(&own, &near).unwrap();
        assert!(drawn > 2.0 && drawn < 5.0, "{drawn}");
        assert_eq!(
            krige(1.0).estimate(&at(-40.0, 20.0, 0.0), &near).unwrap(),
            0.0
        );
    }

    /// A place at another height hears less.
    #[test]
    fn height_separates() {
        let near = [(at(40.0, -100.0, 300.0), 4.0)];
        let level = krige(1.0)
            .estimate(&at(40.3, -100.0, 300.0), &near)
            .unwrap();
        let above = krige(1.0)
            .estimate(&at(40.3, -100.0, 2300.0), &near)
            .unwrap();
        assert!(level > above && above > 0.0, "{level} {above}");
    }

    /// Two reports of one place without error cannot be told apart: an error, not a panic.
    #[test]
    fn refuses_what_is_singular() {
        let twice = [(at(40.0, -100.0, 0.0), 1.0), (at(40.0, -100.0, 0.0), 2.0)];
        assert!(krige(0.0).estimate(&at(40.1, -100.0, 0.0), &twice).is_err());
        let nan = [(at(40.0, -100.0, 0.0), f64::NAN)];
        assert!(krige(1.0).estimate(&at(40.1, -100.0, 0.0), &nan).is_err());
    }
}
