//! From merged partials to the output of attention: $y = o / \ell$.
//!
//! The rows are scaled ([`Rows::Scaled`](advect_engine::graph::Rows)): for a cotangent
//! $\bar y$ the answer is the row $(-L,\ -\bar y \cdot y,\ \bar y)$ with $L = m + \ln \ell$, which carries the
//! merged level back to every worker whose keys took part. A query that saw no key gives 0. The rows
//! themselves are not kept: y and L are.

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
        with_real!(site, rows.dtype(), T => {
            let (mut y, mut logs): (Vec<T>, Vec<T>) = (Vec::new(), Vec::new());
            for row in rows.elements::<T>().chunks_exact(width(rows)) {
                let by = inverse(row);
                y.extend(row[2..].iter().map(|&o| o * by));
                logs.push(if by == T::of(0.0) { T::LOWEST } else { row[0] + row[1].logarithm() });
            }
            let y = Shard::new(site.key(), site.output_shape(0), y.into());
            let logs = Shard::new(site.key(), vec![logs.len()], T::data(logs));
            Ok((vec![y.clone()], Saved::shards(vec![y, logs])))
        })
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        let changes = &tangents[0];
        with_real!(site, changes.dtype(), T => {
            let mut out: Vec<T> = Vec::new();
            let mut y = kept[0].elements::<T>();
            let rows = changes.elements::<T>().chunks_exact(width(changes));
            for (change, &log) in rows.zip(kept[1].elements::<T>()) {
                let (mine, rest) = y.split_at(change.len() - 2);
                y = rest;
                let live = log != T::LOWEST && change[0] != T::LOWEST;
                let level = if live { (change[0] - log).exponential() } else { T::of(0.0) };
                let pairs = mine.iter().zip(&change[2..]);
                out.extend(pairs.map(|(&y, &d)| level * (d - y * change[1])));
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
        let kept: &Vec<Shard> = saved.get(site)?;
        with_real!(site, cotangents[0].dtype(), T => {
            let shape = site.input_shape(0);
            let mut out: Vec<T> = Vec::with_capacity(shape.iter().product());
            let (mut given, mut y) = (cotangents[0].elements::<T>(), kept[0].elements::<T>());
            let e = shape.last().map_or(0, |width| width - 2);
            for &log in kept[1].elements::<T>() {
                let (mine, rest) = given.split_at(e);
                let (outputs, more) = y.split_at(e);
                (given, y) = (rest, more);
                if log == T::LOWEST {
                    out.push(T::LOWEST);
                    out.resize(out.len() + 1 + e, T::of(0.0));
                    continue;
                }
                let pairs = outputs.iter().zip(mine);
                let mean = pairs.fold(T::of(0.0), |sum, (&y, &d)| sum + y * d);
                out.extend([-log, -mean]);
                out.extend_from_slice(mine);
            }
            Ok(vec![Some(Shard::new(site.key(), shape, out.into()))])
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
