//! Localization: which observations a cell hears, and how loudly.
//!
//! The taper is the fifth-order function of Gaspari and Cohn (1999), equation (4.10), which is
//! close to a Gaussian and zero beyond twice its half support.

use crate::OperatorError;

/// Half support of the taper over its radius: $\sqrt{10/3}$, cut to the two decimals with which
/// published tunings were made.
///
/// A *radius* is the standard deviation of the Gaussian that has the curvature of the taper at
/// zero (Lorenc 2003).
pub const HALF_SUPPORT_PER_RADIUS: f64 = 1.82;

/// Tapers up to this size are dropped: they would cost as much as the others and move nothing.
pub const TAPER_CUTOFF: f64 = 1e-3;

/// The Gaspari–Cohn taper at `distance` for a half support of `half_support`, same unit; in
/// `[0, 1]`, 1 at zero and 0 from twice the half support.
pub fn gaspari_cohn(distance: f64, half_support: f64) -> f64 {
    let r = distance.abs() / half_support;
    if r <= 1.0 {
        (((-0.25 * r + 0.5) * r + 0.625) * r - 5.0 / 3.0) * r * r + 1.0
    } else if r < 2.0 {
        let inner = ((((r / 12.0 - 0.5) * r + 0.625) * r + 5.0 / 3.0) * r - 5.0) * r + 4.0;
        (inner - 2.0 / (3.0 * r)).max(0.0)
    } else {
        0.0
    }
}

/// For every cell the observations it hears with their tapers $\rho$, in increasing index.
#[derive(Debug, Clone, PartialEq)]
pub struct Localization {
    observations: usize,
    starts: Vec<usize>,
    heard: Vec<(usize, f64)>,
}

impl Localization {
    /// Cells 0, 1, …, `cells` − 1 on a ring, observations at `positions` (in cells), tapered by
    /// [`gaspari_cohn`] with `radius` in cells; tapers up to [`TAPER_CUTOFF`] are dropped.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if `radius` is not positive (infinity is allowed and tapers
    /// nothing) or a position lies outside `[0, cells)`.
    pub fn try_ring(cells: usize, positions: &[f64], radius: f64) -> Result<Self, OperatorError> {
        const PLACE: &str = "Localization::try_ring";
        if radius.is_nan() || radius <= 0.0 {
            let expected = "a positive radius in cells, `inf` for none";
            return Err(OperatorError::parameter(PLACE, "radius", radius, expected));
        }
        let length = cells as f64;
        if let Some(bad) = positions.iter().find(|p| !(0.0..length).contains(*p)) {
            let expected = "a position from 0 to below the number of cells";
            return Err(OperatorError::parameter(PLACE, "position", bad, expected));
        }
        let half_support = radius * HALF_SUPPORT_PER_RADIUS;
        Ok(Self::from_taper(
            cells,
            positions.len(),
            |cell, observation| {
                let apart = (cell as f64 - positions[observation]).abs();
                gaspari_cohn(apart.min(length - apart), half_support)
            },
        ))
    }

    /// Every cell hears every observation fully.
    pub fn unlimited(cells: usize, observations: usize) -> Self {
        Self::from_taper(cells, observations, |_, _| 1.0)
    }

    /// The lists of any geometry: `taper(cell, observation)` in `[0, 1]`.
    pub fn from_taper(
        cells: usize,
        observations: usize,
        taper: impl Fn(usize, usize) -> f64,
    ) -> Self {
        let (mut starts, mut heard) = (vec![0], Vec::new());
        for cell in 0..cells {
            for observation in 0..observations {
                let rho = taper(cell, observation);
                if rho > TAPER_CUTOFF {
                    heard.push((observation, rho));
                }
            }
            starts.push(heard.len());
        }
        Self {
            observations,
            starts,
            heard,
        }
    }

    /// The number of cells.
    pub fn cells(&self) -> usize {
        self.starts.len() - 1
    }

    /// The number of observations that the lists were made for.
    pub fn observations(&self) -> usize {
        self.observations
    }

    /// The observations that `cell` hears, as `(index, taper)`; empty for a cell out of range.
    pub fn heard(&self, cell: usize) -> &[(usize, f64)] {
        match (self.starts.get(cell), self.starts.get(cell + 1)) {
            (Some(&from), Some(&to)) => &self.heard[from..to],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One at zero, continuous at the joint, zero at twice the half support, falling between, and
    /// as curved at zero as the Gaussian of the radius.
    #[test]
    fn taper_has_its_shape() {
        assert_eq!(gaspari_cohn(0.0, 3.0), 1.0);
        assert_eq!(gaspari_cohn(6.0, 3.0), 0.0);
        assert!((gaspari_cohn(1.0, 1.0) - 5.0 / 24.0).abs() < 1e-15);
        assert!((gaspari_cohn(1.0 + 1e-12, 1.0) - 5.0 / 24.0).abs() < 1e-10);
        let values: Vec<f64> = (0..200)
            .map(|i| gaspari_cohn(i as f64 / 100.0, 1.0))
            .collect();
        assert!(values.windows(2).all(|w| w[1] < w[0]));
        let curvature = 2e6 * (1.0 - gaspari_cohn(1e-3, HALF_SUPPORT_PER_RADIUS));
        assert!((curvature - 1.0).abs() < 0.01, "{curvature}");
    }

    /// The ring has no seam: all cells hear the same pattern, turned.
    #[test]
    fn ring_has_no_seam() {
        let positions: Vec<f64> = (0..20).map(f64::from).collect();
        let lists = Localization::try_ring(20, &positions, 2.0).unwrap();
        let pattern = |cell: usize| {
            let mut offsets: Vec<(usize, u64)> = lists
                .heard(cell)
                .iter()
                .map(|(k, rho)| ((k + 20 - cell) % 20, rho.to_bits()))
                .collect();
            offsets.sort_unstable();
            offsets
        };
        assert!((1..20).all(|cell| pattern(cell) == pattern(0)));
        assert!(pattern(0).len() > 3 && pattern(0).len() < 20);
    }

    /// An infinite radius tapers nothing.
    #[test]
    fn infinite_radius_is_unlimited() {
        let positions = [0.0, 3.5, 7.0];
        let ring = Localization::try_ring(8, &positions, f64::INFINITY).unwrap();
        assert_eq!(ring, Localization::unlimited(8, 3));
    }

    /// Positions off the ring and radii that are not positive are refused.
    #[test]
    fn refuses_what_is_off_the_ring() {
        assert!(Localization::try_ring(8, &[8.0], 2.0).is_err());
        assert!(Localization::try_ring(8, &[1.0], 0.0).is_err());
        assert!(Localization::try_ring(8, &[1.0], f64::NAN).is_err());
    }
}
