//! The `advect` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // first of all: files come from anywhere, so the C library reads them in child processes,
    // which are this program and begin here
    if let Err(e) = advect_connectors::netcdf::isolate::<&str>(&[]) {
        eprintln!("warning: {e}; HDF5 files are read without a process of their own");
    }
    advect_pipelines::cli::main(std::env::args_os())
}
