//! Half the mean square: $J = \frac{1}{2n} \sum_i (x_i - y_i)^2$ over all $n$ elements.
//!
//! Where the tensors are cut, every worker gives its part of $J$ as `Partial(Sum)`; the cotangent
//! of such a loss is `Same`, so a seed of 1 on every worker starts the backward sweep.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// $J$ of a prediction and a target of one shape and layout, a scalar; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct MeanSquare;

impl Operator for MeanSquare {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let dtype: DType = reals("MeanSquare", inputs, &[0, 0])?;
        let (x, y) = (&inputs[0], &inputs[1]);
        if x.shape != y.shape || [x, y].iter().any(|s| s.rows != Rows::Plain) {
            return refuse(
                "MeanSquare",
                format!("{x} and {y} are not tensors of one shape"),
            );
        }
        let mend = "bring both to one layout without sums and halos";
        let layout = layout("MeanSquare", inputs, mend, |on| match on[0] {
            Placement::Same if on[1] == Placement::Same => Some(Placement::Same),
            Placement::Split { .. } if on[1] == on[0] => Some(Placement::Partial(Monoid::Sum)),
            _ => None,
        })?;
        Ok(vec![Spec::new([], dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let pairs = inputs[0].elements::<T>().iter().zip(inputs[1].elements::<T>());
            let apart: Vec<T> = pairs.map(|(&x, &y)| x - y).collect();
            let by = T::of(0.5) * weight::<T>(site);
            let loss = apart.iter().fold(T::of(0.0), |sum, &d| (d * by).times_plus(d, sum));
            let loss = vec![loss];
            let kept = Shard::new(site.key(), inputs[0].shape.clone(), apart.into());
            let bytes = kept.bytes_len();
            Ok((vec![Shard::new(site.key(), vec![], loss.into())], Saved::new(kept, bytes)))
        })
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let apart: &Shard = saved.get(site)?;
        with_real!(site, apart.dtype(), T => {
            let changes = tangents[0].elements::<T>().iter().zip(tangents[1].elements::<T>());
            let terms = apart.elements::<T>().iter().zip(changes);
            let by = weight::<T>(site);
            let sum = terms.fold(T::of(0.0), |sum, (&d, (&x, &y))| (d * by).times_plus(x - y, sum));
            Ok(vec![Shard::new(site.key(), vec![], vec![sum].into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let apart: &Shard = saved.get(site)?;
        with_real!(site, apart.dtype(), T => {
            let scale = cotangents[0].elements::<T>()[0] * weight::<T>(site);
            let to = |sign: f64| {
                let scale = scale * T::of(sign);
                let out: Vec<T> = apart.elements::<T>().iter().map(|&d| d * scale).collect();
                Shard::new(site.key(), apart.shape.clone(), out.into())
            };
            Ok(vec![wanted[0].then(|| to(1.0)), wanted[1].then(|| to(-1.0))])
        })
    }
}

/// $1/n$ over the whole tensor, all workers' pieces together.
fn weight<T: Real>(site: &Site) -> T {
    T::of(1.0 / site.inputs()[0].shape.iter().product::<usize>().max(1) as f64)
}
