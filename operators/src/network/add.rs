//! The sum $z = x + y$ of two tensors of one shape and layout: the end of a residual branch.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::sum_of_both;

/// $z = x + y$; `f32` or `f64`, in any layout that both share, sums included.
#[derive(Debug, Clone, Copy)]
pub struct Add;

impl Operator for Add {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        reals("Add", inputs, &[0, 0])?;
        let (x, y) = (&inputs[0], &inputs[1]);
        if x.shape != y.shape || [x, y].iter().any(|s| s.rows != Rows::Plain) {
            return refuse(
                "Add",
                format!("{x} and {y} are not plain tensors of one shape"),
            );
        }
        let mend = "bring both to one layout; only sums are added as partials";
        let layout = layout("Add", inputs, mend, |on| match on[0] {
            Placement::Partial(m) if m != Monoid::Sum => None,
            p => (p == on[1]).then_some(p),
        })?;
        Ok(vec![x.with_layout(layout)])
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
        _: &Site,
        _: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        Ok(wanted
            .iter()
            .map(|wanted| wanted.then(|| cotangents[0].clone()))
            .collect())
    }
}

fn plus<T: Real>(site: &Site, inputs: &[Shard]) -> Shard {
    let z = sum_of_both(inputs[0].elements::<T>(), inputs[1].elements::<T>());
    Shard::new(site.key(), inputs[0].shape.clone(), T::data(z))
}
