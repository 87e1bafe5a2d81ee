//! Regular latitude–longitude grids.

use crate::OperatorError;

/// Mean radius of the Earth, km (IUGG).
pub const EARTH_RADIUS: f64 = 6371.0088;

/// Great-circle distance in km between two points in degrees, by the haversine formula.
pub fn distance(latitude_a: f64, longitude_a: f64, latitude_b: f64, longitude_b: f64) -> f64 {
    let (a, b) = (latitude_a.to_radians(), latitude_b.to_radians());
    let half = |d: f64| (d / 2.0).sin().powi(2);
    let h = half(b - a) + a.cos() * b.cos() * half((longitude_b - longitude_a).to_radians());
    2.0 * EARTH_RADIUS * h.sqrt().min(1.0).asin()
}

/// A regular grid: rows from south to north, columns from west to east, cells row by row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    south: f64,
    west: f64,
    step: f64,
    rows: usize,
    columns: usize,
}

impl Grid {
    /// A grid whose first cell is centred at (`south`, `west`), degrees north and east, with
    /// `step` degrees between cells.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if the step is not positive, there are fewer than 2 rows or
    /// columns, or a row lies beyond a pole.
    pub fn try_new(
        south: f64,
        west: f64,
        step: f64,
        rows: usize,
        columns: usize,
    ) -> Result<Self, OperatorError> {
        const PLACE: &str = "Grid";
        if !(step > 0.0 && step.is_finite()) {
            return Err(OperatorError::parameter(
                PLACE,
                "step",
                step,
                "positive degrees",
            ));
        }
        if rows < 2 || columns < 2 {
            let got = format!("{rows} x {columns}");
            return Err(OperatorError::parameter(
                PLACE,
                "size",
                got,
                "at least 2 x 2 cells",
            ));
        }
        let north = south + step * (rows - 1) as f64;
        if !(south >= -90.0 && north <= 90.0 + 1e-9) {
            let got = format!("{south} to {north}");
            return Err(OperatorError::parameter(
                PLACE,
                "latitudes",
                got,
                "-90 to 90",
            ));
        }
        Ok(Grid {
            south,
            west,
            step,
            rows,
            columns,
        })
    }

    /// Rows, south to north.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, west to east.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.rows * self.columns
    }

    /// Degrees between cells.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// Latitude of a row, degrees north.
    pub fn latitude(&self, row: usize) -> f64 {
        self.south + self.step * row as f64
    }

    /// Longitude of a column, degrees east.
    pub fn longitude(&self, column: usize) -> f64 {
        self.west + self.step * column as f64
    }

    /// Latitudes of all rows.
    pub fn latitudes(&self) -> Vec<f64> {
        (0..self.rows).map(|r| self.latitude(r)).collect()
    }

    /// Longitudes of all columns.
    pub fn longitudes(&self) -> Vec<f64> {
        (0..self.columns).map(|c| self.longitude(c)).collect()
    }

    /// Row and column of a cell.
    pub fn place(&self, cell: usize) -> (usize, usize) {
        (cell / self.columns, cell % self.columns)
    }

    /// Fractional row and column of a point, `None` outside the outermost cell centres. Longitudes
    /// are taken modulo 360.
    pub fn locate(&self, latitude: f64, longitude: f64) -> Option<(f64, f64)> {
        let row = (latitude - self.south) / self.step;
        let column = (longitude - self.west).rem_euclid(360.0) / self.step;
        // a cell centre on the edge is inside, whatever the rounding
        let clip = |x: f64, n: usize| {
            let last = (n - 1) as f64;
            (x >= -1e-9 && x <= last + 1e-9).then(|| x.clamp(0.0, last))
        };
        Some((clip(row, self.rows)?, clip(column, self.columns)?))
    }

    /// The point on or inside the outermost cell centres that is nearest to a point, in degrees.
    pub fn nearest(&self, latitude: f64, longitude: f64) -> (f64, f64) {
        let (north, wide) = (
            self.latitude(self.rows - 1),
            self.step * (self.columns - 1) as f64,
        );
        let mut east = (longitude - self.west).rem_euclid(360.0);
        if east > wide {
            east = if east - wide < 360.0 - east {
                wide
            } else {
                0.0
            };
        }
        (latitude.clamp(self.south, north), self.west + east)
    }

    /// Rows whose latitude is within `radius` km of `latitude`, as a half-open range.
    pub fn rows_within(&self, latitude: f64, radius: f64) -> std::ops::Range<usize> {
        let degrees = (radius / EARTH_RADIUS).to_degrees();
        let clip = |x: f64| x.clamp(0.0, self.rows as f64) as usize;
        let first = clip(((latitude - degrees - self.south) / self.step).ceil());
        let end = clip(((latitude + degrees - self.south) / self.step).floor() + 1.0);
        first..end.max(first)
    }

    /// Calls `f(cell, km)` for every cell of the given rows within `radius` km of a point, in the
    /// order of cells.
    pub fn for_cells_within(
        &self,
        latitude: f64,
        longitude: f64,
        radius: f64,
        mut f: impl FnMut(usize, f64),
    ) {
        for row in self.rows_within(latitude, radius) {
            for column in 0..self.columns {
                let km = distance(
                    latitude,
                    longitude,
                    self.latitude(row),
                    self.longitude(column),
                );
                if km <= radius {
                    f(row * self.columns + column, km);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances are those of the sphere, across the date line too.
    #[test]
    fn distances_on_the_sphere() {
        let quarter = EARTH_RADIUS * std::f64::consts::FRAC_PI_2;
        assert!((distance(0.0, 0.0, 90.0, 45.0) - quarter).abs() < 1e-9);
        assert!((distance(0.0, 179.0, 0.0, -179.0) - quarter / 45.0).abs() < 1e-9);
        assert_eq!(distance(12.0, 34.0, 12.0, 34.0), 0.0);
    }

    /// The cells within a radius are those of a search over all cells, in order.
    #[test]
    fn cells_within_equal_brute_force() {
        let grid = Grid::try_new(20.0, -130.0, 1.5, 24, 45).unwrap();
        for (lat, lon, radius) in [
            (38.2, -100.3, 320.0),
            (20.0, -130.0, 500.0),
            (80.0, 0.0, 90.0),
        ] {
            let mut found = Vec::new();
            grid.for_cells_within(lat, lon, radius, |cell, _| found.push(cell));
            let all = (0..grid.cells()).filter(|&cell| {
                let (r, c) = grid.place(cell);
                distance(lat, lon, grid.latitude(r), grid.longitude(c)) <= radius
            });
            assert_eq!(found, all.collect::<Vec<_>>());
        }
    }

    /// Points outside the grid have no place on it; 360 degrees make no difference.
    #[test]
    fn locate_knows_the_edges() {
        let grid = Grid::try_new(20.0, -130.0, 1.0, 11, 21).unwrap();
        assert_eq!(grid.locate(20.0, -130.0), Some((0.0, 0.0)));
        assert_eq!(grid.locate(30.0, -110.0 + 360.0), Some((10.0, 20.0)));
        assert_eq!(grid.locate(30.1, -120.0), None);
        assert_eq!(grid.locate(25.0, -130.1), None);
        assert!(Grid::try_new(80.0, 0.0, 1.0, 12, 4).is_err());
    }
}
