//! Pipelines as a test runs them.

use std::path::Path;

use advect_engine::Fabric;
use advect_pipelines::config::{Sources, resolve};
use advect_pipelines::{Pipeline, PipelineError, Run, Stop};

/// Runs a pipeline with these settings over its default, quietly, with its results in `out`.
///
/// # Errors
/// Those of the settings and of the run.
pub(crate) fn run(
    pipeline: &dyn Pipeline,
    fabric: Fabric,
    (out, resume): (&Path, bool),
    set: impl IntoIterator<Item = String>,
    stop: Stop,
) -> Result<(), PipelineError> {
    let sources = Sources {
        set: set.into_iter().collect(),
        ..Sources::default()
    };
    let run = Run {
        config: resolve(pipeline, &sources)?,
        fabric,
        out: out.to_path_buf(),
        resume,
        trace: None,
        metrics: None,
        quiet: true,
        stop,
    };
    let _claim = run.claim_out()?;
    pipeline.run(&run)
}
