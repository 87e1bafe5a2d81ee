//! The configuration of a twin experiment, as it stands in a TOML file.
//!
//! Unknown keys are errors everywhere. A model and a method are tables named by their kind:
//! `[model.lorenz96]`, `[method.letkf]`.

use serde::{Deserialize, Serialize};

use super::MethodChoice;
use crate::OperatorError;
use crate::models::{KuramotoSivashinsky, Lorenz63, Lorenz96, Model, RungeKutta4};

/// A twin experiment: model, observations, method, length of the run and expected score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// A short name for reports.
    pub name: String,
    /// The model that makes the truth and the forecasts.
    pub model: ModelChoice,
    /// What is observed, how often and how well.
    pub observations: ObservationPlan,
    /// The filter or baseline.
    pub method: MethodChoice,
    /// How long and from which seeds.
    pub run: RunPlan,
    /// The published score, if there is one.
    pub expected: Option<Expected>,
}

/// The model of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum ModelChoice {
    /// [`Lorenz63`] with its chaotic parameters.
    #[serde(rename = "lorenz63")]
    Lorenz63 {
        /// Runge–Kutta step in time units.
        time_step: f64,
    },
    /// [`Lorenz96`].
    #[serde(rename = "lorenz96")]
    Lorenz96 {
        /// Number of sites.
        dimension: usize,
        /// Forcing $F$.
        forcing: f64,
        /// Runge–Kutta step in time units.
        time_step: f64,
    },
    /// [`KuramotoSivashinsky`].
    KuramotoSivashinsky {
        /// Number of grid points, even.
        points: usize,
        /// Length of the domain over $\pi$.
        length: f64,
        /// ETDRK4 step in time units.
        time_step: f64,
    },
}

impl ModelChoice {
    /// Builds the model.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if a parameter is out of range.
    pub fn build(&self) -> Result<Box<dyn Model>, OperatorError> {
        Ok(match *self {
            Self::Lorenz63 { time_step } => {
                Box::new(RungeKutta4::try_new(Lorenz63::default(), time_step)?)
            }
            Self::Lorenz96 {
                dimension,
                forcing,
                time_step,
            } => Box::new(RungeKutta4::try_new(
                Lorenz96::try_new(dimension, forcing)?,
                time_step,
            )?),
            Self::KuramotoSivashinsky {
                points,
                length,
                time_step,
            } => Box::new(KuramotoSivashinsky::try_new(points, length, time_step)?),
        })
    }
}

/// Which variables are observed, when, and with which error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservationPlan {
    /// Model steps from one analysis to the next.
    pub steps_per_cycle: usize,
    /// Every `stride`-th variable is observed, from the first on.
    #[serde(default = "one")]
    pub stride: usize,
    /// Error variance of every observation, the diagonal of $R$.
    pub variance: f64,
}

fn one() -> usize {
    1
}

/// The length of a run and where it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// One independent run a seed.
    pub seeds: Vec<u64>,
    /// Cycles that are not scored, at the start.
    pub burn_in: usize,
    /// Cycles that are scored, after the burn-in.
    pub cycles: usize,
    /// Variance of the truth and of the members around the model's reference state at the start.
    pub initial_variance: f64,
}

/// The score that an experiment is expected to reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Time-mean root-mean-square error of the analysis.
    pub rmse: f64,
    /// Largest accepted distance of the mean over seeds.
    pub tolerance: f64,
    /// Where the score was published.
    pub source: String,
}

impl Experiment {
    /// Returns the experiment if it can run.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] for the first parameter that is out of range.
    pub fn validated(self) -> Result<Self, OperatorError> {
        let bad = |name, got: String, expected| {
            Err(OperatorError::Parameter {
                place: "twin experiment",
                name,
                got,
                expected,
            })
        };
        let (plan, run) = (&self.observations, &self.run);
        if plan.steps_per_cycle == 0 {
            return bad(
                "observations.steps_per_cycle",
                "0".into(),
                "at least 1 step",
            );
        }
        if plan.stride == 0 {
            return bad("observations.stride", "0".into(), "at least 1 variable");
        }
        if !(plan.variance.is_finite() && plan.variance > 0.0) {
            let got = plan.variance.to_string();
            return bad("observations.variance", got, "a positive variance");
        }
        if run.seeds.is_empty() {
            return bad("run.seeds", "[]".into(), "at least one seed");
        }
        if run.cycles == 0 {
            return bad("run.cycles", "0".into(), "at least 1 scored cycle");
        }
        if !(run.initial_variance.is_finite() && run.initial_variance >= 0.0) {
            let got = run.initial_variance.to_string();
            return bad("run.initial_variance", got, "a variance of zero or more");
        }
        if self.method.is_ensemble() && self.method.members() < 2 {
            let got = self.method.members().to_string();
            return bad("method.members", got, "at least 2 members");
        }
        self.model.build()?;
        Ok(self)
    }

    /// The observed variables of a state of `dimension` variables.
    pub fn observed(&self, dimension: usize) -> Vec<usize> {
        (0..dimension)
            .step_by(self.observations.stride.max(1))
            .collect()
    }
}
