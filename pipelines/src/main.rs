//! The `advect` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    advect_pipelines::cli::main(std::env::args_os())
}
