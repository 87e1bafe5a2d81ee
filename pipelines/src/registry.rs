//! The table of pipelines: adding one is adding a line here.

use crate::assimilate::Assimilate;
use crate::error::{PipelineError, Result};
use crate::fold::Fold;
use crate::language::Language;
use crate::pipeline::Pipeline;
use crate::twin::Twin;

/// All pipelines, in the order in which they are listed.
pub static PIPELINES: &[&dyn Pipeline] = &[&Assimilate, &Fold, &Language, &Twin];

/// The pipeline of this name.
///
/// # Errors
/// [`PipelineError::Unknown`] with the nearest name.
pub fn find(name: &str) -> Result<&'static dyn Pipeline> {
    let mut all = PIPELINES.iter().copied();
    all.find(|p| p.name() == name)
        .ok_or_else(|| PipelineError::unknown("pipeline", name, PIPELINES.iter().map(|p| p.name())))
}
