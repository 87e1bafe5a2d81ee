//! The part of a cross-entropy that each worker computes on its columns of the logits.
//!
//! $$ m = \max_v z_v, \quad \ell = \sum_v e^{z_v - m}, \quad h = z_y \text{ (0 where y is not at hand)}. $$
//!
//! The rows $(m, \ell)$ stand for $e^m \ell$ and merge by log-sum-exp, as attention partials do; $h$ merges
//! by addition. [`CrossEntropy`](super::CrossEntropy) finishes them. With cotangents $(\mu, a)$ and $c$
//!
//! $$ \bar z_v = e^{z_v + \mu} a + [v = y]\, c . $$
//!
//! Source of cutting the vocabulary: Shoeybi et al. (2019), *Megatron-LM*, section 3.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::kernels::{highest, sum_of, wide};
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// Logits `[…, V]` and targets `[…]` (`I64`; negative: none) to scaled rows `[…, 2]` and hits `[…]`;
/// `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct VocabularyPartial;

impl Operator for VocabularyPartial {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "VocabularyPartial";
        let [logits, targets] = inputs else {
            return refuse(NAME, format!("it takes 2 inputs, not {}", inputs.len()));
        };
        let dtype = reals(NAME, &inputs[..1], &[1])?;
        let last = logits.shape.len() - 1;
        if targets.dtype != DType::I64 || targets.shape != logits.shape[..last] {
            return refuse(
                NAME,
                format!("{targets} are not one I64 for each row of {logits}"),
            );
        }
        let mend = "cut logits and targets alike, or the last dimension of the logits alone";
        let placed = |merged: Monoid| {
            layout(NAME, inputs, mend, move |on| match (on[0], on[1]) {
                (Placement::Same, Placement::Same) => Some(Placement::Same),
                (Placement::Split { dim }, other) if dim < last && other == on[0] => Some(on[0]),
                (Placement::Split { dim }, Placement::Same) if dim == last => {
                    Some(Placement::Partial(merged))
                }
                _ => None,
            })
        };
        let rows = [&logits.shape[..last], &[2]].concat();
        let mut rows = Spec::new(rows, dtype, placed(Monoid::LogSumExp)?);
        rows.rows = Rows::Scaled;
        let hits = Spec::new(targets.shape.clone(), dtype, placed(Monoid::Sum)?);
        Ok(vec![rows, hits])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let columns = columns(site, &inputs[1])?;
        with_real!(site, inputs[0].dtype(), T => {
            let width = width(&inputs[0]);
            let mut rows = vec![T::of(0.0); 2 * columns.len()];
            let mut hits = vec![T::of(0.0); columns.len()];
            partials(inputs[0].elements::<T>(), width, &columns, &mut rows, &mut hits);
            let made = vec![
                Shard::new(site.key(), site.output_shape(0), rows.into()),
                Shard::new(site.key(), site.output_shape(1), hits.into()),
            ];
            let bytes = size_of_val(columns.as_slice());
            Ok((made, Saved::new(columns, bytes)))
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let (logits, columns) = (saved.input(site, 0)?, saved.get::<Columns>(site)?);
        with_real!(site, logits.dtype(), T => {
            let width = width(logits);
            let (mut rows, mut hits) = (Vec::new(), Vec::new());
            let logits = logits.elements::<T>().chunks_exact(width);
            let changes = tangents[0].elements::<T>().chunks_exact(width);
            for ((z, dz), column) in logits.zip(changes).zip(columns) {
                let m = highest(z, T::LOWEST);
                let terms = z.iter().zip(dz).map(|(&z, &dz)| (z - m).exponential() * dz);
                let mut sum = T::of(0.0);
                terms.for_each(|term| sum += term);
                rows.extend([m, sum]);
                hits.push(column.map_or(T::of(0.0), |c| dz[c]));
            }
            Ok(vec![
                Shard::new(site.key(), site.output_shape(0), rows.into()),
                Shard::new(site.key(), site.output_shape(1), hits.into()),
            ])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let (logits, columns) = (saved.input(site, 0)?, saved.get::<Columns>(site)?);
        with_real!(site, logits.dtype(), T => {
            let width = width(logits);
            let mut to_logits = logits.elements::<T>().to_vec();
            let (rows, hits) = (cotangents[0].elements::<T>(), cotangents[1].elements::<T>());
            transpose(&mut to_logits, width, rows, hits, columns);
            let to_logits = Shard::new(site.key(), logits.shape.clone(), to_logits.into());
            Ok(vec![Some(to_logits), None])
        })
    }

    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
}

wide! {
    /// Rows (m, Σ exp(z − m)) and hits of rows of logits.
    fn partials<T: Real>(
        logits: &[T], width: usize, columns: &[Option<usize>], rows: &mut [T], hits: &mut [T],
    ) {
        let made = rows.chunks_exact_mut(2).zip(hits);
        for ((z, column), (row, hit)) in logits.chunks_exact(width).zip(columns).zip(made) {
            let m = highest(z, T::LOWEST);
            row[0] = m;
            row[1] = sum_of(z, |z| (z - m).exponential());
            if let Some(column) = column {
                *hit = z[*column];
            }
        }
    }

    /// From logits to their cotangents, in place.
    fn transpose<T: Real>(
        logits: &mut [T], width: usize, rows: &[T], hits: &[T], columns: &[Option<usize>],
    ) {
        let parts = rows.chunks_exact(2).zip(hits).zip(columns);
        for (z, ((row, &hit), column)) in logits.chunks_exact_mut(width).zip(parts) {
            let (level, by) = (row[0], row[1]);
            if level == T::LOWEST || by == T::of(0.0) {
                z.fill(T::of(0.0));
            } else {
                for z in z.iter_mut() {
                    *z = (*z + level).exponential() * by;
                }
            }
            if let Some(column) = column {
                z[*column] += hit;
            }
        }
    }
}

/// The local column of each target where it is at hand.
type Columns = Vec<Option<usize>>;

fn width(logits: &Shard) -> usize {
    logits.shape.last().copied().unwrap_or(1).max(1)
}

fn columns(site: &Site, targets: &Shard) -> Result<Columns> {
    let vocabulary = site.inputs()[0].shape.last().copied().unwrap_or(0);
    let here = site.input_indices(0).pop().unwrap_or_default();
    let first = here.first().copied().unwrap_or(0);
    let columns = targets.elements::<i64>().iter().map(|&target| {
        let Ok(target) = usize::try_from(target) else {
            return Ok(None);
        };
        if target >= vocabulary {
            let why = format!(
                "target {target} is outside the vocabulary of {vocabulary}; check the input"
            );
            return Err(site.error(why));
        }
        Ok(target.checked_sub(first).filter(|c| *c < here.len()))
    });
    columns.collect()
}
