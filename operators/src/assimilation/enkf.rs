//! The stochastic ensemble Kalman filter with perturbed observations.
//!
//! Member $j$ is updated with its own observations $y - \epsilon_j$, where the perturbations
//! $\epsilon_j \sim \mathcal N(0, R)$ are centred over the ensemble (Burgers, van Leeuwen and
//! Evensen 1998). In the space of the ensemble
//! $$x_j \leftarrow x_j + A^\top [(N-1) I + Y R^{-1} Y^\top]^{-1} Y R^{-1} (y - \epsilon_j - Hx_j),$$
//! which costs $N^3$ and not $m^3$.

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};
use rand_distr::{Distribution, StandardNormal};

use super::etkf::global_information;
use super::{Ensemble, Filter, Inflation, Observations, Stream};
use crate::OperatorError;

/// The ensemble Kalman filter with perturbed observations.
#[derive(Debug, Clone)]
pub struct StochasticEnkf {
    inflation: Inflation,
}

impl StochasticEnkf {
    /// A filter that inflates by `inflation`.
    ///
    /// # Errors
    ///
    /// As [`Inflation::validated`].
    pub fn try_new(inflation: Inflation) -> Result<Self, OperatorError> {
        Ok(Self {
            inflation: inflation.validated()?,
        })
    }
}

/// Observation errors $\epsilon$ drawn for every member, one row an observation (`[m * N]`),
/// centred over the members.
fn perturbations(variances: &[f64], members: usize, stream: &mut Stream) -> Vec<f64> {
    let mut drawn = Vec::with_capacity(variances.len() * members);
    for variance in variances {
        let start = drawn.len();
        for _ in 0..members {
            let normal: f64 = StandardNormal.sample(stream);
            drawn.push(variance.sqrt() * normal);
        }
        let mean = drawn[start..].iter().sum::<f64>() / members as f64;
        drawn[start..].iter_mut().for_each(|e| *e -= mean);
    }
    drawn
}

impl Filter for StochasticEnkf {
    fn analyse(
        &self,
        ensemble: &mut Ensemble,
        observations: &Observations<'_>,
        stream: &mut Stream,
    ) -> Result<(), OperatorError> {
        const PLACE: &str = "StochasticEnkf";
        let (n, d) = (ensemble.members(), ensemble.dimension());
        observations.check_members(PLACE, ensemble)?;
        if n < 2 {
            return Err(OperatorError::parameter(
                PLACE,
                "members",
                n,
                "at least 2 members",
            ));
        }
        let (departures, predicted) = observations.departures();
        let variances = observations.variances();
        let errors = perturbations(variances, n, stream);
        let information = global_information(observations, &departures, &predicted);
        let full = information.matrix((n - 1) as f64 / self.inflation.background);

        // Column j of the right-hand side is Y R⁻¹ (y - ε_j - H x_j).
        let mut right = vec![0.0; n * n];
        for (k, row) in predicted.chunks_exact(n).enumerate() {
            for (i, y) in row.iter().enumerate() {
                let scaled = y / variances[k];
                for j in 0..n {
                    right[i * n + j] += scaled * (departures[k] - errors[k * n + j] - row[j]);
                }
            }
        }
        let factor = MatRef::from_row_major_slice(&full, n, n)
            .llt(Side::Lower)
            .map_err(|_| OperatorError::Factorization {
                place: PLACE,
                size: n,
                mend: "check that observations and predicted observations are finite",
            })?;
        let gains: Mat<f64> = factor.solve(MatRef::from_row_major_slice(&right, n, n));

        let (_, anomalies) = ensemble.columns();
        let mut analysed = vec![0.0; n];
        for cell in 0..d {
            let forecast = &anomalies[cell * n..(cell + 1) * n];
            for (j, out) in analysed.iter_mut().enumerate() {
                let column = gains.col(j);
                let step: f64 = forecast.iter().zip(column.iter()).map(|(a, g)| a * g).sum();
                *out = ensemble.values()[j * d + cell] + step;
            }
            let mean = analysed.iter().sum::<f64>() / n as f64;
            analysed
                .iter_mut()
                .for_each(|x| *x = self.inflation.anomalies * (*x - mean));
            self.inflation.relax(forecast, &mut analysed);
            for (j, anomaly) in analysed.iter().enumerate() {
                ensemble.values_mut()[j * d + cell] = mean + anomaly;
            }
        }
        Ok(())
    }
}
