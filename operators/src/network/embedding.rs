//! Rows of a table by number: $y_{\ldots h} = E_{i_{\ldots} h}$.
//!
//! | ids | table | y | known as |
//! |---|---|---|---|
//! | cut | Same | cut alike | data (and sequence) parallel |
//! | Same | cut by row (0) | Partial(Sum) | vocabulary parallel |
//! | Same | cut by column | cut alike | |
//!
//! A worker gives zeros for the rows of others, so that the sum over workers is the row. Source: Shoeybi
//! et al. (2019), *Megatron-LM*, section 3.

use advect_engine::graph::{Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};

/// ids `[…]` (`I64`) and a table `[V, h…]` (`f32` or `f64`) to `[…, h…]`.
#[derive(Debug, Clone, Copy)]
pub struct Embedding;

impl Operator for Embedding {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Embedding";
        let [ids, table] = inputs else {
            return refuse(NAME, format!("it takes 2 inputs, not {}", inputs.len()));
        };
        let dtype = reals(NAME, &inputs[1..], &[1])?;
        if ids.dtype != DType::I64 {
            return refuse(NAME, format!("{ids} are no numbers of rows; give I64"));
        }
        let rank = ids.shape.len();
        let mend = "cut the ids beside a table that is Same, or the table beside ids that are";
        let layout = layout(NAME, inputs, mend, |on| match (on[0], on[1]) {
            (cut @ (Placement::Same | Placement::Split { .. }), Placement::Same) => Some(cut),
            (Placement::Same, Placement::Split { dim: 0 }) => Some(Placement::Partial(Monoid::Sum)),
            (Placement::Same, Placement::Split { dim }) => Some(Placement::Split {
                dim: rank + dim - 1,
            }),
            _ => None,
        })?;
        let shape = [&ids.shape, &table.shape[1..]].concat();
        Ok(vec![Spec::new(shape, dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let rows = rows(site, &inputs[0])?;
        let y =
            with_real!(site, inputs[1].dtype(), T => Ok(look_up::<T>(site, &rows, &inputs[1])))?;
        let bytes = size_of_val(rows.as_slice());
        Ok((vec![y], Saved::new(rows, bytes)))
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let rows: &Vec<Option<usize>> = saved.get(site)?;
        let table = &tangents[1];
        with_real!(site, table.dtype(), T => Ok(vec![look_up::<T>(site, rows, table)]))
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let rows: &Vec<Option<usize>> = saved.get(site)?;
        let shape = site.input_shape(1);
        let width = shape[1..].iter().product::<usize>();
        with_real!(site, cotangents[0].dtype(), T => {
            let mut table = vec![T::of(0.0); shape.iter().product()];
            let parts = cotangents[0].elements::<T>().chunks_exact(width.max(1));
            for (row, part) in rows.iter().zip(parts) {
                if let Some(row) = row {
                    let sums = &mut table[row * width..][..width];
                    sums.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
                }
            }
            Ok(vec![None, Some(Shard::new(site.key(), shape, table.into()))])
        })
    }

    fn differentiable(&self, input: usize) -> bool {
        input == 1
    }
}

/// Local rows of the table, `None` where another worker holds them.
fn rows(site: &Site, ids: &Shard) -> Result<Vec<Option<usize>>> {
    let vocabulary = site.inputs()[1].shape[0];
    let here = site.input_indices(1).swap_remove(0);
    let first = here.first().copied().unwrap_or(0);
    let rows = ids.elements::<i64>().iter().map(|&id| {
        let id = usize::try_from(id).ok().filter(|id| *id < vocabulary);
        let id = id.ok_or_else(|| {
            site.error(format!(
                "an id is outside the table of {vocabulary} rows; check the vocabulary of the input"
            ))
        })?;
        Ok(id.checked_sub(first).filter(|row| *row < here.len()))
    });
    rows.collect()
}

fn look_up<T: Real>(site: &Site, rows: &[Option<usize>], table: &Shard) -> Shard {
    let width = table.shape[1..].iter().product::<usize>();
    let table = table.elements::<T>();
    let mut y = Vec::with_capacity(rows.len() * width);
    for row in rows {
        match row {
            Some(row) => y.extend_from_slice(&table[row * width..][..width]),
            None => y.resize(y.len() + width, T::of(0.0)),
        }
    }
    Shard::new(site.key(), site.output_shape(0), T::data(y))
}
