//! The linear map $y = x W$ over the last dimensions of x, on whole and cut weights.
//!
//! $$ y_{\ldots m} = \sum_k x_{\ldots k} W_{km}, \qquad
//!    \bar x = \bar y\, W^\top, \qquad \bar W = \sum_{\ldots} x^\top \bar y . $$
//!
//! k and m may each be several dimensions: a projection to heads is `[h] → [heads, d]`, so that whole
//! heads are cut, however many there are and whatever d is.
//!
//! | x | W | y | known as |
//! |---|---|---|---|
//! | cut before k | Same | as x | data (and sequence) parallel |
//! | Same | cut in m | cut alike | column parallel |
//! | cut in k | cut alike | Partial(Sum) | row parallel |
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

/// $y = x W$: x `[…, k…]`, W `[k…, m…]` (or `[m…, k…]`), y `[…, m…]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    /// Number of dimensions of k.
    over: usize,
    /// Whether W is `[m…, k…]`.
    transposed: bool,
}

const SUM: Placement = Placement::Partial(Monoid::Sum);

impl Linear {
    /// Over the last dimension of x.
    pub const LAST: Linear = Linear::over(1);

    /// Over the last `dims` dimensions of x, which are the first of W.
    pub const fn over(dims: usize) -> Self {
        Linear {
            over: dims,
            transposed: false,
        }
    }

    /// With W given as its transpose `[m…, k…]`: the output of a table of tokens.
    pub const fn transposed(self) -> Self {
        Linear {
            transposed: true,
            ..self
        }
    }

    /// Where k begins among the dimensions of a weight of `rank`, and where m does.
    fn begins(&self, rank: usize) -> (usize, usize) {
        match self.transposed {
            true => (rank - self.over, 0),
            false => (0, self.over),
        }
    }

    /// W as a matrix of rows k and columns m.
    fn weight<'a, T: Real>(&self, w: &'a Shard) -> MatRef<'a, T> {
        match self.transposed {
            true => matrix(w, w.shape.len() - self.over).transpose(),
            false => matrix(w, self.over),
        }
    }
}

impl Operator for Linear {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let dtype = reals("Linear", inputs, &[self.over, self.over])?;
        let (x, w) = (&inputs[0], &inputs[1]);
        let lead = x.shape.len() - self.over;
        let (k, m) = self.begins(w.shape.len());
        let columns = w.shape.len() - self.over;
        if x.shape[lead..] != w.shape[k..k + self.over] {
            let side = if self.transposed { "last" } else { "first" };
            let why = format!("the last extents of {x} are not the {side} of {w}");
            return refuse("Linear", why);
        }
        let mend = "cut x before the summed dimensions beside a weight that is Same, or keep x Same \
                    beside a weight cut in its columns, or cut both alike in a summed dimension";
        let layout = layout("Linear", inputs, mend, |on| match (on[0], on[1]) {
            (Placement::Same, Placement::Same) => Some(Placement::Same),
            (Placement::Same, Placement::Split { dim }) if (m..m + columns).contains(&dim) => {
                Some(Placement::Split {
                    dim: lead + dim - m,
                })
            }
            (Placement::Split { dim: of_x }, Placement::Split { dim })
                if (k..k + self.over).contains(&dim) && of_x == lead + dim - k =>
            {
                Some(SUM)
            }
            (SUM, Placement::Same) | (Placement::Same, SUM) => Some(SUM),
            (cut, Placement::Same) if cut.dim().is_some_and(|dim| dim < lead) => Some(cut),
            _ => None,
        })?;
        let shape = [&x.shape[..lead], &w.shape[m..m + columns]].concat();
        Ok(vec![Spec::new(shape, dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let y = with_real!(site, inputs[0].dtype(), T => {
            Ok(self.times::<T>(site, &inputs[0], &inputs[1]))
        })?;
        Ok((vec![y], Saved::nothing()))
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1]
    }

    fn separable(&self) -> bool {
        true
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let (x, w) = (saved.input(site, 0)?, saved.input(site, 1)?);
        with_real!(site, x.dtype(), T => {
            let by_x = self.times::<T>(site, &tangents[0], w);
            let by_w = self.times::<T>(site, x, &tangents[1]);
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
        let kept = [saved.input(site, 0)?, saved.input(site, 1)?];
        with_real!(site, kept[0].dtype(), T => {
            let lead = kept[0].shape.len() - self.over;
            let (x, w) = (matrix::<T>(kept[0], lead), self.weight::<T>(kept[1]));
            let y = matrix::<T>(&cotangents[0], lead);
            let to_x = wanted[0].then(|| product(site, &kept[0].shape, y, w.transpose()));
            let to_w = wanted[1].then(|| match self.transposed {
                true => product(site, &kept[1].shape, y.transpose(), x),
                false => product(site, &kept[1].shape, x.transpose(), y),
            });
            Ok(vec![to_x, to_w])
        })
    }
}

impl Linear {
    fn times<T: Real>(&self, site: &Site, x: &Shard, w: &Shard) -> Shard {
        let x = matrix(x, x.shape.len() - self.over);
        product::<T>(site, &site.output_shape(0), x, self.weight(w))
    }
}

/// A shard as a matrix whose rows are its first `lead` dimensions.
fn matrix<T: Real>(shard: &Shard, lead: usize) -> MatRef<'_, T> {
    let (rows, columns) = shard.shape.split_at(lead);
    let (rows, columns) = (rows.iter().product(), columns.iter().product());
    MatRef::from_row_major_slice(shard.elements::<T>(), rows, columns)
}

/// `a b` as a shard of the given shape.
fn product<T: Real>(site: &Site, shape: &[usize], a: MatRef<'_, T>, b: MatRef<'_, T>) -> Shard {
    let (rows, columns) = (a.nrows(), b.ncols());
    let mut out = vec![T::of(0.0); rows * columns];
    let into = MatMut::from_row_major_slice_mut(&mut out, rows, columns);
    matmul(into, Accum::Replace, a, b, T::of(1.0), Par::Seq);
    Shard::new(site.key(), shape.to_vec(), T::data(out))
}
