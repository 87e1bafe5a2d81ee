//! A forecast as an operator of the adjoint graph: rows of states, advanced by whole steps.

use std::sync::Arc;

use advect_engine::graph::{Saved, Site};
use advect_engine::{DType, Mesh, Operator, Placement, Result, Shard, Spec};

use super::Model;
use crate::network::rules::{layout, reals, refuse};

/// $x_{k+s} = M^s(x_k)$ for every row of `[members, d]`, `f64`; members may be split.
///
/// The states at the start of every step are kept for the way back, `steps` times the input.
#[derive(Debug, Clone)]
pub struct Forecast {
    model: Arc<dyn Model>,
    steps: usize,
}

impl Forecast {
    /// The forecast of `model` over `steps` time steps.
    pub fn new(model: Arc<dyn Model>, steps: usize) -> Self {
        Forecast { model, steps }
    }
}

/// States of the local rows at the start of every step, `[steps][members * d]`.
type Trajectory = Vec<Vec<f64>>;

impl Operator for Forecast {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let dtype = reals("Forecast", inputs, &[2])?;
        let (states, d) = (&inputs[0], self.model.dimension());
        if states.shape.len() != 2 || states.shape[1] != d || dtype != DType::F64 {
            return refuse("Forecast", format!("{states} is not [members, {d}] of F64"));
        }
        let mend = "split the members (dimension 0) or keep them Same";
        let layout = layout("Forecast", inputs, mend, |on| match on[0] {
            Placement::Same | Placement::Split { dim: 0 } => Some(on[0]),
            _ => None,
        })?;
        Ok(vec![states.with_layout(layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let mut states = inputs[0].elements::<f64>().to_vec();
        let mut trajectory = Trajectory::with_capacity(self.steps);
        for _ in 0..self.steps {
            trajectory.push(states.clone());
            self.model.advance(&mut states, 1);
        }
        let bytes = self.steps * inputs[0].bytes_len();
        let end = Shard::new(site.key(), inputs[0].shape.clone(), states.into());
        Ok((vec![end], Saved::new(trajectory, bytes)))
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let trajectory: &Trajectory = saved.get(site)?;
        let mut changes = tangents[0].elements::<f64>().to_vec();
        let d = self.model.dimension();
        for states in trajectory {
            for (state, change) in states.chunks_exact(d).zip(changes.chunks_exact_mut(d)) {
                self.model.tangent(state, change);
            }
        }
        Ok(vec![Shard::new(
            site.key(),
            tangents[0].shape.clone(),
            changes.into(),
        )])
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let trajectory: &Trajectory = saved.get(site)?;
        let mut back = cotangents[0].elements::<f64>().to_vec();
        let d = self.model.dimension();
        for states in trajectory.iter().rev() {
            for (state, cotangent) in states.chunks_exact(d).zip(back.chunks_exact_mut(d)) {
                self.model.adjoint(state, cotangent);
            }
        }
        Ok(vec![Some(Shard::new(
            site.key(),
            cotangents[0].shape.clone(),
            back.into(),
        ))])
    }
}
