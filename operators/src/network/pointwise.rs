//! Nonlinear functions of each element: $y_i = f(x_i)$, $\bar x_i = f'(x_i)\,\bar y_i$.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{Mesh, Operator, Overlap, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};

/// A function of each element; `f32` or `f64`, in any layout but sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointwise {
    /// $\tanh x$.
    Tanh,
    /// $x\,\sigma(x)$ (Elfwing et al. 2018; also called swish).
    Silu,
    /// $\tfrac12 x\,(1 + \tanh(\sqrt{2/\pi}\,(x + 0.044715\,x^3)))$ (Hendrycks and Gimpel 2016).
    Gelu,
}

impl Pointwise {
    /// $f(x)$ and $f'(x)$.
    fn value_and_slope<T: Real>(self, x: T) -> (T, T) {
        let (one, half) = (T::of(1.0), T::of(0.5));
        match self {
            Pointwise::Tanh => {
                let y = x.hyperbolic_tangent();
                (y, one - y * y)
            }
            Pointwise::Silu => {
                let s = one / (one + (-x).exponential());
                (x * s, s * (one + x * (one - s)))
            }
            Pointwise::Gelu => {
                let scale = T::of((2.0 / std::f64::consts::PI).sqrt());
                let cubic = T::of(0.044715);
                let t = (scale * (x + cubic * x * x * x)).hyperbolic_tangent();
                let inner = scale * (one + T::of(3.0) * cubic * x * x);
                (
                    half * x * (one + t),
                    half * (one + t) + half * x * (one - t * t) * inner,
                )
            }
        }
    }

    /// $f'(x)\,d$ for each element.
    fn along(self, site: &Site, saved: &Saved, d: &Shard) -> Result<Shard> {
        let x: &Shard = saved.get(site)?;
        with_real!(site, d.dtype(), T => {
            let pairs = x.elements::<T>().iter().zip(d.elements::<T>());
            let out: Vec<T> = pairs.map(|(&x, &d)| self.value_and_slope(x).1 * d).collect();
            Ok(Shard::new(site.key(), d.shape.clone(), out.into()))
        })
    }
}

impl Operator for Pointwise {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        reals("Pointwise", inputs, &[0])?;
        if inputs[0].rows != Rows::Plain {
            return refuse("Pointwise", "scaled rows are finished first");
        }
        let mend = "finish sums first: a function of a sum is not the sum of the function";
        let layout = layout("Pointwise", inputs, mend, |on| match on[0] {
            Placement::Partial(_)
            | Placement::Halo {
                overlap: Overlap::Sums,
                ..
            } => None,
            p => Some(p),
        })?;
        Ok(vec![inputs[0].with_layout(layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let x = &inputs[0];
        let y = with_real!(site, x.dtype(), T => {
            let y: Vec<T> =
                x.elements::<T>().iter().map(|&x| self.value_and_slope(x).0).collect();
            Ok(Shard::new(site.key(), x.shape.clone(), y.into()))
        })?;
        Ok((vec![y], Saved::new(x.clone(), x.bytes_len())))
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![self.along(site, saved, &tangents[0])?])
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        Ok(vec![Some(self.along(site, saved, &cotangents[0])?)])
    }
}
