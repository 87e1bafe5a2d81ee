//! `advect check`: the configuration and the inputs, and nothing run.

use super::args::JobArgs;
use super::{print_line, run};
use crate::error::Result;

/// Prints what the pipeline found, a line each.
pub(crate) fn check(args: &JobArgs) -> Result<()> {
    let (pipeline, config) = run::job(args)?;
    for line in pipeline.check(&config)? {
        print_line(&line);
    }
    print_line(&format!("{}: fine", pipeline.name()));
    Ok(())
}
