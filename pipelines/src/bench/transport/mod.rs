//! `transport`: how fast tensors move between two workers, beside MPI's own calls and `memcpy`.
//!
//! The benchmark starts itself twice, under `mpirun` where there is one, and measures every fabric
//! in those two processes. Where both processes are ranks, `MPI_Send` and `MPI_Allreduce` take
//! turns with our side, so that both meet the same weather.

mod measure;
mod processes;

use std::collections::BTreeMap;

use super::{BenchError, Figure, Options, Report, median};

const NAME: &str = "transport";
/// Bytes of the tensors.
const SIZES: [(usize, &str); 4] = [
    (4 << 10, "4 KB"),
    (256 << 10, "256 KB"),
    (4 << 20, "4 MB"),
    (64 << 20, "64 MB"),
];
/// An idle worker should take less of a core, in percent.
const IDLE: f64 = 2.0;

/// What is timed for each size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Move {
    /// There and back, through a dataflow.
    PointToPoint,
    /// Partial to Same, through a dataflow.
    AllReduce,
    /// There and back by `MPI_Send` and `MPI_Recv`.
    MpiSend,
    /// By `MPI_Allreduce`.
    MpiAllReduce,
}

/// Seconds of each repetition.
type Times = BTreeMap<(Move, usize), Vec<f64>>;

/// Measures, and gives the figures to the report.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let Some(part) = processes::Part::of_this_process() else {
        return processes::start_both(options, report);
    };
    // for the process that started this one, also where a launcher gives it a terminal
    let mut kept = Report::keeping();
    processes::take_part(&part, &mut kept)?;
    for figure in kept.figures() {
        println!("{}", figure.json());
    }
    Ok(())
}

/// Gives the figures of one fabric. `mpi` holds the times of MPI's own calls, if there are any.
fn figures(fabric: &str, ours: &Times, mpi: &Times, idle: f64, report: &mut Report) {
    for (title, us, them, call, trips) in [
        (
            "point to point",
            Move::PointToPoint,
            Move::MpiSend,
            "MPI_Send",
            2.0,
        ),
        (
            "all-reduce",
            Move::AllReduce,
            Move::MpiAllReduce,
            "MPI_Allreduce",
            1.0,
        ),
    ] {
        for (bytes, size) in SIZES {
            let rate = |times: &Times, what: Move| {
                let seconds = times.get(&(what, bytes)).map(|t| median(t));
                seconds.map(|s| trips * bytes as f64 / s * 1e-9)
            };
            let Some(value) = rate(ours, us) else {
                continue;
            };
            let case = format!("{title} {size} over {fabric}");
            report.give(match rate(mpi, them) {
                Some(reference) => {
                    Figure::new(NAME, format!("{case} / {call}"), value, "GB/s").beside(reference)
                }
                None => Figure::new(NAME, case, value, "GB/s"),
            });
        }
    }
    let case = format!("idle workers over {fabric} / {IDLE} % of a core");
    report.give(Figure::new(NAME, case, idle, "%").beside(IDLE));
}
