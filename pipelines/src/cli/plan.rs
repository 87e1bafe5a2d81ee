//! `advect plan`: the graph before it runs.

use super::args::{FabricArgs, JobArgs};
use super::{fabric, print_line, run};
use crate::error::Result;

/// Prints the plan as tables or as Graphviz.
pub(crate) fn plan(args: &JobArgs, workers: &FabricArgs, dot: bool) -> Result<()> {
    let (pipeline, config) = run::job(args)?;
    let plan = pipeline.plan(&config, &fabric::choose(workers)?)?;
    let text = if dot { plan.to_dot() } else { plan.to_table() };
    print_line(text.trim_end());
    Ok(())
}
