//! Fields of latitude and longitude, sampled anywhere.

use crate::error::{PipelineError, Result};

/// A field on a regular grid, rows from south to north, each from west to east.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    south: f64,
    west: f64,
    /// Degrees from a row to the next and from a column to the next.
    step: (f64, f64),
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Grid {
    /// A field of `rows * columns` values whose first lies at (`south`, `west`), in degrees;
    /// `step` is (degrees of latitude, degrees of longitude). Missing values are NaN.
    ///
    /// # Errors
    /// If the number of values is wrong, a step is not positive, or there are fewer than two rows
    /// or columns.
    pub fn try_new(
        (south, west): (f64, f64),
        step: (f64, f64),
        (rows, columns): (usize, usize),
        values: Vec<f32>,
    ) -> Result<Self> {
        let fits = rows >= 2 && columns >= 2 && rows.checked_mul(columns) == Some(values.len());
        let finite = [south, west, step.0, step.1].iter().all(|v| v.is_finite());
        if !(fits && finite && step.0 > 0.0 && step.1 > 0.0) {
            return Err(PipelineError::Failed {
                pipeline: "plot".to_owned(),
                why: format!(
                    "a grid of {rows} x {columns} from ({south}, {west}) by {step:?} with {} \
                     values; give at least 2 x 2, positive steps and one value a node",
                    values.len()
                ),
            });
        }
        Ok(Self {
            south,
            west,
            step,
            rows,
            columns,
            values,
        })
    }

    /// South, west, north and east edges, in degrees: those of the nodes.
    pub fn edges(&self) -> (f64, f64, f64, f64) {
        let north = self.south + self.step.0 * (self.rows - 1) as f64;
        let east = self.west + self.step.1 * (self.columns - 1) as f64;
        (self.south, self.west, north, east)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.values.iter().map(|&v| f64::from(v))
    }

    /// Whether the columns go all around the earth.
    fn is_round(&self) -> bool {
        (self.step.1 * self.columns as f64 - 360.0).abs() < 1e-6
    }

    /// The value at a place by cubic convolution (Keys 1981, a = −1/2), linear where a neighbour
    /// is missing; `None` outside the grid or where a nearest node is missing.
    pub fn sample(&self, latitude: f64, longitude: f64) -> Option<f64> {
        let y = (latitude - self.south) / self.step.0;
        let x = (longitude - self.west).rem_euclid(360.0) / self.step.1;
        // a place a hair west of the first column is not 360 degrees east of it
        let around = 360.0 / self.step.1;
        let x = if around - x < 1e-9 { 0.0 } else { x };
        let last_column = if self.is_round() {
            self.columns
        } else {
            self.columns - 1
        };
        let (last_row, slack) = ((self.rows - 1) as f64, 1e-9);
        if !(y >= -slack && y <= last_row + slack && x <= last_column as f64 + slack) {
            return None;
        }
        let row = (y.max(0.0) as usize).min(self.rows - 2);
        let column = (x as usize).min(last_column - 1);
        let (ty, tx) = (y - row as f64, x - column as f64);
        let linear = |t: f64| [0.0, 1.0 - t, t, 0.0];
        // at the edge there is no neighbour beyond to bend towards
        let inner = |at: usize, count: usize| at > 0 && at + 2 < count;
        let wy = if inner(row, self.rows) {
            cubic(ty)
        } else {
            linear(ty)
        };
        let bends = self.is_round() || inner(column, self.columns);
        let wx = if bends { cubic(tx) } else { linear(tx) };
        let smooth = self.weighted(row, column, wy, wx);
        smooth.or_else(|| self.weighted(row, column, linear(ty), linear(tx)))
    }

    /// For a share of land: the same with the sea made land, so that lakes remain. The sea is the
    /// largest connected water, and on a part of the earth any that reaches the edge.
    pub(crate) fn lakes(&self) -> Grid {
        let mut body = vec![0u32; self.values.len()];
        let (mut largest, mut bodies) = ((0, 0), 0);
        let mut open_to_sea = vec![true];
        for start in 0..body.len() {
            if body[start] > 0 || self.values[start] >= 0.5 {
                continue;
            }
            bodies += 1;
            let (mut open, mut size, mut edge) = (vec![start], 0, false);
            body[start] = bodies;
            while let Some(at) = open.pop() {
                size += 1;
                edge |= !self.is_round() && self.beside(at).contains(&None);
                for next in self.beside(at).into_iter().flatten() {
                    if body[next] == 0 && self.values[next] < 0.5 {
                        body[next] = bodies;
                        open.push(next);
                    }
                }
            }
            open_to_sea.push(edge);
            largest = largest.max((size, bodies));
        }
        let mut lakes = self.clone();
        for (value, body) in lakes.values.iter_mut().zip(&body) {
            if *body > 0 && (*body == largest.1 || open_to_sea[*body as usize]) {
                *value = 1.0;
            }
        }
        lakes
    }

    /// The four nodes beside a node.
    fn beside(&self, at: usize) -> [Option<usize>; 4] {
        let (row, column) = (at / self.columns, at % self.columns);
        let round = self.is_round();
        let first = row * self.columns;
        let last = first + self.columns - 1;
        [
            (row > 0).then(|| at - self.columns),
            (row + 1 < self.rows).then(|| at + self.columns),
            if column > 0 {
                Some(at - 1)
            } else {
                round.then_some(last)
            },
            if at < last {
                Some(at + 1)
            } else {
                round.then_some(first)
            },
        ]
    }

    /// The sum over the 4 x 4 nodes around a cell; `None` if one that counts is missing.
    fn weighted(&self, row: usize, column: usize, wy: [f64; 4], wx: [f64; 4]) -> Option<f64> {
        let mut sum = 0.0;
        for (j, wy) in wy.iter().enumerate() {
            // rows beyond the edge repeat the last one, columns go around or repeat
            let r = (row + j).saturating_sub(1).min(self.rows - 1);
            for (i, wx) in wx.iter().enumerate() {
                let c = if self.is_round() {
                    (column + i + self.columns - 1) % self.columns
                } else {
                    (column + i).saturating_sub(1).min(self.columns - 1)
                };
                let weight = wy * wx;
                if weight != 0.0 {
                    let value = f64::from(self.values[r * self.columns + c]);
                    if value.is_nan() {
                        return None;
                    }
                    sum += weight * value;
                }
            }
        }
        Some(sum)
    }
}

fn cubic(t: f64) -> [f64; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [
        -0.5 * t3 + t2 - 0.5 * t,
        1.5 * t3 - 2.5 * t2 + 1.0,
        -1.5 * t3 + 2.0 * t2 + 0.5 * t,
        0.5 * t3 - 0.5 * t2,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(round: bool) -> Grid {
        let (columns, step) = if round { (12, 30.0) } else { (7, 2.0) };
        let values = (0..5 * columns)
            .map(|i| (i / columns) as f32 * 10.0)
            .collect();
        Grid::try_new((20.0, -10.0), (1.0, step), (5, columns), values).unwrap()
    }

    #[test]
    fn a_plane_is_sampled_exactly_inside_and_not_outside() {
        let grid = plane(false);
        assert!((grid.sample(21.5, -3.3).unwrap() - 15.0).abs() < 1e-9);
        assert_eq!(grid.sample(20.0, -10.0), Some(0.0));
        assert_eq!(grid.sample(24.0, 2.0), Some(40.0));
        assert_eq!(grid.sample(24.1, 0.0), None);
        assert_eq!(grid.sample(22.0, 2.1), None);
        assert_eq!(grid.sample(22.0, -10.1), None);
        // the same meridian by another number
        assert_eq!(grid.sample(21.0, 355.0), grid.sample(21.0, -5.0));
    }

    #[test]
    fn a_round_grid_has_no_seam() {
        assert!(plane(true).sample(22.0, -20.0).is_some());
        assert!(plane(true).sample(22.0, 349.9).is_some());
    }

    #[test]
    fn a_missing_node_is_missing_and_no_more() {
        let mut grid = plane(false);
        grid.values[8] = f32::NAN;
        assert_eq!(grid.sample(21.2, -8.2), None);
        assert!((grid.sample(23.5, -3.0).unwrap() - 35.0).abs() < 1e-9);
        assert!((grid.sample(22.5, -7.0).unwrap() - 25.0).abs() < 1e-9);
    }

    #[test]
    fn lakes_are_what_remains_when_the_sea_is_taken() {
        let land = [0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0];
        let values = land.iter().map(|&v| v as f32).collect();
        let grid = Grid::try_new((0.0, 0.0), (1.0, 1.0), (4, 4), values).unwrap();
        let water: Vec<_> = grid
            .lakes()
            .values()
            .enumerate()
            .filter(|(_, v)| *v < 0.5)
            .collect();
        assert_eq!(water, [(9, 0.0)]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(Grid::try_new((0.0, 0.0), (1.0, 1.0), (2, 2), vec![0.0; 5]).is_err());
        assert!(Grid::try_new((0.0, 0.0), (0.0, 1.0), (2, 2), vec![0.0; 4]).is_err());
        assert!(Grid::try_new((0.0, 0.0), (1.0, 1.0), (1, 4), vec![0.0; 4]).is_err());
    }
}
