//! 3D-Var with a static background covariance: the forecast, corrected by a fixed gain.
//!
//! $x^a = x^f + K\,(y - H(x^f))$ with $K = B H^\top (H B H^\top + R)^{-1}$, the closed form of the
//! minimum of $J(x) = \|x - x^f\|^2_{B^{-1}} + \|y - Hx\|^2_{R^{-1}}$ for linear $H$ (Lorenc 1986).
//! $B$ is a multiple of the climatological covariance.

use super::oi::add_gain;
use super::{Climatology, Ensemble, Filter, Observations, Stream};
use crate::OperatorError;

/// 3D-Var of a directly observed state.
#[derive(Debug, Clone)]
pub struct Var3d {
    gain: Vec<f64>,
    dimension: usize,
    observations: usize,
}

impl Var3d {
    /// Background covariance `scale` times that of `climatology`; observes the variables
    /// `observed` with error `variances`.
    ///
    /// # Errors
    ///
    /// As [`Climatology::gain`].
    pub fn try_new(
        climatology: &Climatology,
        scale: f64,
        observed: &[usize],
        variances: &[f64],
    ) -> Result<Self, OperatorError> {
        let gain = climatology.gain(scale, observed, variances)?;
        Ok(Self {
            gain,
            dimension: climatology.mean().len(),
            observations: observed.len(),
        })
    }
}

impl Filter for Var3d {
    /// Every member is corrected from its own forecast.
    fn analyse(
        &self,
        ensemble: &mut Ensemble,
        observations: &Observations<'_>,
        _stream: &mut Stream,
    ) -> Result<(), OperatorError> {
        const PLACE: &str = "Var3d";
        let mend = "build the filter for this state and these observations";
        observations.check_members(PLACE, ensemble)?;
        OperatorError::check_length(PLACE, "state", ensemble.dimension(), self.dimension, mend)?;
        let values = observations.values();
        OperatorError::check_length(PLACE, "observations", values.len(), self.observations, mend)?;
        for (row, predicted) in ensemble.rows_mut().zip(observations.predicted().rows()) {
            let departures: Vec<f64> = values.iter().zip(predicted).map(|(y, h)| y - h).collect();
            add_gain(&self.gain, &departures, row);
        }
        Ok(())
    }
}
