//! The bias $y_{\ldots m} = x_{\ldots m} + b_m$ over the last dimensions of x: biases of a layer, and
//! embeddings of positions.
//!
//! x is cut before m beside a bias that is Same, or cut in m beside a bias cut alike; sums are finished
//! first, or the bias would be added by every worker.

use advect_engine::graph::{Saved, Site};
use advect_engine::{Mesh, Operator, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::{sum_of_rows, sum_with_row};

/// $y = x + b$: x `[…, m…]`, b `[m…]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct Bias;

impl Operator for Bias {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let dtype = reals("Bias", inputs, &[1, 1])?;
        let (x, b) = (&inputs[0], &inputs[1]);
        let Some(lead) = x.shape.len().checked_sub(b.shape.len()) else {
            return refuse("Bias", format!("{b} has more dimensions than {x}"));
        };
        if b.shape != x.shape[lead..] {
            return refuse("Bias", format!("{b} has not the last extents of {x}"));
        }
        let mend = "finish sums of x first, and cut b where x is cut in its dimensions";
        let layout = layout("Bias", inputs, mend, |on| beside(on[0], on[1], lead))?;
        Ok(vec![Spec::new(x.shape.clone(), dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let y = with_real!(site, inputs[0].dtype(), T => Ok(plus::<T>(site, inputs)))?;
        Ok((vec![y], Saved::nothing()))
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
        let y = &cotangents[0];
        let to_b = wanted[1].then(|| to_bias(site, 1, y)).transpose()?;
        Ok(vec![wanted[0].then(|| y.clone()), to_b])
    }
}

/// The layout of x beside a bias of its dimensions from `lead` on, if they are cut alike.
pub(super) fn beside(x: Placement, b: Placement, lead: usize) -> Option<Placement> {
    match (x, b) {
        (Placement::Same, Placement::Same) => Some(x),
        (Placement::Split { dim }, Placement::Split { dim: of_b }) if dim == lead + of_b => Some(x),
        (Placement::Split { dim }, Placement::Same) if dim < lead => Some(x),
        _ => None,
    }
}

/// The cotangent of a bias, input `b` of the operator at `site`, from that of the sum.
pub(super) fn to_bias(site: &Site, b: usize, sum: &Shard) -> Result<Shard> {
    with_real!(site, sum.dtype(), T => {
        let columns = site.input_shape(b);
        let sums = sum_of_rows(sum.elements::<T>(), columns.iter().product());
        Ok(Shard::new(site.key(), columns, sums.into()))
    })
}

fn plus<T: Real>(site: &Site, inputs: &[Shard]) -> Shard {
    let y = sum_with_row(inputs[0].elements::<T>(), None, inputs[1].elements());
    Shard::new(site.key(), inputs[0].shape.clone(), T::data(y))
}
