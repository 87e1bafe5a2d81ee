//! Bias, root-mean-square error, spread and the spread–skill ratio.

use serde::{Deserialize, Serialize};

/// Sums over departures $e$ = estimate − truth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Departures {
    count: u64,
    sum: f64,
    squares: f64,
}

impl Departures {
    /// Adds one departure.
    pub fn add(&mut self, departure: f64) {
        self.count += 1;
        self.sum += departure;
        self.squares += departure * departure;
    }

    /// Adds the sums of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The number of departures.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean departure, $\overline e$; `None` without departures.
    pub fn bias(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// $\sqrt{\overline{e^2}}$; `None` without departures.
    pub fn rmse(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.squares / self.count as f64).sqrt())
    }
}

/// The mean of a series of numbers and its standard error.
///
/// The time-mean error of twin experiments is the [`Mean`] over cycles of the spatial
/// [`Departures::rmse`], as in Sakov and Oke (2008), not the root of the mean square over all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    count: u64,
    sum: f64,
    squares: f64,
}

impl Mean {
    /// The mean of `values`.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut mean = Self::default();
        values.into_iter().for_each(|value| mean.add(value));
        mean
    }

    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// Adds the sums of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The mean; `None` without values.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The standard error of the mean for independent values; `None` below two values.
    pub fn standard_error(&self) -> Option<f64> {
        let n = self.count as f64;
        (self.count > 1).then(|| {
            let variance = (self.squares - self.sum * self.sum / n).max(0.0) / (n - 1.0);
            (variance / n).sqrt()
        })
    }
}

/// Ensemble variance against the error of the ensemble mean, for one ensemble size $N$.
///
/// $$\text{spread} = \sqrt{\overline{s^2}},\qquad
/// \text{ratio} = \sqrt{\tfrac{N+1}{N}}\;\frac{\text{spread}}{\text{rmse}},$$
///
/// with $s^2$ the unbiased variance; the ratio is 1 for an ensemble that the truth could be a
/// member of (Fortin et al. 2014).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpreadSkill {
    members: u64,
    variances: f64,
    errors: Departures,
}

impl SpreadSkill {
    /// No cell yet, for ensembles of `members`.
    pub fn new(members: usize) -> Self {
        Self {
            members: members as u64,
            variances: 0.0,
            errors: Departures::default(),
        }
    }

    /// Adds one cell: its unbiased ensemble `variance` and the `departure` of its mean.
    pub fn add(&mut self, variance: f64, departure: f64) {
        self.variances += variance;
        self.errors.add(departure);
    }

    /// Adds the sums of `other`; both must count ensembles of one size.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.members, other.members, "ensembles of one size only");
        self.variances += other.variances;
        self.errors.merge(&other.errors);
    }

    /// The errors of the ensemble mean.
    pub fn errors(&self) -> &Departures {
        &self.errors
    }

    /// The root of the mean variance; `None` without cells.
    pub fn spread(&self) -> Option<f64> {
        let n = self.errors.count();
        (n > 0).then(|| (self.variances / n as f64).sqrt())
    }

    /// The spread–skill ratio; `None` without cells or for an error of zero.
    pub fn ratio(&self) -> Option<f64> {
        let rmse = self.errors.rmse().filter(|rmse| *rmse > 0.0)?;
        let n = self.members as f64;
        Some(((n + 1.0) / n).sqrt() * self.spread()? / rmse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merging the halves of a series gives the scores of the series.
    #[test]
    fn halves_merge_into_the_whole() {
        let series: Vec<f64> = (0..31).map(|i| (i as f64).sin()).collect();
        let sums = |part: &[f64]| {
            let mut sums = Departures::default();
            part.iter().for_each(|e| sums.add(*e));
            sums
        };
        let mut halves = sums(&series[..11]);
        halves.merge(&sums(&series[11..]));
        let whole = sums(&series);
        assert!((halves.rmse().unwrap() - whole.rmse().unwrap()).abs() < 1e-15);
        assert!((halves.bias().unwrap() - whole.bias().unwrap()).abs() < 1e-15);
        assert_eq!(halves.count(), 31);
    }

    /// Known numbers: departures 3 and −4; values 1, 2, 3.
    #[test]
    fn known_numbers() {
        let mut departures = Departures::default();
        departures.add(3.0);
        departures.add(-4.0);
        assert_eq!(departures.bias(), Some(-0.5));
        assert_eq!(departures.rmse(), Some(12.5f64.sqrt()));
        let mean = Mean::of([1.0, 2.0, 3.0]);
        assert_eq!(mean.value(), Some(2.0));
        assert!((mean.standard_error().unwrap() - (1.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(Departures::default().rmse(), None);
        let mut skill = SpreadSkill::new(3);
        skill.add(3.0, 2.0);
        assert!((skill.ratio().unwrap() - 1.0).abs() < 1e-15);
    }
}
