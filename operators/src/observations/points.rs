//! The observation operator of many points, as an operator of the adjoint graph.
//!
//! Where the cells of the state are split, each worker adds what its cells contribute and the
//! observations come out as `Partial(Sum)`; their cotangent is `Same`, and scatters into the cells
//! at hand. No worker ever holds the whole state.

use advect_engine::graph::{Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use super::Interpolation;
use crate::network::rules::{layout, reals, refuse};

/// $y_{ip} = H_p(x_i)$ for every member $i$ and point $p$: `[members, cells]` to
/// `[members, points]`, `f64`.
#[derive(Debug, Clone)]
pub struct Points {
    points: Vec<Interpolation>,
    cells: usize,
}

impl Points {
    /// The operator of `points` on a grid of `cells` cells.
    pub fn new(points: Vec<Interpolation>, cells: usize) -> Self {
        Points { points, cells }
    }

    /// Weighted sums over the local cells, `[members, points]`.
    fn sums(&self, site: &Site, states: &Shard) -> Vec<f64> {
        let place = self.local(site);
        let held = site.input_shape(0)[1];
        let states = states.elements::<f64>();
        let members = site.input_shape(0)[0];
        let rows = (0..members).map(|i| &states[i * held..(i + 1) * held]);
        rows.flat_map(|row| {
            let place = &place;
            let at = move |cell: usize| place[cell].map_or(0.0, |local| row[local]);
            self.points.iter().map(move |point| point.tangent(at))
        })
        .collect()
    }

    /// Where each cell is on this worker, if it is here.
    fn local(&self, site: &Site) -> Vec<Option<usize>> {
        let mut place = vec![None; self.cells];
        for (local, &cell) in site.input_indices(0)[1].iter().enumerate() {
            place[cell] = Some(local);
        }
        place
    }
}

impl Operator for Points {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let dtype = reals("Points", inputs, &[2])?;
        let states = &inputs[0];
        if states.shape.len() != 2 || states.shape[1] != self.cells || dtype != DType::F64 {
            return refuse(
                "Points",
                format!("{states} is not [members, {}] of F64", self.cells),
            );
        }
        let outside = self
            .points
            .iter()
            .flat_map(|p| p.corners().cells)
            .any(|c| c >= self.cells);
        if outside {
            return refuse(
                "Points",
                format!("a point lies outside the {} cells", self.cells),
            );
        }
        let mend = "split members (0) or cells (1), or keep the state Same";
        let layout = layout("Points", inputs, mend, |on| match on[0] {
            Placement::Split { dim: 1 } => Some(Placement::Partial(Monoid::Sum)),
            Placement::Same | Placement::Split { dim: 0 } => Some(on[0]),
            _ => None,
        })?;
        Ok(vec![Spec::new(
            [states.shape[0], self.points.len()],
            dtype,
            layout,
        )])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let mut sums = self.sums(site, &inputs[0]);
        // the height correction is added once, by the first worker of every axis that adds
        let sums_on = site.outputs()[0].layout.axes.iter().zip(site.coordinates());
        let first = sums_on.fold(true, |first, (placement, at)| {
            first && (at == 0 || !matches!(placement, Placement::Partial(_)))
        });
        if first {
            let offsets: Vec<f64> = self.points.iter().map(|p| p.apply(|_| 0.0)).collect();
            for row in sums.chunks_exact_mut(self.points.len().max(1)) {
                row.iter_mut()
                    .zip(&offsets)
                    .for_each(|(y, offset)| *y += offset);
            }
        }
        let y = Shard::new(site.key(), site.output_shape(0), sums.into());
        Ok((vec![y], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let sums = self.sums(site, &tangents[0]);
        Ok(vec![Shard::new(
            site.key(),
            site.output_shape(0),
            sums.into(),
        )])
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let place = self.local(site);
        let shape = site.input_shape(0);
        let mut back = vec![0.0; shape[0] * shape[1]];
        let rows = cotangents[0]
            .elements::<f64>()
            .chunks_exact(self.points.len().max(1));
        for (i, row) in rows.enumerate() {
            for (point, &change) in self.points.iter().zip(row) {
                point.adjoint(change, |cell, part| {
                    if let Some(local) = place[cell] {
                        back[i * shape[1] + local] += part;
                    }
                });
            }
        }
        Ok(vec![Some(Shard::new(site.key(), shape, back.into()))])
    }
}
