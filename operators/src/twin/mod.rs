//! Twin experiments: a model makes a truth and its observations, a filter finds the truth again.
//!
//! An [`Experiment`] is one configuration with the score that it is expected to reach;
//! [`run_experiment`] returns a [`Report`] of all seeds, [`run_seed`] one of them, so that seeds
//! may be spread over workers and gathered with [`Report::from_seeds`]; a [`SeedRun`] gives the scores
//! of one seed block by block.
//!
//! ```
//! use advect_operators::assimilation::Inflation;
//! use advect_operators::twin::*;
//!
//! let experiment = Experiment {
//!     name: "three-variables".into(),
//!     model: ModelChoice::Lorenz63 { time_step: 0.01 },
//!     observations: ObservationPlan { steps_per_cycle: 25, stride: 1, variance: 2.0 },
//!     method: MethodChoice::Etkf {
//!         members: 10,
//!         rotation: true,
//!         inflation: Inflation::anomalies(1.02),
//!     },
//!     run: RunPlan { seeds: vec![1], burn_in: 50, cycles: 500, initial_variance: 2.0 },
//!     expected: None,
//! };
//! let report = run_experiment(&experiment)?;
//! assert!(report.rmse < 2.0_f64.sqrt(), "the analysis beats the observations");
//! # Ok::<(), advect_operators::OperatorError>(())
//! ```

pub mod experiment;
pub mod method;
pub mod report;
pub mod runner;

pub use experiment::{Expected, Experiment, ModelChoice, ObservationPlan, RunPlan};
pub use method::MethodChoice;
pub use report::{Report, SeedReport};
pub use runner::{BLOCK, Block, SeedRun, run_experiment, run_seed};
