//! Covariance inflation, multiplicative and by relaxation to the prior spread (RTPS).
//!
//! Sampling error and nonlinearity make a filter overconfident; inflation gives spread back.
//! RTPS is equation (2) of Whitaker and Hamill (2012):
//! $a \leftarrow a\,\big(1 + \alpha\,(\sigma^b - \sigma^a)/\sigma^a\big)$ at every cell.

use serde::{Deserialize, Serialize};

use crate::OperatorError;

/// The inflation of one filter; the default changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inflation {
    /// Factor $\rho$ of the forecast covariance before the analysis (Hunt et al. 2007, eq. 21).
    pub background: f64,
    /// Factor $\lambda$ of the analysis anomalies (not of their covariance).
    pub anomalies: f64,
    /// Relaxation $\alpha$ of the analysis spread to the forecast spread, in `[0, 1]` as a rule.
    pub relaxation: f64,
}

impl Default for Inflation {
    fn default() -> Self {
        Self {
            background: 1.0,
            anomalies: 1.0,
            relaxation: 0.0,
        }
    }
}

impl Inflation {
    /// Multiplies the analysis anomalies by `factor`.
    pub fn anomalies(factor: f64) -> Self {
        Self {
            anomalies: factor,
            ..Self::default()
        }
    }

    /// Relaxes the analysis spread to the forecast spread by `alpha`.
    pub fn relaxation(alpha: f64) -> Self {
        Self {
            relaxation: alpha,
            ..Self::default()
        }
    }

    /// Returns the inflation if it is usable.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if a factor is not positive and finite or the relaxation is
    /// negative or not finite.
    pub fn validated(self) -> Result<Self, OperatorError> {
        for (name, value) in [
            ("background", self.background),
            ("anomalies", self.anomalies),
        ] {
            if !(value.is_finite() && value > 0.0) {
                let expected = "a positive factor, 1 for none";
                return Err(OperatorError::parameter("Inflation", name, value, expected));
            }
        }
        if !(self.relaxation.is_finite() && self.relaxation >= 0.0) {
            let (name, expected) = ("relaxation", "a number of 0 (none) to 1 (the prior spread)");
            return Err(OperatorError::parameter(
                "Inflation",
                name,
                self.relaxation,
                expected,
            ));
        }
        Ok(self)
    }

    /// Relaxes the anomalies `analysis` of one cell (`[N]`) to the spread of `forecast` (`[N]`).
    ///
    /// A cell without analysis spread is left alone: there is no direction to stretch.
    pub fn relax(&self, forecast: &[f64], analysis: &mut [f64]) {
        if self.relaxation == 0.0 {
            return;
        }
        let square = |a: &[f64]| a.iter().map(|v| v * v).sum::<f64>();
        let (before, after) = (square(forecast).sqrt(), square(analysis).sqrt());
        if after > 0.0 {
            let factor = 1.0 + self.relaxation * (before - after) / after;
            analysis.iter_mut().for_each(|a| *a *= factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Full relaxation restores the forecast spread, none keeps the analysis, half is half way.
    #[test]
    fn relaxation_is_linear_in_the_spread() {
        let forecast = [2.0, -2.0, 0.0];
        let spread = |alpha: f64| {
            let mut analysis = [0.5, 0.0, -0.5];
            Inflation::relaxation(alpha).relax(&forecast, &mut analysis);
            analysis.iter().map(|a| a * a).sum::<f64>().sqrt()
        };
        let (before, after) = (8f64.sqrt(), 0.5f64.sqrt());
        assert!((spread(1.0) - before).abs() < 1e-14);
        assert!((spread(0.0) - after).abs() < 1e-14);
        assert!((spread(0.5) - 0.5 * (before + after)).abs() < 1e-14);
    }

    /// Factors that are not positive are refused.
    #[test]
    fn refuses_bad_factors() {
        assert!(Inflation::anomalies(0.0).validated().is_err());
        assert!(Inflation::relaxation(-0.1).validated().is_err());
        assert!(Inflation::default().validated().is_ok());
    }
}
