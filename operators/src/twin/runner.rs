//! Runs twin experiments: truth, observations, forecast, analysis and scores, cycle by cycle.

use std::time::Instant;

use rand_distr::{Distribution, StandardNormal};

use super::{Experiment, Report, SeedReport};
use crate::OperatorError;
use crate::assimilation::diagnostics::{Departures, Mean, Verification};
use crate::assimilation::{Ensemble, Observations, Purpose, stream};

/// Runs every seed of `experiment`, one after the other.
///
/// # Errors
///
/// [`OperatorError::Parameter`] if the experiment is not valid, [`OperatorError::Diverged`] if a
/// state is no longer finite.
pub fn run_experiment(experiment: &Experiment) -> Result<Report, OperatorError> {
    let seeds: Result<Vec<_>, _> = experiment
        .run
        .seeds
        .iter()
        .map(|seed| run_seed(experiment, *seed))
        .collect();
    Ok(Report::from_seeds(experiment, seeds?))
}

/// Runs `experiment` from one `seed`; equal seeds give equal scores, bit for bit, and two methods
/// with one seed see the same truth and the same observations.
///
/// # Errors
///
/// As [`run_experiment`].
pub fn run_seed(experiment: &Experiment, seed: u64) -> Result<SeedReport, OperatorError> {
    let started = Instant::now();
    let experiment = experiment.clone().validated()?;
    let (plan, run) = (&experiment.observations, &experiment.run);
    let model = experiment.model.build()?;
    let observed = experiment.observed(model.dimension());
    let variances = vec![plan.variance; observed.len()];
    let deviation = plan.variance.sqrt();
    let members = experiment.method.members();
    let filter = experiment.method.build(&experiment, model.as_ref(), seed)?;

    let start = model.reference_state();
    let mut rng = stream(seed, Purpose::Truth, 0);
    let mut truth = Ensemble::sample(1, &start, run.initial_variance, &mut rng)?;
    let mut rng = stream(seed, Purpose::Initial, 0);
    let mut ensemble = Ensemble::sample(members, &start, run.initial_variance, &mut rng)?;

    let mut scores = Verification::new(members);
    let mut forecast_rmse = Mean::default();
    let mut filter_seconds = 0.0;
    let last = run.burn_in + run.cycles;
    for cycle in 1..=last {
        let key = cycle as u64;
        model.advance(truth.values_mut(), plan.steps_per_cycle);
        let mut rng = stream(seed, Purpose::Observations, key);
        let values: Vec<f64> = observed
            .iter()
            .map(|i| {
                let normal: f64 = StandardNormal.sample(&mut rng);
                truth.values()[*i] + deviation * normal
            })
            .collect();

        let diverged = || OperatorError::Diverged {
            experiment: experiment.name.clone(),
            seed,
            cycle,
        };
        let before = Instant::now();
        model.advance(ensemble.values_mut(), plan.steps_per_cycle);
        let forecast_mean = ensemble.mean();
        if !ensemble.is_finite() {
            return Err(diverged());
        }
        let predicted = ensemble.select(&observed)?;
        let observations = Observations::try_new(&predicted, &values, &variances)?;
        let mut rng = stream(seed, Purpose::Analysis, key);
        filter.analyse(&mut ensemble, &observations, &mut rng)?;
        filter_seconds += before.elapsed().as_secs_f64();
        if !(ensemble.is_finite() && truth.is_finite()) {
            return Err(diverged());
        }

        if cycle > run.burn_in {
            let mut departures = Departures::default();
            forecast_mean
                .iter()
                .zip(truth.values())
                .for_each(|(f, t)| departures.add(f - t));
            forecast_rmse.add(departures.rmse().unwrap_or(0.0));
            let mut rng = stream(seed, Purpose::Ties, key);
            scores.add(&ensemble, truth.values(), &mut rng)?;
        }
    }

    let of_ensemble = |score: Option<f64>| score.filter(|_| members > 1);
    Ok(SeedReport {
        seed,
        rmse: scores.rmse.value().unwrap_or(f64::NAN),
        forecast_rmse: forecast_rmse.value().unwrap_or(f64::NAN),
        bias: scores.spread_skill.errors().bias().unwrap_or(f64::NAN),
        spread: of_ensemble(scores.spread_skill.spread()),
        spread_skill: of_ensemble(scores.spread_skill.ratio()),
        crps: of_ensemble(scores.crps.value()),
        coverage: of_ensemble(scores.coverage.value()),
        rank_chi_squared: of_ensemble(scores.ranks.chi_squared()),
        seconds_per_cycle: filter_seconds / last as f64,
        seconds: started.elapsed().as_secs_f64(),
    })
}
