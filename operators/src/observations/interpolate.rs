//! The observation operator of a surface scalar: bilinear in space, height by lapse rate.
//!
//! $$ H(x) = \sum_{c} \omega_c\, \big(x_c - \gamma\,(z - z_c)\big), \qquad \sum_c \omega_c = 1, $$
//!
//! over the four cells around the point, with heights $z$ of the point and $z_c$ of the cells and
//! the lapse rate $\gamma$ (K/m). $H$ is affine in $x$: its tangent is the weighted sum alone and
//! its adjoint scatters $\omega_c$ back. Between two fields in time, [`linear_in_time`] gives the
//! weights of both.

use super::Grid;

/// The four cells around a point and their weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corners {
    /// Cells, south-west, south-east, north-west, north-east.
    pub cells: [usize; 4],
    /// Bilinear weights, non-negative, with sum 1.
    pub weights: [f64; 4],
}

impl Corners {
    /// The cells around a point in degrees, `None` outside the grid.
    pub fn around(grid: &Grid, latitude: f64, longitude: f64) -> Option<Self> {
        let (row, column) = grid.locate(latitude, longitude)?;
        let (r, c) = (
            (row as usize).min(grid.rows() - 2),
            (column as usize).min(grid.columns() - 2),
        );
        let (v, u) = (row - r as f64, column - c as f64);
        let first = r * grid.columns() + c;
        let above = first + grid.columns();
        Some(Corners {
            cells: [first, first + 1, above, above + 1],
            weights: [(1.0 - v) * (1.0 - u), (1.0 - v) * u, v * (1.0 - u), v * u],
        })
    }
}

/// The observation operator at one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interpolation {
    corners: Corners,
    offset: f64,
}

impl Interpolation {
    /// The operator at a point whose height is `above` metres over the interpolated height of the
    /// cells, with `lapse_rate` in units of the state per metre (K/m).
    pub fn new(corners: Corners, above: f64, lapse_rate: f64) -> Self {
        Interpolation {
            corners,
            offset: -lapse_rate * above,
        }
    }

    /// The cells around the point.
    pub fn corners(&self) -> &Corners {
        &self.corners
    }

    /// $H(x)$ for a state given by cell.
    pub fn apply(&self, state: impl Fn(usize) -> f64) -> f64 {
        self.tangent(state) + self.offset
    }

    /// $H' \delta x$: the same without the height correction.
    pub fn tangent(&self, change: impl Fn(usize) -> f64) -> f64 {
        let terms = self.corners.cells.iter().zip(self.corners.weights);
        terms.map(|(&cell, w)| w * change(cell)).sum()
    }

    /// $H'^{\top} \delta y$: gives `add(cell, part)` for the four cells.
    pub fn adjoint(&self, change: f64, mut add: impl FnMut(usize, f64)) {
        for (&cell, w) in self.corners.cells.iter().zip(self.corners.weights) {
            add(cell, w * change);
        }
    }
}

/// The weights of an earlier and a later field at `time` between them, all in one unit; outside
/// the interval the nearer field counts alone.
pub fn linear_in_time(time: f64, earlier: f64, later: f64) -> (f64, f64) {
    if later <= earlier {
        return (1.0, 0.0);
    }
    let w = ((time - earlier) / (later - earlier)).clamp(0.0, 1.0);
    (1.0 - w, w)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid::try_new(30.0, -100.0, 0.5, 7, 9).unwrap()
    }

    /// ⟨H' dx, dy⟩ = ⟨dx, H'ᵀ dy⟩, at the edges and corners of the grid too.
    #[test]
    fn adjoint_dot_product() {
        for (lat, lon) in [
            (30.0, -100.0),
            (33.0, -96.0),
            (31.234, -97.777),
            (33.0, -99.1),
        ] {
            let h = Interpolation::new(Corners::around(&grid(), lat, lon).unwrap(), 120.0, 6.5e-3);
            let dx: Vec<f64> = (0..63).map(|i| ((i * 37 % 101) as f64).sin()).collect();
            let dy = 0.731;
            let mut back = vec![0.0; 63];
            h.adjoint(dy, |cell, part| back[cell] += part);
            let left = h.tangent(|c| dx[c]) * dy;
            let right: f64 = dx.iter().zip(&back).map(|(a, b)| a * b).sum();
            assert!((left - right).abs() < 1e-15);
        }
    }

    /// A field that is linear in both coordinates is reproduced; the height correction is exact.
    #[test]
    fn reproduces_linear_fields() {
        let g = grid();
        let field = |cell: usize| {
            let (r, c) = g.place(cell);
            2.0 * g.latitude(r) - 0.5 * g.longitude(c)
        };
        for (lat, lon) in [(30.0, -100.0), (32.9, -96.3), (33.0, -96.0)] {
            let corners = Corners::around(&g, lat, lon).unwrap();
            let h = Interpolation::new(corners, 100.0, 6.5e-3);
            assert!((h.apply(field) - (2.0 * lat - 0.5 * lon - 0.65)).abs() < 1e-12);
        }
        assert_eq!(Corners::around(&g, 33.01, -97.0), None);
        assert_eq!(linear_in_time(3.0, 2.0, 6.0), (0.75, 0.25));
        assert_eq!(linear_in_time(9.0, 2.0, 6.0), (0.0, 1.0));
    }
}
