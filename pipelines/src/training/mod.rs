//! What jobs that train have in common, whatever their model and their data.
//!
//! | module | what it holds |
//! |---|---|
//! | `settings` | the keys that all of them have, read and checked |
//! | `origin` | what a run begins from, and what its checkpoints say |
//! | `batches` | micro-batches as streams |
//! | `learn` | the loop of training, with its pace and its checkpoints |
//! | `listen` | what worker 0 tells, to a sink |
//! | `record`, `metrics` | results, written as they come |
//! | `whole` | what was learned, gathered and as files |
//! | `plan` | the loop before it runs |

pub(crate) mod batches;
mod learn;
mod listen;
mod metrics;
mod origin;
mod plan;
mod record;
pub(crate) mod settings;
pub(crate) mod whole;

use std::fmt::Debug;

use advect_connectors::checkpoint::Progress;
use advect_operators::training::Trainable;

use crate::pipeline::Stop;

pub(crate) use learn::{Begin, Learning, learn};
pub(crate) use listen::{Told, listened};
pub(crate) use origin::Origin;
pub(crate) use plan::plan;
pub(crate) use record::{Points, Record};
pub(crate) use settings::Training;

/// What every worker of a process shares of a job that trains.
pub(crate) trait Job: Send + Sync + 'static {
    /// Name of the pipeline.
    const NAME: &'static str;

    /// How it trains.
    fn training(&self) -> &Training;

    /// The graph that learns.
    fn trainable(&self) -> &Trainable;

    /// What it begins from.
    fn origin(&self) -> &Origin;

    /// Whether it is to end.
    fn stop(&self) -> &Stop;

    /// The model, as a checkpoint names it.
    fn model(&self) -> &dyn Debug;

    /// The first sample of a step.
    fn first_sample(&self, step: u64) -> u64 {
        let (steps, samples) = self.origin().begun();
        samples + (step - steps) * self.training().batching.step() as u64
    }

    /// What a checkpoint after `steps` steps says of itself.
    fn progress(&self, steps: u64) -> Progress {
        let (training, recipe) = (self.training(), &self.training().recipe);
        let job = [
            ("pipeline", Self::NAME.to_owned()),
            ("mesh", training.strategy.to_string()),
            ("optimizer", format!("{:?}", recipe.method)),
            ("model", format!("{:?}", self.model())),
        ];
        Progress {
            step: steps,
            sample: self.first_sample(steps),
            seed: recipe.seed,
            job: job.map(|(name, what)| (name.to_owned(), what)).into(),
        }
    }
}
