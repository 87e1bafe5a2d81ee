//! The ensemble $E$: $N$ members of a state of dimension $d$.

use rand_distr::{Distribution, StandardNormal};

use super::Stream;
use crate::OperatorError;

/// `members` states of `dimension` variables, row-major: one row a member.
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    members: usize,
    dimension: usize,
    values: Vec<f64>,
}

impl Ensemble {
    /// Takes `values`, `[members * dimension]` row-major.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if `members` or `dimension` is zero, [`OperatorError::Shape`]
    /// if the number of values is not their product.
    pub fn try_new(
        members: usize,
        dimension: usize,
        values: Vec<f64>,
    ) -> Result<Self, OperatorError> {
        for (name, value) in [("members", members), ("dimension", dimension)] {
            if value == 0 {
                return Err(OperatorError::parameter(
                    "Ensemble",
                    name,
                    value,
                    "at least 1",
                ));
            }
        }
        OperatorError::check_length(
            "Ensemble",
            "values",
            values.len(),
            members.saturating_mul(dimension),
            "give one row of `dimension` values a member",
        )?;
        Ok(Self {
            members,
            dimension,
            values,
        })
    }

    /// Draws `members` states from $\mathcal N(\text{mean}, \text{variance}\, I)$.
    ///
    /// # Errors
    ///
    /// As [`Ensemble::try_new`]; also if `variance` is negative or not finite.
    pub fn sample(
        members: usize,
        mean: &[f64],
        variance: f64,
        stream: &mut Stream,
    ) -> Result<Self, OperatorError> {
        if !(variance.is_finite() && variance >= 0.0) {
            let expected = "a variance of zero or more";
            return Err(OperatorError::parameter(
                "Ensemble", "variance", variance, expected,
            ));
        }
        let deviation = variance.sqrt();
        let values = (0..members)
            .flat_map(|_| mean.iter())
            .map(|m| {
                let normal: f64 = StandardNormal.sample(stream);
                m + deviation * normal
            })
            .collect();
        Self::try_new(members, mean.len(), values)
    }

    /// The number of members, `N`.
    pub fn members(&self) -> usize {
        self.members
    }

    /// The number of state variables, `d`.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// All values, `[N * d]` row-major.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All values for change in place.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// The members in order, each `[d]`.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.dimension)
    }

    /// The members in order for change in place, each `[d]`.
    pub fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [f64]> {
        self.values.chunks_exact_mut(self.dimension)
    }

    /// The ensemble mean, `[d]`, summed in member order.
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.dimension];
        for row in self.rows() {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += x);
        }
        let scale = 1.0 / self.members as f64;
        mean.iter_mut().for_each(|m| *m *= scale);
        mean
    }

    /// The unbiased variance of every variable, `[d]`; zeros for a single member.
    pub fn variance(&self) -> Vec<f64> {
        let mean = self.mean();
        let mut variance = vec![0.0; self.dimension];
        for row in self.rows() {
            for ((v, x), m) in variance.iter_mut().zip(row).zip(&mean) {
                *v += (x - m).powi(2);
            }
        }
        let scale = 1.0 / (self.members.max(2) - 1) as f64;
        variance.iter_mut().for_each(|v| *v *= scale);
        variance
    }

    /// The mean `[d]` and the anomalies $A$ cell by cell, `[d * N]`: one row a variable.
    ///
    /// This is the layout of the analysis, which works on all members of one variable at a time.
    pub fn columns(&self) -> (Vec<f64>, Vec<f64>) {
        let (n, mean) = (self.members, self.mean());
        let mut columns = vec![0.0; self.values.len()];
        for (member, row) in self.rows().enumerate() {
            for (cell, (x, m)) in row.iter().zip(&mean).enumerate() {
                columns[cell * n + member] = x - m;
            }
        }
        (mean, columns)
    }

    /// The members restricted to the variables `indices`, in that order.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if an index is not below the dimension, or if there is none.
    pub fn select(&self, indices: &[usize]) -> Result<Self, OperatorError> {
        if let Some(&index) = indices.iter().find(|i| **i >= self.dimension) {
            let expected = "indices below the dimension of the state";
            return Err(OperatorError::parameter(
                "Ensemble::select",
                "index",
                index,
                expected,
            ));
        }
        let values = self
            .rows()
            .flat_map(|row| indices.iter().map(move |index| row[*index]))
            .collect();
        Self::try_new(self.members, indices.len(), values)
    }

    /// Whether every value is finite.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|x| x.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assimilation::{Purpose, stream};

    /// Mean plus anomalies is the ensemble again.
    #[test]
    fn columns_reassemble() {
        let mut rng = stream(3, Purpose::Initial, 0);
        let ensemble = Ensemble::sample(5, &[1.0, -2.0, 3.0], 4.0, &mut rng).unwrap();
        let (mean, columns) = ensemble.columns();
        for (member, row) in ensemble.rows().enumerate() {
            for (cell, x) in row.iter().enumerate() {
                assert!((mean[cell] + columns[cell * 5 + member] - x).abs() < 1e-14);
            }
        }
    }

    /// A sample has the mean and the variance that were asked for, within its sampling error.
    #[test]
    fn sample_has_the_moments() {
        let mut rng = stream(1, Purpose::Initial, 0);
        let ensemble = Ensemble::sample(20_000, &[2.0], 9.0, &mut rng).unwrap();
        assert!((ensemble.mean()[0] - 2.0).abs() < 0.1);
        assert!((ensemble.variance()[0] - 9.0).abs() < 0.4);
    }

    /// Wrong lengths and wrong indices are refused with both values in the message.
    #[test]
    fn refuses_wrong_shapes() {
        let error = Ensemble::try_new(2, 3, vec![0.0; 5])
            .unwrap_err()
            .to_string();
        assert!(error.contains('5') && error.contains('6'), "{error}");
        let ensemble = Ensemble::try_new(1, 3, vec![0.0; 3]).unwrap();
        assert!(ensemble.select(&[3]).is_err());
    }
}
