//! Layer normalization over the last dimension.
//!
//! $$ \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \quad y = g \hat x + b, \qquad
//!    \bar x = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
//!    \Bigl(\bar u - \overline{\bar u} - \hat x\, \overline{\bar u \hat x}\Bigr), \quad \bar u = g \bar y, $$
//!
//! with means over the last dimension. Rows are independent: x is cut anywhere before it, and the
//! gradients of g and b are then `Partial(Sum)`. Source: Ba, Kiros and Hinton (2016).

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Operator, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::{dot, each, run_of_rows, sum, sum_of, total, wide};

/// x `[…, h]`, gain `[h]` and shift `[h]` to `[…, h]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm {
    /// ε, added to the variance.
    pub epsilon: f64,
}

impl Operator for LayerNorm {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "LayerNorm";
        let dtype = reals(NAME, inputs, &[1, 1, 1])?;
        let x = &inputs[0];
        let last = x.shape.len() - 1;
        if inputs[1..].iter().any(|p| p.shape != x.shape[last..]) {
            return refuse(
                NAME,
                format!("gain and shift are one number for each column of {x}"),
            );
        }
        let mend = "gather the last dimension and finish sums first; gain and shift are Same";
        let layout = layout(NAME, inputs, mend, |on| match (on[0], on[1], on[2]) {
            (Placement::Same, Placement::Same, Placement::Same) => Some(on[0]),
            (Placement::Split { dim }, Placement::Same, Placement::Same) if dim < last => {
                Some(on[0])
            }
            _ => None,
        })?;
        Ok(vec![Spec::new(x.shape.clone(), dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let (g, b) = (inputs[1].elements::<T>(), inputs[2].elements::<T>());
            let x = inputs[0].elements::<T>();
            let width = g.len().max(1);
            let mut y = buffer(x.len());
            let mut moments = vec![(T::of(0.0), T::of(0.0)); x.len() / width];
            let run = run_of_rows(width);
            let tasks = x.chunks(run).zip(y.chunks_mut(run)).zip(moments.chunks_mut(run / width));
            each(tasks.collect(), |((x, y), moments)| {
                normalize(x, g, b, self.epsilon, y, moments);
            });
            let bytes = inputs[1].bytes_len() + size_of_val(moments.as_slice());
            let kept = Kept { gain: inputs[1].clone(), moments };
            let y = Shard::new(site.key(), inputs[0].shape.clone(), y.into());
            Ok((vec![y], Saved::new(kept, bytes)))
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        with_real!(site, tangents[0].dtype(), T => {
            let kept: &Kept<T> = saved.get(site)?;
            let (dg, db) = (tangents[1].elements::<T>(), tangents[2].elements::<T>());
            let gain = kept.gain.elements::<T>();
            let width = dg.len().max(1);
            let mut hat = vec![T::of(0.0); width];
            let mut dy = tangents[0].elements::<T>().to_vec();
            let x = saved.input(site, 0)?.elements::<T>().chunks_exact(width);
            for ((x, &(mean, scale)), d) in x.zip(&kept.moments).zip(dy.chunks_exact_mut(width)) {
                standardize(x, mean, scale, &mut hat);
                centre(d, &hat, scale);
                for ((((d, &g), &hat), &dg), &db) in d.iter_mut().zip(gain).zip(&hat).zip(dg).zip(db) {
                    *d = *d * g + hat * dg + db;
                }
            }
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
        with_real!(site, cotangents[0].dtype(), T => {
            let kept: &Kept<T> = saved.get(site)?;
            let gain = kept.gain.elements::<T>();
            let (width, run) = (gain.len(), run_of_rows(gain.len()));
            let given = cotangents[0].elements::<T>();
            let mut to_x = buffer(given.len());
            let tasks = given.chunks(run).zip(to_x.chunks_mut(run));
            let tasks = tasks.zip(saved.input(site, 0)?.elements::<T>().chunks(run));
            // sums of gain and shift beside each other, by task
            let mut parts = vec![T::of(0.0); tasks.len().max(1) * 2 * width];
            let tasks = tasks.zip(kept.moments.chunks(run / width.max(1)));
            let tasks = tasks.zip(parts.chunks_mut((2 * width).max(1)));
            each(tasks.collect(), |((((given, to_x), x), moments), parts)| {
                let (to_gain, to_shift) = parts.split_at_mut(width);
                transpose(x, moments, gain, given, to_x, to_gain, to_shift);
            });
            let sums = total(parts, 2 * width);
            let [to_gain, to_shift] = [&sums[..width], &sums[width..]].map(<[T]>::to_vec);
            let shard = |shape: &[usize], v: Vec<T>| Some(Shard::new(site.key(), shape.to_vec(), v.into()));
            Ok(vec![
                shard(&cotangents[0].shape, to_x),
                shard(&[width], to_gain),
                shard(&[width], to_shift),
            ])
        })
    }
}

/// Mean, and one over the standard deviation.
#[inline(always)]
fn moments<T: Real>(row: &[T], epsilon: f64) -> (T, T) {
    let n = T::of(row.len() as f64);
    let mean = sum(row) / n;
    let variance = sum_of(row, |x| (x - mean) * (x - mean)) / n;
    (mean, T::of(1.0) / (variance + T::of(epsilon)).root())
}

wide! {
    /// $g \hat x + b$ and the moments of each row.
    fn normalize<T: Real>(
        x: &[T], gain: &[T], shift: &[T], epsilon: f64, y: &mut [T], found: &mut [(T, T)],
    ) {
        let width = gain.len().max(1);
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
        for ((row, y), found) in rows.zip(found) {
            let (mean, scale) = moments(row, epsilon);
            for (((y, &x), &g), &b) in y.iter_mut().zip(row).zip(gain).zip(shift) {
                *y = ((x - mean) * scale).times_plus(g, b);
            }
            *found = (mean, scale);
        }
    }

    /// From cotangents of y to those of x; adds to those of gain and shift.
    fn transpose<T: Real>(
        x: &[T],
        moments: &[(T, T)],
        gain: &[T],
        given: &[T],
        to_x: &mut [T],
        to_gain: &mut [T],
        to_shift: &mut [T],
    ) {
        let width = gain.len().max(1);
        let mut hat = vec![T::of(0.0); width];
        let rows = x.chunks_exact(width).zip(moments);
        let rows = rows.zip(given.chunks_exact(width)).zip(to_x.chunks_exact_mut(width));
        for (((x, &(mean, scale)), given), to_x) in rows {
            standardize(x, mean, scale, &mut hat);
            let sums = to_gain.iter_mut().zip(to_shift.iter_mut());
            let row = given.iter().zip(to_x.iter_mut()).zip(&hat).zip(gain);
            for ((gain, shift), (((&d, to_x), &hat), &g)) in sums.zip(row) {
                *gain = d.times_plus(hat, *gain);
                *shift += d;
                *to_x = d * g;
            }
            centre(to_x, &hat, scale);
        }
    }
}

/// What the derivative needs beside x: the gain, which is small and so not gathered again for the way back,
/// and the moments of every row.
struct Kept<T> {
    gain: Shard,
    moments: Vec<(T, T)>,
}

/// $\hat x$ of a row.
#[inline(always)]
fn standardize<T: Real>(x: &[T], mean: T, scale: T, hat: &mut [T]) {
    for (hat, &x) in hat.iter_mut().zip(x) {
        *hat = (x - mean) * scale;
    }
}

/// The derivative of $\hat x$ applied to `d`; it is symmetric, so that this is its transpose, too.
#[inline(always)]
fn centre<T: Real>(d: &mut [T], hat: &[T], scale: T) {
    let n = T::of(d.len() as f64);
    let (mean, along) = (sum(d) / n, dot(d, hat) / n);
    for (d, &hat) in d.iter_mut().zip(hat) {
        *d = (*d - mean - hat * along) * scale;
    }
}
