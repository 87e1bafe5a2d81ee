//! The linear map $y = x W$ over the last dimension, on whole and cut weights.
//!
//! $$ y_{\ldots m} = \sum_k x_{\ldots k} W_{km}, \qquad
//!    \bar x = \bar y\, W^\top, \qquad \bar W = \sum_{\ldots} x^\top \bar y . $$
//!
//! | x | W | y | known as |
//! |---|---|---|---|
//! | cut before the last dimension | Same | as x | data (and sequence) parallel |
//! | Same | cut by column (1) | cut by the last dimension | column parallel |
//! | cut by the last dimension | cut by row (0) | Partial(Sum) | row parallel |
//! | Same | Same | Same | replicated |
//! | Partial(Sum) in one of them | Same | Partial(Sum) | |
//!
//! The gradient of a replicated weight comes out as `Partial(Sum)`; its all-reduce, or
//! reduce-scatter, is the relayout that the user chooses. Source of the two cuts: Shoeybi et al.
//! (2019), *Megatron-LM*, section 3.

use advect_engine::graph::{Saved, Site};
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};

/// $y = x W$: x `[…, k]`, W `[k, m]`, y `[…, m]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct Linear;

const SUM: Placement = Placement::Partial(Monoid::Sum);

impl Operator for Linear {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let dtype = reals("Linear", inputs, &[1, 2])?;
        let (x, w) = (&inputs[0], &inputs[1]);
        let last = x.shape.len() - 1;
        let &[k, m] = w.shape.as_slice() else {
            return refuse("Linear", format!("the weight {w} is not a matrix"));
        };
        if x.shape[last] != k {
            return refuse(
                "Linear",
                format!("the last extent of {x} is not the first of {w}"),
            );
        }
        let mend = "cut x before its last dimension beside a weight that is Same, or keep x Same \
                    beside columns (dimension 1), or cut the last dimension of x beside rows (0)";
        let layout = layout("Linear", inputs, mend, |on| match (on[0], on[1]) {
            (Placement::Same, Placement::Same) => Some(Placement::Same),
            (Placement::Same, Placement::Split { dim: 1 }) => Some(Placement::Split { dim: last }),
            (Placement::Split { dim }, Placement::Split { dim: 0 }) if dim == last => Some(SUM),
            (SUM, Placement::Same) | (Placement::Same, SUM) => Some(SUM),
            (cut, Placement::Same) if cut.dim().is_some_and(|dim| dim < last) => Some(cut),
            _ => None,
        })?;
        let mut shape = x.shape.clone();
        shape[last] = m;
        Ok(vec![Spec::new(shape, dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let y = with_real!(site, inputs[0].dtype(), T => {
            Ok(times::<T>(site, &inputs[0], &inputs[1]))
        })?;
        Ok((vec![y], Saved::shards(inputs.to_vec())))
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        with_real!(site, kept[0].dtype(), T => {
            let by_x = times::<T>(site, &tangents[0], &kept[1]);
            let by_w = times::<T>(site, &kept[0], &tangents[1]);
            let pairs = by_x.elements::<T>().iter().zip(by_w.elements::<T>());
            let sum: Vec<T> = pairs.map(|(&a, &b)| a + b).collect();
            Ok(vec![Shard::new(site.key(), by_x.shape, sum.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        with_real!(site, kept[0].dtype(), T => {
            let (x, w) = (matrix::<T>(&kept[0]), matrix::<T>(&kept[1]));
            let y = matrix::<T>(&cotangents[0]);
            let to_x = wanted[0].then(|| product(site, &kept[0].shape, y, w.transpose()));
            let to_w = wanted[1].then(|| product(site, &kept[1].shape, x.transpose(), y));
            Ok(vec![to_x, to_w])
        })
    }
}

/// A shard as a matrix whose columns are the last dimension.
fn matrix<T: Real>(shard: &Shard) -> MatRef<'_, T> {
    let columns = shard.shape.last().copied().unwrap_or(1);
    let rows = shard.shape.iter().rev().skip(1).product();
    MatRef::from_row_major_slice(shard.elements::<T>(), rows, columns)
}

fn times<T: Real>(site: &Site, x: &Shard, w: &Shard) -> Shard {
    product::<T>(site, &site.output_shape(0), matrix(x), matrix(w))
}

/// `a b` as a shard of the given shape.
fn product<T: Real>(site: &Site, shape: &[usize], a: MatRef<'_, T>, b: MatRef<'_, T>) -> Shard {
    let (rows, columns) = (a.nrows(), b.ncols());
    let mut out = vec![T::of(0.0); rows * columns];
    let into = MatMut::from_row_major_slice_mut(&mut out, rows, columns);
    matmul(into, Accum::Replace, a, b, T::of(1.0), Par::Seq);
    Shard::new(site.key(), shape.to_vec(), T::data(out))
}
