//! All scores of one ensemble against one truth, from one sort a cell.

use serde::{Deserialize, Serialize};

use super::{Coverage, FairCrps, Mean, RankHistogram, SpreadSkill};
use crate::OperatorError;
use crate::assimilation::{Ensemble, Stream};

/// The scores of a series of analyses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Time mean of the spatial root-mean-square error of the ensemble mean.
    pub rmse: Mean,
    /// Spread and error over all cells and times; its errors also give the bias.
    pub spread_skill: SpreadSkill,
    /// Fair CRPS over all cells and times.
    pub crps: FairCrps,
    /// Rank histogram over all cells and times.
    pub ranks: RankHistogram,
    /// Coverage of the central interval over all cells and times.
    pub coverage: Coverage,
}

impl Verification {
    /// No analysis yet, for ensembles of `members`.
    pub fn new(members: usize) -> Self {
        Self {
            rmse: Mean::default(),
            spread_skill: SpreadSkill::new(members),
            crps: FairCrps::default(),
            ranks: RankHistogram::new(members),
            coverage: Coverage::default(),
        }
    }

    /// Adds the analysis `ensemble` (`[N][d]`) of one time against the `truth` (`[d]`); `stream`
    /// breaks ties of ranks.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Shape`] if the truth has not the dimension of the ensemble.
    pub fn add(
        &mut self,
        ensemble: &Ensemble,
        truth: &[f64],
        stream: &mut Stream,
    ) -> Result<(), OperatorError> {
        let (n, d) = (ensemble.members(), ensemble.dimension());
        let mend = "verify against a state of the same model";
        OperatorError::check_length("Verification", "truth", truth.len(), d, mend)?;
        let (means, mut anomalies) = ensemble.columns();
        let mut now = SpreadSkill::new(n);
        for ((cell, truth), mean) in anomalies.chunks_exact_mut(n).zip(truth).zip(&means) {
            let squares: f64 = cell.iter().map(|a| a * a).sum();
            now.add(squares / (n.max(2) - 1) as f64, mean - truth);
            if n > 1 {
                cell.sort_unstable_by(f64::total_cmp);
                // Scores of differences do not depend on the origin: stay with the anomalies.
                let truth = truth - mean;
                self.crps.add(cell, truth);
                self.ranks.add(cell, truth, stream);
                self.coverage.add(cell, truth);
            }
        }
        self.rmse.add(now.errors().rmse().unwrap_or(0.0));
        self.spread_skill.merge(&now);
        Ok(())
    }

    /// Adds the sums of `other`, of other times.
    pub fn merge(&mut self, other: &Self) {
        self.rmse.merge(&other.rmse);
        self.spread_skill.merge(&other.spread_skill);
        self.crps.merge(&other.crps);
        self.ranks.merge(&other.ranks);
        self.coverage.merge(&other.coverage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assimilation::{Purpose, stream};

    /// A reliable ensemble scores as one: ratio 1, fair CRPS $1/\sqrt\pi$, nominal coverage, flat
    /// ranks.
    #[test]
    fn a_reliable_ensemble_scores_as_one() {
        let mut rng = stream(8, Purpose::Initial, 0);
        let mut scores = Verification::new(12);
        for _ in 0..400 {
            let ensemble = Ensemble::sample(12, &[0.0; 25], 1.0, &mut rng).unwrap();
            let truth = Ensemble::sample(1, &[0.0; 25], 1.0, &mut rng).unwrap();
            scores.add(&ensemble, truth.values(), &mut rng).unwrap();
        }
        let near = |got: Option<f64>, expected: f64| (got.unwrap() / expected - 1.0).abs() < 0.03;
        assert!(near(scores.spread_skill.ratio(), 1.0));
        assert!(near(scores.crps.value(), 1.0 / std::f64::consts::PI.sqrt()));
        assert!(near(scores.coverage.value(), 11.0 / 13.0));
        // The 0.999 quantile of χ² with 12 degrees of freedom is 32.9.
        assert!(scores.ranks.chi_squared().unwrap() < 32.9);
    }
}
