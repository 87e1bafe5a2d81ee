//! `advect plan`: the graph before it runs, or the ways to train its model on a machine.

use super::args::PlanArgs;
use super::{fabric, forecast, print_line, run};
use crate::error::Result;

/// Prints the plan as tables or as Graphviz.
pub(crate) fn plan(args: &PlanArgs) -> Result<()> {
    let (pipeline, config) = run::job(&args.job)?;
    if let Some(machine) = &args.machine {
        return forecast::forecast(args, machine, &config);
    }
    let plan = pipeline.plan(&config, &fabric::choose(&args.fabric)?)?;
    let text = if args.dot {
        plan.to_dot()
    } else {
        plan.to_table()
    };
    print_line(text.trim_end());
    Ok(())
}
