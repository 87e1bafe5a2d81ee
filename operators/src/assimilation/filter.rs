//! What all filters share: the observations of one cycle and the analysis of an ensemble.

use std::fmt::Debug;

use super::{Ensemble, Stream};
use crate::OperatorError;

/// The observations of one cycle, seen by the ensemble.
#[derive(Debug, Clone, Copy)]
pub struct Observations<'a> {
    predicted: &'a Ensemble,
    values: &'a [f64],
    variances: &'a [f64],
}

impl<'a> Observations<'a> {
    /// Joins the predicted observations $H(E)$ (`[N][m]`), the observed values $y$ (`[m]`) and
    /// the diagonal of the error covariance $R$ (`[m]`, the square of the observed unit).
    ///
    /// # Errors
    ///
    /// [`OperatorError::Shape`] if the three disagree on `m`, [`OperatorError::Parameter`] if a
    /// variance is not positive and finite.
    pub fn try_new(
        predicted: &'a Ensemble,
        values: &'a [f64],
        variances: &'a [f64],
    ) -> Result<Self, OperatorError> {
        const PLACE: &str = "Observations";
        let mend = "give one value and one variance a predicted observation";
        let m = predicted.dimension();
        OperatorError::check_length(PLACE, "values", values.len(), m, mend)?;
        OperatorError::check_length(PLACE, "variances", variances.len(), m, mend)?;
        if let Some(bad) = variances.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
            let expected = "a positive variance";
            return Err(OperatorError::parameter(PLACE, "variance", bad, expected));
        }
        Ok(Self {
            predicted,
            values,
            variances,
        })
    }

    /// The predicted observations $H(E)$, `[N][m]`.
    pub fn predicted(&self) -> &'a Ensemble {
        self.predicted
    }

    /// The observed values $y$, `[m]`.
    pub fn values(&self) -> &'a [f64] {
        self.values
    }

    /// The error variances, the diagonal of $R$, `[m]`.
    pub fn variances(&self) -> &'a [f64] {
        self.variances
    }

    /// The departures $y - \overline{H(E)}$ (`[m]`) and the predicted anomalies $Y$, one row an
    /// observation (`[m * N]`).
    pub fn departures(&self) -> (Vec<f64>, Vec<f64>) {
        let (mean, anomalies) = self.predicted.columns();
        (
            self.values.iter().zip(&mean).map(|(y, h)| y - h).collect(),
            anomalies,
        )
    }

    /// `Ok` if the ensemble to be analysed has the members of the predicted observations.
    pub(crate) fn check_members(
        &self,
        place: &'static str,
        ensemble: &Ensemble,
    ) -> Result<(), OperatorError> {
        let mend = "predict the observations from the members that are analysed";
        let (got, expected) = (self.predicted.members(), ensemble.members());
        OperatorError::check_length(place, "predicted members", got, expected, mend)
    }
}

/// An analysis step: conditions an ensemble on the observations of one cycle.
pub trait Filter: Debug + Send + Sync {
    /// Replaces the forecast `ensemble` by the analysis.
    ///
    /// `stream` feeds rotations and perturbations; a filter without them leaves it untouched.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Shape`] if the observations do not fit the ensemble or the filter,
    /// [`OperatorError::Factorization`] if the ensemble is not finite.
    fn analyse(
        &self,
        ensemble: &mut Ensemble,
        observations: &Observations<'_>,
        stream: &mut Stream,
    ) -> Result<(), OperatorError>;
}
