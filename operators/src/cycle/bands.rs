//! Which worker holds which rows of the grid, and which reports concern it.

use std::ops::Range;

use advect_engine::{Layout, Mesh, Placement};

use crate::observations::{Corners, Grid, Report};

/// The bands of rows of a grid over the workers: `Split` of the first dimension.
#[derive(Debug, Clone)]
pub struct Bands {
    grid: Grid,
    rows: Vec<Range<usize>>,
}

impl Bands {
    /// The bands of `grid` over `workers` workers.
    pub fn new(grid: Grid, workers: usize) -> Self {
        let mesh = Mesh::line("space", workers);
        let split = Layout::new([Placement::Split { dim: 0 }]);
        let shape = [grid.rows(), grid.columns()];
        let rows = (0..mesh.workers()).map(|w| {
            let mut runs = split.owned(&mesh, &shape, w).swap_remove(0);
            runs.pop().unwrap_or(0..0)
        });
        Bands {
            grid,
            rows: rows.collect(),
        }
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.rows.len()
    }

    /// Rows of a worker; may be empty.
    pub fn rows(&self, worker: usize) -> Range<usize> {
        self.rows[worker].clone()
    }

    /// Worker that holds a row.
    pub fn of_row(&self, row: usize) -> usize {
        self.rows.iter().position(|r| r.contains(&row)).unwrap_or(0)
    }

    /// Worker that holds a cell.
    pub fn of_cell(&self, cell: usize) -> usize {
        self.of_row(cell / self.grid.columns())
    }

    /// Worker that a report belongs to: the one with the row south of it. Reports off the grid
    /// belong to the first.
    pub fn home(&self, report: &Report) -> usize {
        self.home_of(report.latitude(), report.longitude())
    }

    /// Worker that a point in degrees belongs to.
    pub fn home_of(&self, latitude: f64, longitude: f64) -> usize {
        Corners::around(&self.grid, latitude, longitude).map_or(0, |c| self.of_cell(c.cells[0]))
    }

    /// Workers whose reports may have this one as a neighbour within `radius` km, its own among
    /// them, in order. A report south of row r is at home with row r, so one more row counts.
    pub fn audience(&self, report: &Report, radius: f64) -> Vec<usize> {
        let home = self.home(report);
        let near = self.grid.rows_within(report.latitude(), radius);
        let near = near.start.saturating_sub(1)..near.end;
        let touches = |w: &usize| {
            let r = &self.rows[*w];
            *w == home || (r.start < near.end && near.start < r.end)
        };
        (0..self.workers()).filter(touches).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observations::grid::distance;

    /// Any two reports within the radius have each other in their audience, for any number of
    /// workers: no neighbour is missed at the seam of two bands.
    #[test]
    fn no_neighbour_is_missed_at_a_seam() {
        let grid = Grid::try_new(20.0, -130.0, 1.0, 30, 60).unwrap();
        let reports: Vec<Report> = (0..300)
            .map(|i| Report {
                cycle: 0,
                station: format!("{i}"),
                order: 0,
                time: 0,
                latitude: 2_000_000 + i * 9_631 % 2_900_000,
                longitude: -13_000_000 + i * 77_773 % 5_900_000,
                elevation: None,
                value: 0,
            })
            .collect();
        for workers in [1, 2, 3, 8, 40] {
            let bands = Bands::new(grid, workers);
            for a in &reports {
                let audience = bands.audience(a, 250.0);
                assert!(audience.contains(&bands.home(a)));
                for b in &reports {
                    let km = distance(a.latitude(), a.longitude(), b.latitude(), b.longitude());
                    if km <= 250.0 {
                        assert!(audience.contains(&bands.home(b)), "{workers} workers");
                    }
                }
            }
        }
    }
}
