//! Runs twin experiments: truth, observations, forecast, analysis and scores, cycle by cycle.
//!
//! A [`SeedRun`] gives its scores in [`Block`]s of [`BLOCK`] cycles, so that a dataflow may pass
//! them on while it runs. The blocks are cut at fixed cycles and merged in order: whoever merges
//! them gets the same bits.

use std::time::Instant;

use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::{Experiment, Report, SeedReport};
use crate::OperatorError;
use crate::assimilation::diagnostics::{Departures, Mean, Verification};
use crate::assimilation::{Ensemble, Filter, Observations, Purpose, stream};
use crate::models::Model;

/// Cycles in a block of scores; the last block of a run may have fewer.
pub const BLOCK: usize = 250;

/// The scores of up to [`BLOCK`] successive cycles of one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Its place among the blocks of its seed, from 0.
    pub index: u64,
    /// Cycles in it, scored or not.
    pub cycles: u64,
    /// Scores of the analyses, without those of the burn-in.
    pub scores: Verification,
    /// Spatial root-mean-square error of the forecast mean at each scored cycle.
    pub forecast_rmse: Mean,
    /// Wall-clock seconds of forecast and analysis.
    pub filter_seconds: f64,
    /// Wall-clock seconds in all, with truth and scores.
    pub seconds: f64,
}

/// One seed of an experiment under way.
#[derive(Debug)]
pub struct SeedRun {
    experiment: Experiment,
    seed: u64,
    model: Box<dyn Model>,
    filter: Box<dyn Filter>,
    /// Indices of the observed variables, `[m]`, and their error variances, `[m]`.
    observed: Vec<usize>,
    variances: Vec<f64>,
    /// `[1][d]` and `[N][d]`.
    truth: Ensemble,
    ensemble: Ensemble,
    /// Cycles done, of all.
    done: usize,
    last: usize,
    /// Seconds spent before the first cycle.
    start_seconds: f64,
}

impl SeedRun {
    /// The start of `experiment` from `seed`: nothing is integrated but the climatology, where the
    /// method asks for one.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if the experiment is not valid.
    pub fn start(experiment: &Experiment, seed: u64) -> Result<Self, OperatorError> {
        let started = Instant::now();
        let experiment = experiment.clone().validated()?;
        let run = &experiment.run;
        let model = experiment.model.build()?;
        let observed = experiment.observed(model.dimension());
        let variances = vec![experiment.observations.variance; observed.len()];
        let filter = experiment.method.build(&experiment, model.as_ref(), seed)?;
        let start = model.reference_state();
        let mut rng = stream(seed, Purpose::Truth, 0);
        let truth = Ensemble::sample(1, &start, run.initial_variance, &mut rng)?;
        let mut rng = stream(seed, Purpose::Initial, 0);
        let members = experiment.method.members();
        let ensemble = Ensemble::sample(members, &start, run.initial_variance, &mut rng)?;
        Ok(Self {
            seed,
            model,
            filter,
            observed,
            variances,
            truth,
            ensemble,
            done: 0,
            last: run.burn_in.saturating_add(run.cycles),
            start_seconds: started.elapsed().as_secs_f64(),
            experiment,
        })
    }

    /// The number of blocks of every seed of `experiment`.
    pub fn blocks(experiment: &Experiment) -> u64 {
        let run = &experiment.run;
        run.burn_in.saturating_add(run.cycles).div_ceil(BLOCK) as u64
    }

    /// Runs the next block; `None` when all cycles are done.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Diverged`] if a state is no longer finite.
    pub fn next_block(&mut self) -> Result<Option<Block>, OperatorError> {
        if self.done == self.last {
            return Ok(None);
        }
        let started = Instant::now();
        let mut block = Block {
            index: (self.done / BLOCK) as u64,
            cycles: 0,
            scores: Verification::new(self.ensemble.members()),
            forecast_rmse: Mean::default(),
            filter_seconds: 0.0,
            seconds: std::mem::take(&mut self.start_seconds),
        };
        let until = self.last.min(self.done + BLOCK);
        while self.done < until {
            self.done += 1;
            block.cycles += 1;
            self.cycle(&mut block)?;
        }
        block.seconds += started.elapsed().as_secs_f64();
        Ok(Some(block))
    }

    /// The cycle number `done`, counted from 1.
    fn cycle(&mut self, block: &mut Block) -> Result<(), OperatorError> {
        let (plan, key) = (&self.experiment.observations, self.done as u64);
        let deviation = plan.variance.sqrt();
        self.model
            .advance(self.truth.values_mut(), plan.steps_per_cycle);
        let truth = self.truth.values();
        let mut rng = stream(self.seed, Purpose::Observations, key);
        let drawn = self.observed.iter().map(|i| {
            let normal: f64 = StandardNormal.sample(&mut rng);
            truth[*i] + deviation * normal
        });
        let values: Vec<f64> = drawn.collect();

        let before = Instant::now();
        self.model
            .advance(self.ensemble.values_mut(), plan.steps_per_cycle);
        let forecast_mean = self.ensemble.mean();
        if !self.ensemble.is_finite() {
            return Err(self.diverged());
        }
        let predicted = self.ensemble.select(&self.observed)?;
        let observations = Observations::try_new(&predicted, &values, &self.variances)?;
        let mut rng = stream(self.seed, Purpose::Analysis, key);
        self.filter
            .analyse(&mut self.ensemble, &observations, &mut rng)?;
        block.filter_seconds += before.elapsed().as_secs_f64();
        if !(self.ensemble.is_finite() && self.truth.is_finite()) {
            return Err(self.diverged());
        }

        if self.done > self.experiment.run.burn_in {
            let mut departures = Departures::default();
            let pairs = forecast_mean.iter().zip(truth);
            pairs.for_each(|(f, t)| departures.add(f - t));
            block.forecast_rmse.add(departures.rmse().unwrap_or(0.0));
            let mut rng = stream(self.seed, Purpose::Ties, key);
            block.scores.add(&self.ensemble, truth, &mut rng)?;
        }
        Ok(())
    }

    fn diverged(&self) -> OperatorError {
        OperatorError::Diverged {
            experiment: self.experiment.name.clone(),
            seed: self.seed,
            cycle: self.done,
        }
    }
}

/// Runs every seed of `experiment`, one after the other.
///
/// # Errors
///
/// [`OperatorError::Parameter`] if the experiment is not valid, [`OperatorError::Diverged`] if a
/// state is no longer finite.
pub fn run_experiment(experiment: &Experiment) -> Result<Report, OperatorError> {
    let seeds = experiment.run.seeds.iter();
    let seeds: Result<Vec<_>, _> = seeds.map(|seed| run_seed(experiment, *seed)).collect();
    Ok(Report::from_seeds(experiment, seeds?))
}

/// Runs `experiment` from one `seed`; equal seeds give equal scores, bit for bit, and two methods
/// with one seed see the same truth and the same observations.
///
/// # Errors
///
/// As [`run_experiment`].
pub fn run_seed(experiment: &Experiment, seed: u64) -> Result<SeedReport, OperatorError> {
    let mut run = SeedRun::start(experiment, seed)?;
    let mut blocks = Vec::new();
    while let Some(block) = run.next_block()? {
        blocks.push(block);
    }
    Ok(SeedReport::from_blocks(experiment, seed, &blocks))
}
