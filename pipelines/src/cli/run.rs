//! `advect run`: a pipeline to its end.

use super::args::{JobArgs, RunArgs};
use super::{fabric, signals};
use crate::config::{Config, Sources, resolve};
use crate::error::{PipelineError, Result};
use crate::pipeline::{Pipeline, Run, Stop};
use crate::registry;

/// The pipeline and its merged configuration.
pub(crate) fn job(args: &JobArgs) -> Result<(&'static dyn Pipeline, Config)> {
    let pipeline = registry::find(&args.pipeline)?;
    let sources = Sources {
        file: args.config.clone(),
        set: args.set.clone(),
        ..Sources::default()
    };
    let config = resolve(pipeline, &sources.with_process_environment())?;
    Ok((pipeline, config))
}

/// Runs a pipeline until it ends or a signal asks it to.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let (pipeline, config) = job(&args.job)?;
    let fabric = fabric::choose(&args.fabric)?;
    if args.resume && !pipeline.resumes() {
        return Err(PipelineError::Usage {
            what: "--resume".to_owned(),
            why: format!("`{}` makes no snapshots", pipeline.name()),
            mend: "run it anew without".to_owned(),
        });
    }
    let stop = Stop::default();
    signals::install(&stop)?;
    let run = Run {
        config,
        fabric,
        out: args
            .out
            .clone()
            .unwrap_or_else(|| ["out", pipeline.name()].iter().collect()),
        resume: args.resume,
        trace: args.trace.clone(),
        metrics: args.metrics.clone(),
        quiet: args.quiet,
        stop,
    };
    let _claim = run.claim_out()?;
    tracing::info!(pipeline = pipeline.name(), fabric = %run.fabric, "run starts");
    pipeline.run(&run)?;
    tracing::info!(
        pipeline = pipeline.name(),
        stopped = run.stop.is_set(),
        "run ends"
    );
    Ok(())
}
