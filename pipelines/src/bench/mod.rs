//! Benchmarks: every figure the project claims is printed by one of these.
//!
//! A benchmark measures our side and a reference in one go, on the same data in the same run, so
//! that their ratio means something on any machine. To add one, write `bench/NAME.rs` with a
//! function `fn run(options: &Options, report: &mut Report) -> Result<(), BenchError>` and give it
//! a line in [`BENCHES`]. A reference in Python goes to `benches/peers/NAME.py` and is started by
//! [`peer`].

mod attention;
mod block;
mod bubbles;
mod context;
mod cost;
mod device;
mod evoformer;
mod figure;
mod files;
mod filters;
mod ingest;
mod latency;
mod memory;
mod netcdf;
mod peer;
mod planner;
mod transport;

use std::time::Duration;

pub use figure::{Figure, Report};
pub use peer::peer;

/// How to run a benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Fewer repetitions and smaller sizes: shows that it works, the numbers are rough.
    pub quick: bool,
    /// Whether references in other languages are started.
    pub peers: bool,
    /// After this long a reference or another process is given up.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            quick: false,
            peers: true,
            patience: Duration::from_secs(600),
        }
    }
}

/// Why a benchmark gave no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// There is no such benchmark.
    #[error("no benchmark is called '{name}'; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// The engine failed below the benchmark.
    #[error("benchmark {bench}: {source}")]
    Engine {
        /// The benchmark.
        bench: &'static str,
        /// What the engine says.
        source: advect_engine::EngineError,
    },
    /// Anything else that stopped it.
    #[error("benchmark {bench}: {why}")]
    Failed {
        /// The benchmark.
        bench: &'static str,
        /// What happened, where, and the mend.
        why: String,
    },
}

impl BenchError {
    /// A failure in words.
    pub fn failed(bench: &'static str, why: impl std::fmt::Display) -> Self {
        let why = why.to_string();
        BenchError::Failed { bench, why }
    }
}

/// A benchmark as it is registered.
#[derive(Debug, Clone, Copy)]
pub struct Bench {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures, in one line.
    pub about: &'static str,
    /// Measures, and gives the figures to the report.
    pub run: fn(&Options, &mut Report) -> Result<(), BenchError>,
}

/// All benchmarks, by name.
pub const BENCHES: &[Bench] = &[
    Bench {
        name: "attention",
        about: "memory and time of very long sequences by mode, workers and length, beside Megatron's",
        run: attention::run,
    },
    Bench {
        name: "block",
        about: "a training step of a transformer block, and attention alone, beside PyTorch",
        run: block::run,
    },
    Bench {
        name: "bubbles",
        about: "how long stages of a pipeline wait, beside the closed forms of the schedules",
        run: bubbles::run,
    },
    Bench {
        name: "context",
        about: "bits a byte of an encyclopedia at longer contexts and equal numbers of tokens",
        run: context::run,
    },
    Bench {
        name: "device",
        about: "training steps of GPT blocks on a GPU in bf16, beside PyTorch",
        run: device::run,
    },
    Bench {
        name: "evoformer",
        about: "Evoformer attention: gradients, memory and time, beside its plain form in PyTorch",
        run: evoformer::run,
    },
    Bench {
        name: "filters",
        about: "seconds of ensemble filters on Lorenz-96, beside DAPPER",
        run: filters::run,
    },
    Bench {
        name: "ingest",
        about: "records a second from Parquet and TCP to hourly means, beside Bytewax and Pathway",
        run: ingest::run,
    },
    Bench {
        name: "latency",
        about: "one timestamp through 50 operators, beside plain timely",
        run: latency::run,
    },
    Bench {
        name: "netcdf",
        about: "reading a variable of netCDF-4, deflated and contiguous, beside h5py",
        run: netcdf::run,
    },
    Bench {
        name: "planner",
        about: "predicted memory and speed of training, beside published numbers and a public log",
        run: planner::run,
    },
    Bench {
        name: "transport",
        about: "tensors between two workers over threads, TCP and MPI, beside MPI's own calls",
        run: transport::run,
    },
];

/// All benchmarks, by name.
pub fn list() -> &'static [Bench] {
    BENCHES
}

/// Runs the benchmark called `name` and prints its figures: a table on a terminal, one JSON object
/// a line elsewhere.
///
/// # Errors
/// If there is no such benchmark, or it fails.
pub fn run(name: &str, options: &Options) -> Result<Vec<Figure>, BenchError> {
    let mut report = Report::printing();
    let bench = list().iter().find(|b| b.name == name);
    let bench = bench.ok_or_else(|| BenchError::Unknown {
        name: name.to_owned(),
        known: list().iter().map(|b| b.name).collect::<Vec<_>>().join(", "),
    })?;
    (bench.run)(options, &mut report)?;
    Ok(report.figures().to_vec())
}

/// The middle one of some measurements (the mean of the middle two of an even number); NaN of none.
pub fn median(measured: &[f64]) -> f64 {
    let mut sorted = measured.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (n, half) = (sorted.len(), sorted.len() / 2);
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => sorted[half],
        _ => 0.5 * (sorted[half - 1] + sorted[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are unique and sorted, and an unknown one is answered with the known ones.
    #[test]
    fn names_are_in_order() {
        assert!(list().windows(2).all(|w| w[0].name < w[1].name));
        let error = run("no-such", &Options::default()).expect_err("unknown");
        for bench in list() {
            assert!(error.to_string().contains(bench.name));
        }
    }

    /// Medians of odd, even and no measurements.
    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
