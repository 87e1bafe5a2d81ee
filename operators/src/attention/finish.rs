//! From merged partials to the output of attention: $y = o / \ell$.
//!
//! The rows are scaled ([`Rows::Scaled`](advect_engine::graph::Rows)): for a cotangent
//! $\bar y$ the answer is the row $(-m,\ -\bar y \cdot y / \ell,\ \bar y / \ell)$, which carries
//! the merged $m$ back to every worker whose keys took part. A query that saw no key gives 0.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{Mesh, Operator, Placement, Result, Shard, Spec};

use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// $y = o / \ell$: merged scaled rows `[…, 2 + e]` to `[…, e]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct FinishAttention;

impl Operator for FinishAttention {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "FinishAttention";
        let dtype = reals(NAME, inputs, &[1])?;
        let rows = &inputs[0];
        let last = rows.shape.len() - 1;
        if rows.rows != Rows::Scaled || rows.shape[last] < 2 {
            return refuse(NAME, format!("{rows} holds no rows (m, l, o)"));
        }
        let mend = "merge the partials first: relayout them to Same or to a split";
        let layout = layout(NAME, inputs, mend, |on| match on[0] {
            Placement::Same | Placement::Split { .. } => Some(on[0]),
            _ => None,
        })?;
        let mut shape = rows.shape.clone();
        shape[last] -= 2;
        Ok(vec![Spec::new(shape, dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let rows = &inputs[0];
        let y = with_real!(site, rows.dtype(), T => {
            let mut y: Vec<T> = Vec::new();
            for row in rows.elements::<T>().chunks_exact(width(rows)) {
                let by = inverse(row);
                y.extend(row[2..].iter().map(|&o| o * by));
            }
            Ok(Shard::new(site.key(), site.output_shape(0), y.into()))
        })?;
        Ok((vec![y], Saved::nothing()))
    }

    fn keeps(&self) -> &[usize] {
        &[0]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let rows = saved.input(site, 0)?;
        with_real!(site, rows.dtype(), T => {
            let mut out: Vec<T> = Vec::new();
            let changes = tangents[0].elements::<T>().chunks_exact(width(rows));
            for (row, change) in rows.elements::<T>().chunks_exact(width(rows)).zip(changes) {
                let by = inverse(row);
                let live = by != T::of(0.0) && change[0] != T::LOWEST;
                let level = if live { (change[0] - row[0]).exponential() * by } else { T::of(0.0) };
                let pairs = row[2..].iter().zip(&change[2..]);
                out.extend(pairs.map(|(&o, &d)| level * (d - o * by * change[1])));
            }
            Ok(vec![Shard::new(site.key(), site.output_shape(0), out.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let rows = saved.input(site, 0)?;
        with_real!(site, rows.dtype(), T => {
            let mut out: Vec<T> = Vec::with_capacity(rows.len());
            let mut given = cotangents[0].elements::<T>();
            for row in rows.elements::<T>().chunks_exact(width(rows)) {
                let (mine, rest) = given.split_at(row.len() - 2);
                given = rest;
                let by = inverse(row);
                if by == T::of(0.0) {
                    out.push(T::LOWEST);
                    out.resize(out.len() + row.len() - 1, T::of(0.0));
                    continue;
                }
                let pairs = row[2..].iter().zip(mine);
                let mean = pairs.fold(T::of(0.0), |sum, (&o, &d)| sum + o * by * d);
                out.extend([-row[0], -mean * by]);
                out.extend(mine.iter().map(|&d| d * by));
            }
            Ok(vec![Some(Shard::new(site.key(), rows.shape.clone(), out.into()))])
        })
    }
}

fn width(rows: &Shard) -> usize {
    rows.shape.last().copied().unwrap_or(0).max(2)
}

/// $1 / \ell$, or 0 for a row that has seen nothing.
fn inverse<T: Real>(row: &[T]) -> T {
    if row[0] == T::LOWEST || row[1] == T::of(0.0) {
        T::of(0.0)
    } else {
        T::of(1.0) / row[1]
    }
}
