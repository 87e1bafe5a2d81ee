//! Layer normalization over the last dimension.
//!
//! $$ \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \quad y = g \hat x + b, \qquad
//!    \bar x = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
//!    \Bigl(\bar u - \overline{\bar u} - \hat x\, \overline{\bar u \hat x}\Bigr), \quad \bar u = g \bar y, $$
//!
//! with means over the last dimension. Rows are independent: x is cut anywhere before it, and the
//! gradients of g and b are then `Partial(Sum)`. Source: Ba, Kiros and Hinton (2016).

use advect_engine::graph::{Saved, Site};
use advect_engine::{Mesh, Operator, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};

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
            let mut y = Vec::with_capacity(x.len());
            let mut moments = Vec::with_capacity(x.len() / g.len().max(1));
            for row in x.chunks_exact(g.len().max(1)) {
                let of = self.moments(row);
                y.extend(row.iter().zip(g.iter().zip(b)).map(|(&x, (&g, &b))| (x - of.0) * of.1 * g + b));
                moments.push(of);
            }
            let bytes = inputs[0].bytes_len() + inputs[1].bytes_len() + size_of_val(moments.as_slice());
            let kept = Kept { x: inputs[0].clone(), gain: inputs[1].clone(), moments };
            let y = Shard::new(site.key(), inputs[0].shape.clone(), y.into());
            Ok((vec![y], Saved::new(kept, bytes)))
        })
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        with_real!(site, tangents[0].dtype(), T => {
            let kept: &Kept<T> = saved.get(site)?;
            let (dg, db) = (tangents[1].elements::<T>(), tangents[2].elements::<T>());
            let mut dy = Vec::with_capacity(tangents[0].len());
            let changes = tangents[0].elements::<T>().chunks_exact(dg.len().max(1));
            for ((x, &(mean, scale)), dx) in kept.rows().zip(changes) {
                let hat = x.iter().map(|&x| (x - mean) * scale);
                let by_x = centred(dx.iter().copied(), hat.clone(), scale, dg.len());
                let own = hat.zip(dg.iter().zip(db)).map(|(hat, (&dg, &db))| hat * dg + db);
                let gain = kept.gain.elements::<T>();
                dy.extend(by_x.zip(gain).zip(own).map(|((d, &g), own)| d * g + own));
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
            let width = gain.len();
            let mut to_x = Vec::with_capacity(cotangents[0].len());
            let (mut to_gain, mut to_shift) = (vec![T::of(0.0); width], vec![T::of(0.0); width]);
            let rows = cotangents[0].elements::<T>().chunks_exact(width.max(1));
            for ((x, &(mean, scale)), y) in kept.rows().zip(rows) {
                let hat = x.iter().map(|&x| (x - mean) * scale);
                let scaled = y.iter().zip(gain).map(|(&y, &g)| y * g);
                to_x.extend(centred(scaled, hat.clone(), scale, width));
                for (((gain, shift), hat), &y) in to_gain.iter_mut().zip(&mut to_shift).zip(hat).zip(y) {
                    *gain += y * hat;
                    *shift += y;
                }
            }
            let shard = |shape: &[usize], v: Vec<T>| Some(Shard::new(site.key(), shape.to_vec(), v.into()));
            Ok(vec![
                shard(&cotangents[0].shape, to_x),
                shard(&[width], to_gain),
                shard(&[width], to_shift),
            ])
        })
    }
}

impl LayerNorm {
    /// Mean, and one over the standard deviation.
    fn moments<T: Real>(&self, row: &[T]) -> (T, T) {
        let n = T::of(row.len() as f64);
        let mean = sum(row.iter().copied()) / n;
        let variance = sum(row.iter().map(|&x| (x - mean) * (x - mean))) / n;
        (mean, T::of(1.0) / (variance + T::of(self.epsilon)).root())
    }
}

/// What the derivative needs: x, the gain, and the moments of every row.
struct Kept<T> {
    x: Shard,
    gain: Shard,
    moments: Vec<(T, T)>,
}

impl<T: Real> Kept<T> {
    fn rows(&self) -> impl Iterator<Item = (&[T], &(T, T))> {
        let width = self.gain.len().max(1);
        self.x
            .elements::<T>()
            .chunks_exact(width)
            .zip(&self.moments)
    }
}

/// The derivative of $\hat x$ applied to `d`; it is symmetric, so that this is its transpose, too.
fn centred<T: Real>(
    d: impl Iterator<Item = T> + Clone,
    hat: impl Iterator<Item = T> + Clone,
    scale: T,
    width: usize,
) -> impl Iterator<Item = T> {
    let n = T::of(width as f64);
    let mean = sum(d.clone()) / n;
    let along = sum(d.clone().zip(hat.clone()).map(|(d, hat)| d * hat)) / n;
    d.zip(hat)
        .map(move |(d, hat)| (d - mean - hat * along) * scale)
}

fn sum<T: Real>(numbers: impl Iterator<Item = T>) -> T {
    numbers.fold(T::of(0.0), |sum, x| sum + x)
}
