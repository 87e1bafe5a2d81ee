//! The local ensemble transform Kalman filter: one ETKF a cell, from the observations it hears.
//!
//! $x^a_j = \bar x + a\,(\bar w + W_j)$ with the weights of the cell's [`Information`]; the taper
//! multiplies $R^{-1}$ (Hunt, Kostelich and Szunyogh 2007, section 2.3).

use super::rotation::rotate;
use super::{
    Ensemble, Filter, Inflation, Information, Localization, Observations, Stream, weights,
};
use crate::OperatorError;

/// The local ensemble transform Kalman filter.
#[derive(Debug, Clone)]
pub struct Letkf {
    localization: Localization,
    inflation: Inflation,
    rotation: bool,
}

impl Letkf {
    /// A filter that hears by `localization`, inflates by `inflation` and, with `rotation`,
    /// rotates the analysis anomalies at random, all cells alike.
    ///
    /// # Errors
    ///
    /// As [`Inflation::validated`].
    pub fn try_new(
        localization: Localization,
        inflation: Inflation,
        rotation: bool,
    ) -> Result<Self, OperatorError> {
        Ok(Self {
            localization,
            inflation: inflation.validated()?,
            rotation,
        })
    }
}

impl Filter for Letkf {
    fn analyse(
        &self,
        ensemble: &mut Ensemble,
        observations: &Observations<'_>,
        stream: &mut Stream,
    ) -> Result<(), OperatorError> {
        const PLACE: &str = "Letkf";
        let (n, cells) = (ensemble.members(), self.localization.cells());
        observations.check_members(PLACE, ensemble)?;
        let mend = "build the localization for this state and these observations";
        OperatorError::check_length(PLACE, "state", ensemble.dimension(), cells, mend)?;
        let (got, expected) = (
            observations.values().len(),
            self.localization.observations(),
        );
        OperatorError::check_length(PLACE, "observations", got, expected, mend)?;
        if n < 2 {
            return Err(OperatorError::parameter(
                PLACE,
                "members",
                n,
                "at least 2 members",
            ));
        }

        let (means, anomalies) = ensemble.columns();
        let (departures, predicted) = observations.departures();
        let mut information = Information::none(n);
        let mut analysed = vec![0.0; n];
        for cell in 0..cells {
            information.clear();
            for &(k, taper) in self.localization.heard(cell) {
                let weight = taper / observations.variances()[k];
                information.add(&predicted[k * n..(k + 1) * n], departures[k], weight);
            }
            let forecast = &anomalies[cell * n..(cell + 1) * n];
            let local = weights(&information, &self.inflation)?;
            let mean = local.apply(means[cell], forecast, &mut analysed);
            self.inflation.relax(forecast, &mut analysed);
            for (member, anomaly) in analysed.iter().enumerate() {
                ensemble.values_mut()[member * cells + cell] = mean + anomaly;
            }
        }
        if self.rotation {
            rotate(ensemble, stream);
        }
        Ok(())
    }
}
