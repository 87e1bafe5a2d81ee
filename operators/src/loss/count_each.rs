//! The number of targets that each sample has: what a mean within samples divides by.

use advect_engine::graph::{Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::network::rules::{layout, refuse};

/// Targets `[b, …]` (`I64`; negative: none) to their number in each sample, `[b]` of `F64`. Samples that are cut stay
/// so, and targets that are cut within samples give `Partial(Sum)`.
#[derive(Debug, Clone, Copy)]
pub struct CountEach;

const NAME: &str = "CountEach";

impl Operator for CountEach {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [targets] = inputs else {
            return refuse(NAME, format!("it takes 1 input, not {}", inputs.len()));
        };
        if targets.dtype != DType::I64 || targets.shape.is_empty() {
            return refuse(NAME, format!("{targets} are not I64 of samples"));
        }
        let layout = layout(NAME, inputs, "cut the targets", |on| match on[0] {
            whole @ (Placement::Same | Placement::Split { dim: 0 }) => Some(whole),
            Placement::Split { .. } => Some(Placement::Partial(Monoid::Sum)),
            _ => None,
        })?;
        Ok(vec![Spec::new([targets.shape[0]], DType::F64, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let samples = inputs[0].shape[0];
        let targets = inputs[0].elements::<i64>();
        let each = (targets.len() / samples.max(1)).max(1);
        let count = |of: &[i64]| of.iter().filter(|&&target| target >= 0).count() as f64;
        let mut counts: Vec<f64> = targets.chunks(each).map(count).collect();
        counts.resize(samples, 0.0);
        let counts = Shard::new(site.key(), vec![samples], counts.into());
        Ok((vec![counts], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let samples = tangents[0].shape[0];
        let none = Shard::new(site.key(), vec![samples], vec![0.0; samples].into());
        Ok(vec![none])
    }

    fn adjoint(&self, _: &Site, _: &Saved, _: &[Shard], _: &[bool]) -> Result<Vec<Option<Shard>>> {
        Ok(vec![None])
    }

    fn differentiable(&self, _: usize) -> bool {
        false
    }
}
