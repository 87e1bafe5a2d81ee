//! Rows of a table for the first row of an alignment, the sequence that the others are aligned to:
//! $y_{ih} = E_{t_{0i} h}$.
//!
//! | tokens | table | y |
//! |---|---|---|
//! | cut by batch (0) | Same | cut alike |
//! | cut by columns (2) | Same | cut by position (1) |
//! | Same | cut by column (1) | cut by channel (2) |

use advect_engine::graph::{Saved, Site};
use advect_engine::{DType, Mesh, Operator, Placement, Result, Shard, Spec};

use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

const NAME: &str = "FirstRowEmbedding";

/// Tokens `[b, s, l]` (`I64`) and a table `[V, h]` (`f32` or `f64`) to `[b, l, h]`.
#[derive(Debug, Clone, Copy)]
pub struct FirstRowEmbedding;

impl Operator for FirstRowEmbedding {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [tokens, table] = inputs else {
            return refuse(NAME, format!("it takes 2 inputs, not {}", inputs.len()));
        };
        let dtype = reals(NAME, &inputs[1..], &[2])?;
        let (&[b, s, l], &[_, h]) = (tokens.shape.as_slice(), table.shape.as_slice()) else {
            return refuse(
                NAME,
                format!("{tokens} is not [b, s, l], or {table} not [V, h]"),
            );
        };
        if tokens.dtype != DType::I64 || s == 0 {
            return refuse(NAME, format!("{tokens} has no row of I64"));
        }
        let mend =
            "gather the rows first, and cut tokens by batch or columns, or the table by columns";
        let layout = layout(NAME, inputs, mend, |on| {
            use Placement::{Same, Split};
            match (on[0], on[1]) {
                (p @ (Same | Split { dim: 0 }), Same) => Some(p),
                (Split { dim: 2 }, Same) => Some(Split { dim: 1 }),
                (Same, Split { dim: 1 }) => Some(Split { dim: 2 }),
                _ => None,
            }
        })?;
        Ok(vec![Spec::new([b, l, h], dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let rows = rows(site, &inputs[0])?;
        let y = look_up(site, &rows, &inputs[1])?;
        let bytes = size_of_val(rows.as_slice());
        Ok((vec![y], Saved::new(rows, bytes)))
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let rows: &Vec<usize> = saved.get(site)?;
        Ok(vec![look_up(site, rows, &tangents[1])?])
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let rows: &Vec<usize> = saved.get(site)?;
        let shape = site.input_shape(1);
        with_real!(site, cotangents[0].dtype(), T => {
            let width = shape[1].max(1);
            let mut table = vec![T::of(0.0); shape.iter().product()];
            let parts = cotangents[0].elements::<T>().chunks_exact(width);
            for (row, part) in rows.iter().zip(parts) {
                let sums = &mut table[row * width..][..width];
                sums.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
            }
            Ok(vec![None, Some(Shard::new(site.key(), shape, table.into()))])
        })
    }

    fn differentiable(&self, input: usize) -> bool {
        input == 1
    }
}

/// Rows of the table.
fn rows(site: &Site, tokens: &Shard) -> Result<Vec<usize>> {
    let vocabulary = site.inputs()[1].shape[0];
    let (row, batch) = (tokens.shape[2], tokens.shape[1] * tokens.shape[2]);
    let batches = tokens.elements::<i64>().chunks_exact(batch.max(1));
    let rows = batches.flat_map(|batch| &batch[..row]).map(|&token| {
        let found = usize::try_from(token).ok().filter(|row| *row < vocabulary);
        found.ok_or_else(|| {
            site.error(format!(
                "token {token} is outside the table of {vocabulary} rows; check the alphabet of the input"
            ))
        })
    });
    rows.collect()
}

fn look_up(site: &Site, rows: &[usize], table: &Shard) -> Result<Shard> {
    let width = table.shape[1];
    with_real!(site, table.dtype(), T => {
        let table = table.elements::<T>();
        let found = rows.iter().flat_map(|row| &table[row * width..][..width]);
        let y = found.copied().collect();
        Ok(Shard::new(site.key(), site.output_shape(0), T::data(y)))
    })
}
