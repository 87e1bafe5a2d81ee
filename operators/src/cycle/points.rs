//! Which points a worker analyses: the cells of its band, then the sites in it.

use std::rc::Rc;

use super::bands::Bands;
use super::settings::Settings;

/// The analysed points over the workers; a point is a cell, or a site behind the last cell.
#[derive(Debug, Clone)]
pub struct Points {
    bands: Bands,
    settings: Rc<Settings>,
}

impl Points {
    /// The points of `settings` over the bands.
    pub fn new(settings: &Rc<Settings>, bands: &Bands) -> Self {
        Points {
            bands: bands.clone(),
            settings: Rc::clone(settings),
        }
    }

    /// Worker that analyses a point.
    pub fn home(&self, point: usize) -> usize {
        match point.checked_sub(self.settings.grid.cells()) {
            None => self.bands.of_cell(point),
            Some(site) => {
                let site = &self.settings.sites[site];
                self.bands.home_of(site.latitude, site.longitude)
            }
        }
    }

    /// Cells of a worker, in order.
    pub fn cells(&self, worker: usize) -> Rc<Vec<u64>> {
        let (rows, columns) = (self.bands.rows(worker), self.settings.grid.columns());
        Rc::new(
            (rows.start * columns..rows.end * columns)
                .map(|c| c as u64)
                .collect(),
        )
    }

    /// Sites of a worker, in order, as points.
    pub fn sites(&self, worker: usize) -> Rc<Vec<u64>> {
        let sites = self.settings.grid.cells()..self.settings.points();
        Rc::new(
            sites
                .filter(|&p| self.home(p) == worker)
                .map(|p| p as u64)
                .collect(),
        )
    }
}
