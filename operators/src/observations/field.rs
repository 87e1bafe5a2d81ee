//! A fixed field on a regular grid, read anywhere by bilinear interpolation: relief, land fraction.

use std::sync::Arc;

use super::{Corners, Grid};
use crate::OperatorError;

/// A fixed field; clones share the values.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    grid: Grid,
    values: Arc<Vec<f64>>,
}

impl Field {
    /// The field with `values` by cell, `[rows * columns]`.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Shape`] if there is not one value a cell.
    pub fn try_new(grid: Grid, values: Vec<f64>) -> Result<Self, OperatorError> {
        let mend = "give one value for every cell, row by row from the south-west";
        OperatorError::check_length("Field", "values", values.len(), grid.cells(), mend)?;
        Ok(Field {
            grid,
            values: Arc::new(values),
        })
    }

    /// The grid.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The values, `[rows * columns]`.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The value at a point in degrees; outside the grid that of the nearest point on its edge.
    pub fn at(&self, latitude: f64, longitude: f64) -> f64 {
        let (latitude, longitude) = self.grid.nearest(latitude, longitude);
        Corners::around(&self.grid, latitude, longitude).map_or(f64::NAN, |corners| {
            let terms = corners.cells.iter().zip(corners.weights);
            terms.map(|(&cell, w)| w * self.values[cell]).sum()
        })
    }

    /// The running mean over `2 * reach + 1` cells along both dimensions, narrower at the edges.
    #[must_use]
    pub fn smoothed(&self, reach: usize) -> Self {
        let (rows, columns) = (self.grid.rows(), self.grid.columns());
        let pass = |from: &[f64], long: usize, at: &dyn Fn(usize, usize) -> usize, lines: usize| {
            let mut to = vec![0.0; from.len()];
            for line in 0..lines {
                for i in 0..long {
                    let window = i.saturating_sub(reach)..(i + reach + 1).min(long);
                    let count = window.len() as f64;
                    to[at(line, i)] = window.map(|j| from[at(line, j)]).sum::<f64>() / count;
                }
            }
            to
        };
        let along = pass(&self.values, columns, &|row, i| row * columns + i, rows);
        let both = pass(&along, rows, &|column, i| i * columns + column, columns);
        Field {
            grid: self.grid,
            values: Arc::new(both),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A linear field is read exactly inside, its edge is read outside, and smoothing keeps it
    /// away from the edges.
    #[test]
    fn linear_fields_are_exact() {
        let grid = Grid::try_new(10.0, -20.0, 0.5, 21, 31).unwrap();
        let linear = |lat: f64, lon: f64| 3.0 * lat - lon;
        let values = (0..grid.cells())
            .map(|c| {
                let (row, column) = grid.place(c);
                linear(grid.latitude(row), grid.longitude(column))
            })
            .collect();
        let field = Field::try_new(grid, values).unwrap();
        assert!((field.at(13.21, -11.7) - linear(13.21, -11.7)).abs() < 1e-12);
        assert!((field.at(99.0, -11.7) - linear(20.0, -11.7)).abs() < 1e-12);
        assert!((field.at(13.0, -50.0) - linear(13.0, -20.0)).abs() < 1e-12);
        assert!((field.smoothed(2).at(15.2, -12.3) - linear(15.2, -12.3)).abs() < 1e-12);
        assert!(Field::try_new(grid, vec![0.0; 3]).is_err());
    }
}
