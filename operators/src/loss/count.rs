//! The number of targets that there are: what a mean over them divides by.

use advect_engine::graph::{Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::network::rules::{layout, refuse};

/// Targets (`I64`; negative: none) to their number, a scalar of `F64`; cut targets give `Partial(Sum)`.
#[derive(Debug, Clone, Copy)]
pub struct Count;

impl Operator for Count {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [targets] = inputs else {
            return refuse("Count", format!("it takes 1 input, not {}", inputs.len()));
        };
        if targets.dtype != DType::I64 {
            return refuse("Count", format!("{targets} are not I64"));
        }
        let layout = layout("Count", inputs, "cut the targets", |on| match on[0] {
            Placement::Same => Some(Placement::Same),
            Placement::Split { .. } => Some(Placement::Partial(Monoid::Sum)),
            _ => None,
        })?;
        Ok(vec![Spec::new([], DType::F64, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let targets = inputs[0].elements::<i64>().iter();
        let count = targets.filter(|&&target| target >= 0).count() as f64;
        let count = Shard::new(site.key(), vec![], vec![count].into());
        Ok((vec![count], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, _: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![Shard::new(site.key(), vec![], vec![0.0].into())])
    }

    fn adjoint(&self, _: &Site, _: &Saved, _: &[Shard], _: &[bool]) -> Result<Vec<Option<Shard>>> {
        Ok(vec![None])
    }

    fn differentiable(&self, _: usize) -> bool {
        false
    }
}
