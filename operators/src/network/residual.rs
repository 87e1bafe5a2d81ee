//! The end of a residual branch with a bias: $z_{\ldots m} = x_{\ldots m} + y_{\ldots m} + b_m$.
//!
//! x and y have one layout, in which b is Same or cut as their last dimensions are, as beside
//! [`Bias`](super::Bias); sums are finished first.

use advect_engine::graph::{Saved, Site};
use advect_engine::{Mesh, Operator, Result, Shard, Spec};

use super::bias::{beside, to_bias};
use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::sum_with_row;

/// $z = x + y + b$: x and y `[…, m…]`, b `[m…]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct Residual;

impl Operator for Residual {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Residual";
        let dtype = reals(NAME, inputs, &[1, 1, 1])?;
        let (x, y, b) = (&inputs[0], &inputs[1], &inputs[2]);
        let lead = x.shape.len().saturating_sub(b.shape.len());
        if x.shape != y.shape || b.shape != x.shape[lead..] {
            let why = format!("{x} and {y} are not of one shape that ends as {b}");
            return refuse(NAME, why);
        }
        let mend = "finish sums first, and cut all three alike";
        let layout = layout(NAME, inputs, mend, |on| {
            beside(on[0], on[2], lead).filter(|_| on[0] == on[1])
        })?;
        Ok(vec![Spec::new(x.shape.clone(), dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let z = with_real!(site, inputs[0].dtype(), T => Ok(plus::<T>(site, inputs)))?;
        Ok((vec![z], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        with_real!(site, tangents[0].dtype(), T => Ok(vec![plus::<T>(site, tangents)]))
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let z = &cotangents[0];
        let to_b = wanted[2].then(|| to_bias(site, 2, z)).transpose()?;
        let whole = |wanted: bool| wanted.then(|| z.clone());
        Ok(vec![whole(wanted[0]), whole(wanted[1]), to_b])
    }
}

fn plus<T: Real>(site: &Site, inputs: &[Shard]) -> Shard {
    let [x, y, b] = [0, 1, 2].map(|i| inputs[i].elements::<T>());
    Shard::new(
        site.key(),
        inputs[0].shape.clone(),
        T::data(sum_with_row(x, Some(y), b)),
    )
}
