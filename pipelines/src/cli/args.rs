//! The command line as types.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Assimilates live observations and trains scientific models as one differentiable dataflow.
#[derive(Debug, Parser)]
#[command(name = "advect", version, arg_required_else_help = true)]
pub(crate) struct Args {
    /// What to log: a level, or a filter such as `advect_engine=debug` (default: RUST_LOG or warn)
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How to log, to standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Text for people, JSON for machines.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline to its end
    Run(RunArgs),
    /// Print the graph of a pipeline, or with --machine the best ways to train its model there
    Plan(PlanArgs),
    /// Find the fastest way to train the model of a pipeline on this machine, by real short runs
    Tune(TuneArgs),
    /// Read the configuration and the inputs of a pipeline, and run nothing
    Check {
        #[command(flatten)]
        job: JobArgs,
    },
    /// Print what a file holds: Parquet, Arrow IPC, CSV, netCDF, HDF5
    Inspect {
        /// The file
        file: PathBuf,
        /// Rows of a table to print
        #[arg(long, default_value_t = 5)]
        rows: usize,
    },
    /// Measure: figures beside a reference, a JSON object a line when piped
    Bench(BenchArgs),
    /// List data sets, or download one from its origin
    Data {
        #[command(subcommand)]
        command: DataCommand,
    },
    /// Show the configuration of a pipeline
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Every value, with where it came from
    Show {
        #[command(flatten)]
        job: JobArgs,
        /// Print TOML that gives the same configuration again
        #[arg(long)]
        toml: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// All data sets: origin, licence, and whether they are here
    List,
    /// Download a data set, check its SHA-256 and say its licence
    Get {
        /// Name of the data set
        name: String,
        /// The folder to put it in (default: ADVECT_DATA or data)
        #[arg(long)]
        to: Option<PathBuf>,
    },
}

/// A pipeline and its configuration.
#[derive(Debug, ClapArgs)]
pub(crate) struct JobArgs {
    /// Name of the pipeline
    pub(crate) pipeline: String,
    /// TOML file over the default
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One value over all else, such as --set ensemble.members=20
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Who the workers are.
#[derive(Debug, ClapArgs)]
pub(crate) struct FabricArgs {
    /// Workers in each process (default: ADVECT_WORKERS; else every core, or 1 with tcp and mpi)
    #[arg(short = 'w', long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// What connects the workers (default: ADVECT_FABRIC; else mpi under mpirun, else threads)
    #[arg(long, value_enum)]
    pub(crate) fabric: Option<FabricKind>,
    /// Processes of a tcp job: host:port,host:port or a file with one a line (or ADVECT_HOSTS)
    #[arg(long, value_name = "FILE|HOST:PORT,...")]
    pub(crate) hosts: Option<String>,
    /// Which of the hosts this process is, from 0 (or ADVECT_PROCESS)
    #[arg(long, value_name = "P")]
    pub(crate) process: Option<usize>,
    /// Threads of an operator (default: ADVECT_OPERATOR_THREADS; else the cores over the workers)
    #[arg(long, value_name = "N")]
    pub(crate) operator_threads: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FabricKind {
    /// Workers of this process only
    Threads,
    /// Several processes connected by sockets
    Tcp,
    /// The ranks of an MPI job
    Mpi,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) fabric: FabricArgs,
    /// Print Graphviz in place of tables
    #[arg(long, conflicts_with = "machine")]
    pub(crate) dot: bool,
    /// Plan training on this machine, with --workers devices of it: frontier, summit, dgx-a100,
    /// dgx-h100, dgx-h200, this (measured in a second), or a description in TOML
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub(crate) machine: Option<String>,
    /// Plan a published model in place of that of the configuration: 22b, 175b, 1t, 405b
    #[arg(long, value_name = "NAME", requires = "machine")]
    pub(crate) model: Option<String>,
    /// What is tried (default: deepspeed for a published model, else advect)
    #[arg(long, value_enum, requires = "machine")]
    pub(crate) space: Option<SpaceKind>,
    /// How many of the best configurations to print
    #[arg(long, value_name = "N", default_value_t = 5, requires = "machine",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) top: u16,
    /// Print the longest sequences that fit
    #[arg(long, requires = "machine")]
    pub(crate) longest: bool,
    /// Write what was measured with --machine this to a file, to edit and plan with
    #[arg(long, value_name = "FILE", requires = "machine")]
    pub(crate) calibrate: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SpaceKind {
    /// What this program runs, in the precision of the configuration
    Advect,
    /// What ran on Frontier: 1F1B, ZeRO 0 or 1, layers recomputed, half precision
    Deepspeed,
    /// All schedules, also zero-bubble ones, all stages of ZeRO, half precision
    Wide,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) fabric: FabricArgs,
    /// Where results go (default: out/PIPELINE)
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Go on from the last snapshot in the output directory
    #[arg(long)]
    pub(crate) resume: bool,
    /// Write a trace that opens in Perfetto
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Serve metrics as Prometheus text at this address, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<String>,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Cores to use, each a worker or a thread of one (default: every core)
    #[arg(short = 'w', long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Where trials and the best configuration go (default: out/tune)
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Trials at most, those of before --resume included
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) trials: u16,
    /// How long to search, such as 10m; trials in flight are then ended and not kept
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) time_limit: Option<Duration>,
    /// How long a trial may take before it counts as failed
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    pub(crate) trial_limit: Duration,
    /// Steps of training of a trial; the first third is not measured
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::value_parser!(u16).range(2..))]
    pub(crate) steps: u16,
    /// Trials at once, as far as there are cores for all of them
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) parallel: u16,
    /// The machine to plan for: this (measured in a second), or its description in TOML
    #[arg(long, value_name = "NAME|FILE.toml", default_value = "this")]
    pub(crate) machine: String,
    /// How many configurations of the least predicted time are searched
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) candidates: u16,
    /// Go on with the search in the output directory; what it has tried is not tried again
    #[arg(long)]
    pub(crate) resume: bool,
    /// Of the first trials, which are drawn
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) seed: u64,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// A span of time above 0, such as 90s, 10m or 1h30m.
fn duration(text: &str) -> Result<Duration, String> {
    let span: Option<jiff::SignedDuration> = text.parse().ok();
    let span = span.and_then(|span| Duration::try_from(span).ok());
    span.filter(|span| !span.is_zero())
        .ok_or_else(|| "no span of time above 0; write it as 90s, 10m or 1h30m".to_owned())
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchArgs {
    /// Name of the benchmark
    #[arg(required_unless_present = "list")]
    pub(crate) name: Option<String>,
    /// List the benchmarks
    #[arg(long)]
    pub(crate) list: bool,
    /// Fewer repetitions and smaller sizes: shows that it works, the numbers are rough
    #[arg(long)]
    pub(crate) quick: bool,
    /// Our side alone, without references in other languages
    #[arg(long)]
    pub(crate) no_peers: bool,
}
