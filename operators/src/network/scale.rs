//! A tensor times a number: $y = \lambda x$, $\bar x = \lambda \bar y$.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};

/// $y = \lambda x$; `f32` or `f64`, in any layout but maxima, sums too.
#[derive(Debug, Clone, Copy)]
pub struct Scale(pub f64);

impl Operator for Scale {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        reals("Scale", inputs, &[0])?;
        if inputs[0].rows != Rows::Plain {
            return refuse("Scale", "scaled rows are finished first");
        }
        let layout = layout("Scale", inputs, "finish it first", |on| match on[0] {
            Placement::Partial(Monoid::Max | Monoid::LogSumExp) => None,
            p => Some(p),
        })?;
        Ok(vec![inputs[0].with_layout(layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        Ok((vec![self.times(site, &inputs[0])?], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![self.times(site, &tangents[0])?])
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        Ok(vec![Some(self.times(site, &cotangents[0])?)])
    }
}

impl Scale {
    fn times(self, site: &Site, x: &Shard) -> Result<Shard> {
        with_real!(site, x.dtype(), T => {
            let by = T::of(self.0);
            let y: Vec<T> = x.elements::<T>().iter().map(|&x| by * x).collect();
            Ok(Shard::new(site.key(), x.shape.clone(), T::data(y)))
        })
    }
}
