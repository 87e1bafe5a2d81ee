//! Normalization by the root mean square of the last dimension.
//!
//! $$ \hat x = \frac{x}{\sqrt{\overline{x^2} + \epsilon}}, \quad y = g \hat x, \qquad
//!    \bar x = \frac{1}{\sqrt{\overline{x^2} + \epsilon}}
//!    \Bigl(\bar u - \hat x\, \overline{\bar u \hat x}\Bigr), \quad \bar u = g \bar y, $$
//!
//! with means over the last dimension. Rows are independent: x is cut anywhere before it, and the
//! gradient of g is then `Partial(Sum)`. Source: Zhang and Sennrich (2019), *Root mean square layer
//! normalization*.

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Operator, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::{dot, each, run_of_rows, sum_of, total, wide};

/// x `[…, h]` and gain `[h]` to `[…, h]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct RmsNorm {
    /// ε, added to the mean square.
    pub epsilon: f64,
}

impl Operator for RmsNorm {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "RmsNorm";
        let dtype = reals(NAME, inputs, &[1, 1])?;
        let x = &inputs[0];
        let last = x.shape.len() - 1;
        if inputs[1].shape != x.shape[last..] {
            let why = format!("the gain is one number for each column of {x}");
            return refuse(NAME, why);
        }
        let mend = "gather the last dimension and finish sums first; the gain is Same";
        let layout = layout(NAME, inputs, mend, |on| match (on[0], on[1]) {
            (Placement::Same, Placement::Same) => Some(on[0]),
            (Placement::Split { dim }, Placement::Same) if dim < last => Some(on[0]),
            _ => None,
        })?;
        Ok(vec![Spec::new(x.shape.clone(), dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let [x, gain] = [0, 1].map(|i| inputs[i].elements::<T>());
            let run = run_of_rows(gain.len());
            let mut y = buffer(x.len());
            let tasks = x.chunks(run).zip(y.chunks_mut(run));
            each(tasks.collect(), |(x, y)| normalize(x, gain, self.epsilon, y));
            let y = Shard::new(site.key(), inputs[0].shape.clone(), y.into());
            // the gain is small: it stays here, and is not gathered again for the way back
            Ok((vec![y], Saved::shards(vec![inputs[1].clone()])))
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let (x, kept): (_, &Vec<Shard>) = (saved.input(site, 0)?, saved.get(site)?);
        with_real!(site, tangents[0].dtype(), T => {
            let [x, gain] = [x, &kept[0]].map(Shard::elements::<T>);
            let [dx, change] = [0, 1].map(|i| tangents[i].elements::<T>());
            let run = run_of_rows(gain.len());
            let mut dy = buffer(x.len());
            let tasks = x.chunks(run).zip(dx.chunks(run)).zip(dy.chunks_mut(run));
            each(tasks.collect(), |((x, dx), dy)| along(x, gain, self.epsilon, dx, change, dy));
            Ok(vec![Shard::new(site.key(), tangents[0].shape.clone(), dy.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let (x, kept): (_, &Vec<Shard>) = (saved.input(site, 0)?, saved.get(site)?);
        with_real!(site, cotangents[0].dtype(), T => {
            let [x, gain] = [x, &kept[0]].map(Shard::elements::<T>);
            let given = cotangents[0].elements::<T>();
            let (width, run) = (gain.len(), run_of_rows(gain.len()));
            let mut to_x = buffer(x.len());
            let mut parts = vec![T::of(0.0); x.len().div_ceil(run).max(1) * width];
            let tasks = x.chunks(run).zip(given.chunks(run)).zip(to_x.chunks_mut(run));
            let tasks = tasks.zip(parts.chunks_mut(width.max(1)));
            each(tasks.collect(), |(((x, given), to_x), part)| {
                transpose(x, gain, self.epsilon, given, to_x, part);
            });
            let shard = |shape: &[usize], v: Vec<T>| Some(Shard::new(site.key(), shape.to_vec(), v.into()));
            Ok(vec![
                shard(&cotangents[0].shape, to_x),
                shard(&[width], total(parts, width)),
            ])
        })
    }
}

/// One over the root of the mean square.
#[inline(always)]
fn scale<T: Real>(row: &[T], epsilon: f64) -> T {
    let mean = sum_of(row, |x| x * x) / T::of(row.len() as f64);
    T::of(1.0) / (mean + T::of(epsilon)).root()
}

wide! {
    /// $g \hat x$.
    fn normalize<T: Real>(x: &[T], gain: &[T], epsilon: f64, y: &mut [T]) {
        let width = gain.len().max(1);
        for (row, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let scale = scale(row, epsilon);
            for ((y, &x), &g) in y.iter_mut().zip(row).zip(gain) {
                *y = x * scale * g;
            }
        }
    }

    /// The derivative along changes of x and of the gain.
    fn along<T: Real>(
        x: &[T], gain: &[T], epsilon: f64, dx: &[T], change: &[T], dy: &mut [T],
    ) {
        let width = gain.len().max(1);
        let rows = x.chunks_exact(width).zip(dx.chunks_exact(width));
        for ((x, dx), dy) in rows.zip(dy.chunks_exact_mut(width)) {
            let scale = scale(x, epsilon);
            let mean = dot(x, dx) * scale / T::of(x.len() as f64);
            let row = x.iter().zip(dx).zip(gain.iter().zip(change));
            for (dy, ((&x, &dx), (&g, &dg))) in dy.iter_mut().zip(row) {
                let hat = x * scale;
                *dy = g * scale * (dx - hat * mean) + hat * dg;
            }
        }
    }

    /// From cotangents of y to those of x; adds to those of the gain.
    fn transpose<T: Real>(
        x: &[T], gain: &[T], epsilon: f64, given: &[T], to_x: &mut [T], to_gain: &mut [T],
    ) {
        let width = gain.len().max(1);
        let rows = x.chunks_exact(width).zip(given.chunks_exact(width));
        for ((x, given), to_x) in rows.zip(to_x.chunks_exact_mut(width)) {
            let scale = scale(x, epsilon);
            let row = x.iter().zip(given).zip(gain);
            for ((to_x, sum), ((&x, &d), &g)) in to_x.iter_mut().zip(to_gain.iter_mut()).zip(row) {
                *sum = d.times_plus(x * scale, *sum);
                *to_x = d * g;
            }
            let mean = dot(x, to_x) * scale / T::of(x.len() as f64);
            for (to_x, &x) in to_x.iter_mut().zip(x) {
                *to_x = scale * (*to_x - x * scale * mean);
            }
        }
    }
}
