//! What a run begins from.

use std::path::PathBuf;
use std::sync::Arc;

use advect_connectors::checkpoint::Checkpoint;

use super::Training;
use crate::checkpoints;
use crate::error::Result;
use crate::pipeline::Run;

/// What a run begins from, and where its checkpoints go.
#[derive(Default)]
pub(crate) struct Origin {
    /// The checkpoint, if it does not begin anew.
    pub(crate) start: Option<Arc<Checkpoint>>,
    /// Where checkpoints are written.
    pub(crate) directory: PathBuf,
}

impl Origin {
    /// That of a run which ends after `steps` steps.
    ///
    /// # Errors
    /// As [`checkpoints::begin`], and if more steps were taken than the run has.
    pub(crate) fn of(run: &Run, training: &Training) -> Result<Self> {
        let origin = Origin {
            start: checkpoints::begin(run, &training.checkpoint)?,
            directory: checkpoints::directory(run),
        };
        let ((done, _), steps) = (origin.begun(), training.steps());
        let why = format!("the checkpoint has taken {done}, and this run ends after {steps}");
        run.config.require("training.steps", done <= steps, &why)?;
        Ok(origin)
    }

    /// Steps and samples that were taken before.
    pub(crate) fn begun(&self) -> (u64, u64) {
        let start = self.start.as_ref().map(|c| c.progress());
        start.map_or((0, 0), |progress| (progress.step, progress.sample))
    }
}
