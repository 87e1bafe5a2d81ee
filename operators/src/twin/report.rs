//! What a twin experiment reports.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Block, Expected, Experiment};
use crate::assimilation::diagnostics::{Coverage, Mean, Verification};

/// The scores of one seed, over the scored cycles.
///
/// Scores of the ensemble are absent for methods with a single state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// Time mean of the spatial root-mean-square error of the analysis mean.
    pub rmse: f64,
    /// The same of the forecast mean.
    pub forecast_rmse: f64,
    /// Mean error of the analysis.
    pub bias: f64,
    /// Root of the mean ensemble variance.
    pub spread: Option<f64>,
    /// Spread over error with the factor of a finite ensemble; 1 is ideal.
    pub spread_skill: Option<f64>,
    /// Fair CRPS.
    pub crps: Option<f64>,
    /// Fraction of truths inside the central interval.
    pub coverage: Option<f64>,
    /// $\chi^2$ of the rank histogram; neighbours and successive cycles are not independent, so
    /// this compares runs of equal length and does not test one.
    pub rank_chi_squared: Option<f64>,
    /// Wall-clock seconds a cycle of forecast and analysis, without truth and scores. Times are
    /// not written out: what is written is the same for every run.
    #[serde(skip)]
    pub seconds_per_cycle: f64,
    /// Wall-clock seconds of the run in all.
    #[serde(skip)]
    pub seconds: f64,
}

impl SeedReport {
    /// Merges all `blocks` of one `seed`, in their order; one after the other, so that the sums
    /// have the same bits wherever the blocks were made.
    pub fn from_blocks(experiment: &Experiment, seed: u64, blocks: &[Block]) -> Self {
        let members = experiment.method.members();
        let mut scores = Verification::new(members);
        let mut forecast_rmse = Mean::default();
        let (mut cycles, mut filter_seconds, mut seconds) = (0, 0.0, 0.0);
        for block in blocks {
            scores.merge(&block.scores);
            forecast_rmse.merge(&block.forecast_rmse);
            cycles += block.cycles;
            filter_seconds += block.filter_seconds;
            seconds += block.seconds;
        }
        let of_ensemble = |score: Option<f64>| score.filter(|_| members > 1);
        Self {
            seed,
            rmse: scores.rmse.value().unwrap_or(f64::NAN),
            forecast_rmse: forecast_rmse.value().unwrap_or(f64::NAN),
            bias: scores.spread_skill.errors().bias().unwrap_or(f64::NAN),
            spread: of_ensemble(scores.spread_skill.spread()),
            spread_skill: of_ensemble(scores.spread_skill.ratio()),
            crps: of_ensemble(scores.crps.value()),
            coverage: of_ensemble(scores.coverage.value()),
            rank_chi_squared: of_ensemble(scores.ranks.chi_squared()),
            seconds_per_cycle: filter_seconds / cycles as f64,
            seconds,
        }
    }
}

/// The scores of all seeds against the expected score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The name of the experiment.
    pub name: String,
    /// Mean over seeds of [`SeedReport::rmse`].
    pub rmse: f64,
    /// Standard deviation of [`SeedReport::rmse`] over seeds; absent for one seed.
    pub deviation: Option<f64>,
    /// Standard error of the mean; absent for one seed.
    pub standard_error: Option<f64>,
    /// Seeds that lost the truth: their analysis is worse than the observations themselves.
    pub diverged: usize,
    /// Mean over seeds of the spread.
    pub spread: Option<f64>,
    /// Mean over seeds of the spread–skill ratio.
    pub spread_skill: Option<f64>,
    /// Mean over seeds of the fair CRPS.
    pub crps: Option<f64>,
    /// Mean over seeds of the coverage.
    pub coverage: Option<f64>,
    /// The coverage of a reliable ensemble of this size.
    pub nominal_coverage: Option<f64>,
    /// Mean over seeds of the seconds a cycle.
    #[serde(skip)]
    pub seconds_per_cycle: f64,
    /// What was expected.
    pub expected: Option<Expected>,
    /// Whether the mean lies within the tolerance; absent if nothing was expected.
    pub passed: Option<bool>,
    /// One report a seed, in the order of the configuration.
    pub seeds: Vec<SeedReport>,
}

impl Report {
    /// Gathers the `seeds` of `experiment`; they may have run anywhere.
    ///
    /// The order of the means is that of `seeds`, so the same reports give the same bits.
    pub fn from_seeds(experiment: &Experiment, seeds: Vec<SeedReport>) -> Self {
        let errors = Mean::of(seeds.iter().map(|s| s.rmse));
        let rmse = errors.value().unwrap_or(f64::NAN);
        let method = &experiment.method;
        let observation_error = experiment.observations.variance.sqrt();
        let mean = |score: fn(&SeedReport) -> Option<f64>| {
            Mean::of(seeds.iter().filter_map(score)).value()
        };
        Self {
            name: experiment.name.clone(),
            rmse,
            deviation: errors
                .standard_error()
                .map(|error| error * (seeds.len() as f64).sqrt()),
            standard_error: errors.standard_error(),
            diverged: seeds.iter().filter(|s| s.rmse > observation_error).count(),
            spread: mean(|s| s.spread),
            spread_skill: mean(|s| s.spread_skill),
            crps: mean(|s| s.crps),
            coverage: mean(|s| s.coverage),
            nominal_coverage: method
                .is_ensemble()
                .then(|| Coverage::nominal(method.members())),
            seconds_per_cycle: mean(|s| Some(s.seconds_per_cycle)).unwrap_or(f64::NAN),
            passed: experiment
                .expected
                .as_ref()
                .map(|e| (rmse - e.rmse).abs() <= e.tolerance),
            expected: experiment.expected.clone(),
            seeds,
        }
    }
}

impl fmt::Display for Report {
    /// One line: name, error with its standard error, spread ratio, CRPS, coverage, time, verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let score = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.3}"));
        write!(
            f,
            "{}: rmse {:.4} ± {}",
            self.name,
            self.rmse,
            score(self.standard_error)
        )?;
        write!(
            f,
            ", spread {} (ratio {})",
            score(self.spread),
            score(self.spread_skill)
        )?;
        write!(
            f,
            ", crps {}, coverage {}",
            score(self.crps),
            score(self.coverage)
        )?;
        write!(f, " of {}", score(self.nominal_coverage))?;
        write!(f, ", {:.1} µs a cycle", 1e6 * self.seconds_per_cycle)?;
        if self.diverged > 0 {
            write!(
                f,
                ", {} of {} seeds diverged",
                self.diverged,
                self.seeds.len()
            )?;
        }
        if let (Some(expected), Some(passed)) = (&self.expected, self.passed) {
            let verdict = if passed { "reached" } else { "missed" };
            write!(
                f,
                ", expected {} ± {}: {verdict}",
                expected.rmse, expected.tolerance
            )?;
        }
        Ok(())
    }
}
