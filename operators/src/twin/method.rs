//! The methods that a twin experiment can name, and how each is built.

use serde::{Deserialize, Serialize};

use super::Experiment;
use crate::OperatorError;
use crate::assimilation::{
    Climatology, Ensemble, Etkf, Filter, Inflation, Letkf, Localization, OptimalInterpolation,
    Purpose, StochasticEnkf, Var3d, stream,
};
use crate::models::Model;

/// Cycles of the climatological run that come before its samples.
const CLIMATOLOGY_SPIN_UP: usize = 500;

/// The filter or baseline of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum MethodChoice {
    /// [`Letkf`] on a ring.
    Letkf {
        /// Ensemble size $N$.
        members: usize,
        /// Localization radius in cells, see [`Localization::try_ring`].
        radius: f64,
        /// Whether the anomalies are rotated after every analysis.
        rotation: bool,
        /// Inflation and relaxation.
        inflation: Inflation,
    },
    /// [`Etkf`].
    Etkf {
        /// Ensemble size $N$.
        members: usize,
        /// Whether the anomalies are rotated after every analysis.
        rotation: bool,
        /// Inflation and relaxation.
        inflation: Inflation,
    },
    /// [`StochasticEnkf`].
    StochasticEnkf {
        /// Ensemble size $N$.
        members: usize,
        /// Inflation and relaxation.
        inflation: Inflation,
    },
    /// [`OptimalInterpolation`] with the climatology of a free run.
    OptimalInterpolation {
        /// Samples of the free run, one a cycle.
        samples: usize,
    },
    /// [`Var3d`] with the climatology of a free run.
    Var3d {
        /// Samples of the free run, one a cycle.
        samples: usize,
        /// Factor of the climatological covariance.
        scale: f64,
    },
}

impl MethodChoice {
    /// The ensemble size; 1 for methods with a single state.
    pub fn members(&self) -> usize {
        match self {
            Self::Letkf { members, .. }
            | Self::Etkf { members, .. }
            | Self::StochasticEnkf { members, .. } => *members,
            Self::OptimalInterpolation { .. } | Self::Var3d { .. } => 1,
        }
    }

    /// Whether the method needs the spread of an ensemble.
    pub fn is_ensemble(&self) -> bool {
        !matches!(self, Self::OptimalInterpolation { .. } | Self::Var3d { .. })
    }

    /// Builds the filter of `experiment` for `model`; `seed` starts the climatological run.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if a parameter is out of range.
    pub fn build(
        &self,
        experiment: &Experiment,
        model: &dyn Model,
        seed: u64,
    ) -> Result<Box<dyn Filter>, OperatorError> {
        let observed = experiment.observed(model.dimension());
        let variances = vec![experiment.observations.variance; observed.len()];
        Ok(match self {
            Self::Letkf {
                radius,
                rotation,
                inflation,
                ..
            } => {
                let positions: Vec<f64> = observed.iter().map(|i| *i as f64).collect();
                let lists = Localization::try_ring(model.dimension(), &positions, *radius)?;
                Box::new(Letkf::try_new(lists, *inflation, *rotation)?)
            }
            Self::Etkf {
                rotation,
                inflation,
                ..
            } => Box::new(Etkf::try_new(*inflation, *rotation)?),
            Self::StochasticEnkf { inflation, .. } => {
                Box::new(StochasticEnkf::try_new(*inflation)?)
            }
            Self::OptimalInterpolation { samples } => {
                let climatology = climatology(experiment, model, *samples, seed)?;
                Box::new(OptimalInterpolation::try_new(
                    &climatology,
                    &observed,
                    &variances,
                )?)
            }
            Self::Var3d { samples, scale } => {
                let climatology = climatology(experiment, model, *samples, seed)?;
                Box::new(Var3d::try_new(&climatology, *scale, &observed, &variances)?)
            }
        })
    }
}

/// Samples a free run that shares nothing with the truth but the model: an estimate from the
/// truth itself would flatter the baseline.
fn climatology(
    experiment: &Experiment,
    model: &dyn Model,
    samples: usize,
    seed: u64,
) -> Result<Climatology, OperatorError> {
    let steps = experiment.observations.steps_per_cycle;
    let mut rng = stream(seed, Purpose::Climatology, 0);
    let start = model.reference_state();
    let mut state = Ensemble::sample(1, &start, experiment.run.initial_variance, &mut rng)?;
    model.advance(state.values_mut(), CLIMATOLOGY_SPIN_UP * steps);
    let mut values = Vec::new();
    for _ in 0..samples {
        model.advance(state.values_mut(), steps);
        values.extend_from_slice(state.values());
    }
    Climatology::try_from_samples(&Ensemble::try_new(samples, model.dimension(), values)?)
}
