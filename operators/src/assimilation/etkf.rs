//! The ensemble transform Kalman filter with the symmetric square root ("EnKF Sqrt").
//!
//! One set of weights for the whole state, from all observations: $E^a = \bar x + (\bar w + W) A$.
//! Sources: Bishop, Etherton and Majumdar (2001); Sakov and Oke (2008) for the symmetric root and
//! the mean-preserving rotation.

use super::rotation::rotate;
use super::{Ensemble, Filter, Inflation, Information, Observations, Stream, weights};
use crate::OperatorError;

/// The global square-root ensemble Kalman filter.
#[derive(Debug, Clone)]
pub struct Etkf {
    inflation: Inflation,
    rotation: bool,
}

impl Etkf {
    /// A filter that inflates by `inflation` and, with `rotation`, rotates the analysis anomalies
    /// at random.
    ///
    /// # Errors
    ///
    /// As [`Inflation::validated`].
    pub fn try_new(inflation: Inflation, rotation: bool) -> Result<Self, OperatorError> {
        Ok(Self {
            inflation: inflation.validated()?,
            rotation,
        })
    }
}

/// The sums over all observations, in their order.
pub(crate) fn global_information(
    observations: &Observations<'_>,
    departures: &[f64],
    predicted: &[f64],
) -> Information {
    let n = observations.predicted().members();
    let mut information = Information::none(n);
    for (k, row) in predicted.chunks_exact(n).enumerate() {
        information.add(row, departures[k], 1.0 / observations.variances()[k]);
    }
    information
}

impl Filter for Etkf {
    fn analyse(
        &self,
        ensemble: &mut Ensemble,
        observations: &Observations<'_>,
        stream: &mut Stream,
    ) -> Result<(), OperatorError> {
        const PLACE: &str = "Etkf";
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
        let information = global_information(observations, &departures, &predicted);
        let found = weights(&information, &self.inflation)?;
        let (means, anomalies) = ensemble.columns();
        let mut analysed = vec![0.0; n];
        for cell in 0..d {
            let forecast = &anomalies[cell * n..(cell + 1) * n];
            let mean = found.apply(means[cell], forecast, &mut analysed);
            self.inflation.relax(forecast, &mut analysed);
            for (member, anomaly) in analysed.iter().enumerate() {
                ensemble.values_mut()[member * d + cell] = mean + anomaly;
            }
        }
        if self.rotation {
            rotate(ensemble, stream);
        }
        Ok(())
    }
}
