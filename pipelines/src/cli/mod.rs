//! The `advect` command: one file a subcommand.
//!
//! Exit codes: 0 all went well (also after a signal, when the run was sealed and saved), 1 the run
//! failed, 2 the command line or the configuration is wrong, 130 a second signal. An error is one
//! line on standard error: what, where, mend.

mod args;
mod bench;
mod check;
mod config;
mod data;
mod fabric;
mod forecast;
mod inspect;
mod log;
mod plan;
mod run;
mod signals;
mod table;
mod tune;

use std::ffi::OsString;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::error::{PipelineError, Result};
use args::{Args, Command, ConfigCommand};

/// Runs the command line and gives the exit code.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => {
            if e.exit_code() == 0 || e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            {
                // a closed pipe is the reader's choice
                let _ = e.print();
            } else {
                eprintln!("{}", usage_line(&e.to_string()));
            }
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    if let Err(e) = log::init(&args.log, args.log_format) {
        eprintln!("error: {e}");
        return ExitCode::from(e.exit_code());
    }
    match catch_unwind(AssertUnwindSafe(|| dispatch(args.command))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(e)) => {
            eprintln!("error: {}", one_line(&e.to_string()));
            ExitCode::from(e.exit_code())
        }
        Err(_) => {
            eprintln!("error: a fault in advect itself; run again with --log debug and report it");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Tune(args) => tune::tune(&args),
        Command::Check { job } => check::check(&job),
        Command::Inspect { file, rows } => inspect::inspect(&file, rows),
        Command::Bench(args) => bench::bench(&args),
        Command::Data { command } => data::data(&command),
        Command::Config {
            command: ConfigCommand::Show { job, toml },
        } => config::show(&job, toml),
    }
}

/// Prints a line to standard output; a reader that has gone away is no error.
pub(crate) fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The error of the argument parser on one line, without the usage below it.
/// What is wrong with an argument, why, and the mend.
fn usage(what: &str, why: &str, mend: &str) -> PipelineError {
    PipelineError::Usage {
        what: what.to_owned(),
        why: why.to_owned(),
        mend: mend.to_owned(),
    }
}

fn usage_line(text: &str) -> String {
    let says = text.lines().take_while(|l| !l.starts_with("Usage:"));
    let says: Vec<&str> = says.filter(|l| !l.starts_with("For more")).collect();
    let line = one_line(&says.join("\n")).replace(":; ", ": ");
    format!("{line}; see --help")
}

fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}
