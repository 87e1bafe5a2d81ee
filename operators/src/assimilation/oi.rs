//! Optimal interpolation: the best linear estimate from climatology and the present observations.
//!
//! $x^a = \bar x_c + K\,(y - H \bar x_c)$ with $K = C H^\top (H C H^\top + R)^{-1}$ and $C$ the
//! climatological covariance (Gandin 1963). The forecast is not used at all: this is the skill
//! that observations have without a model, the floor of every comparison.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::{Ensemble, Filter, Observations, Stream};
use crate::OperatorError;

/// The mean and the covariance of the states that a model visits.
#[derive(Debug, Clone, PartialEq)]
pub struct Climatology {
    mean: Vec<f64>,
    covariance: Vec<f64>,
}

impl Climatology {
    /// Estimates the mean and the unbiased covariance from `states`, one member a sample.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if there are fewer than two samples.
    pub fn try_from_samples(states: &Ensemble) -> Result<Self, OperatorError> {
        let (n, d) = (states.members(), states.dimension());
        if n < 2 {
            let expected = "at least 2, and many more than the dimension";
            return Err(OperatorError::parameter(
                "Climatology",
                "samples",
                n,
                expected,
            ));
        }
        let (mean, columns) = states.columns();
        let mut covariance = vec![0.0; d * d];
        for i in 0..d {
            let left = &columns[i * n..(i + 1) * n];
            for j in i..d {
                let right = &columns[j * n..(j + 1) * n];
                let sum: f64 = left.iter().zip(right).map(|(a, b)| a * b).sum();
                covariance[i * d + j] = sum / (n - 1) as f64;
                covariance[j * d + i] = covariance[i * d + j];
            }
        }
        Ok(Self { mean, covariance })
    }

    /// The mean state, `[d]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance $C$, `[d * d]`.
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }

    /// The gain $K = sC H^\top (H\,sC H^\top + R)^{-1}$, `[d * m]`, where $H$ picks the variables
    /// `observed` and $s$ is `scale`.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Shape`] if there is not one variance an observed variable,
    /// [`OperatorError::Parameter`] if no index is given, one is out of range or `scale` not positive,
    /// [`OperatorError::Factorization`] if $H\,sC H^\top + R$ is not positive definite.
    pub fn gain(
        &self,
        scale: f64,
        observed: &[usize],
        variances: &[f64],
    ) -> Result<Vec<f64>, OperatorError> {
        const PLACE: &str = "Climatology::gain";
        let (d, m) = (self.mean.len(), observed.len());
        let mend = "give one variance an observed variable";
        OperatorError::check_length(PLACE, "variances", variances.len(), m, mend)?;
        if observed.is_empty() {
            return Err(OperatorError::parameter(
                PLACE,
                "observed",
                0,
                "at least one variable",
            ));
        }
        if let Some(bad) = observed.iter().find(|i| **i >= d) {
            let expected = "indices below the dimension of the state";
            return Err(OperatorError::parameter(PLACE, "observed", bad, expected));
        }
        if !(scale.is_finite() && scale > 0.0) {
            let expected = "a positive factor of the covariance";
            return Err(OperatorError::parameter(PLACE, "scale", scale, expected));
        }
        let entry = |i: usize, j: usize| scale * self.covariance[i * d + j];
        let innovation = Mat::<f64>::from_fn(m, m, |a, b| {
            entry(observed[a], observed[b]) + if a == b { variances[a] } else { 0.0 }
        });
        let factor = innovation
            .llt(Side::Lower)
            .map_err(|_| OperatorError::Factorization {
                place: PLACE,
                size: m,
                mend: "give positive variances and a climatology of finite states",
            })?;
        // K transposed solves (H C Hᵀ + R) Kᵀ = H C, because both matrices are symmetric.
        let transposed = factor.solve(Mat::<f64>::from_fn(m, d, |a, i| entry(observed[a], i)));
        Ok((0..d * m).map(|im| transposed[(im % m, im / m)]).collect())
    }
}

/// Optimal interpolation of a directly observed state.
#[derive(Debug, Clone)]
pub struct OptimalInterpolation {
    mean: Vec<f64>,
    gain: Vec<f64>,
    observed: Vec<usize>,
}

impl OptimalInterpolation {
    /// Observes the variables `observed` of the state with error `variances`, around
    /// `climatology`.
    ///
    /// # Errors
    ///
    /// As [`Climatology::gain`].
    pub fn try_new(
        climatology: &Climatology,
        observed: &[usize],
        variances: &[f64],
    ) -> Result<Self, OperatorError> {
        let gain = climatology.gain(1.0, observed, variances)?;
        Ok(Self {
            mean: climatology.mean.clone(),
            gain,
            observed: observed.to_vec(),
        })
    }
}

/// Adds $K\,\delta$ to `state`: gain `[d * m]`, departures `[m]`.
pub(crate) fn add_gain(gain: &[f64], departures: &[f64], state: &mut [f64]) {
    for (x, row) in state.iter_mut().zip(gain.chunks_exact(departures.len())) {
        *x += row.iter().zip(departures).map(|(k, y)| k * y).sum::<f64>();
    }
}

impl Filter for OptimalInterpolation {
    /// Every member becomes the same analysis: the method has one state.
    fn analyse(
        &self,
        ensemble: &mut Ensemble,
        observations: &Observations<'_>,
        _stream: &mut Stream,
    ) -> Result<(), OperatorError> {
        const PLACE: &str = "OptimalInterpolation";
        let mend = "build the filter for this state and these observations";
        let (got, expected) = (ensemble.dimension(), self.mean.len());
        OperatorError::check_length(PLACE, "state", got, expected, mend)?;
        let (values, m) = (observations.values(), self.observed.len());
        OperatorError::check_length(PLACE, "observations", values.len(), m, mend)?;
        let departures: Vec<f64> = values
            .iter()
            .zip(&self.observed)
            .map(|(y, i)| y - self.mean[*i])
            .collect();
        for row in ensemble.rows_mut() {
            row.copy_from_slice(&self.mean);
            add_gain(&self.gain, &departures, row);
        }
        Ok(())
    }
}
