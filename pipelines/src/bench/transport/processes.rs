//! The two processes of the benchmark: starting them, and what each of them does.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use advect_engine::{Fabric, fabric};

use super::super::peer::finish;
use super::measure::{Effort, Mpi, copy_rate, measure};
use super::{NAME, SIZES, figures};
use crate::bench::{BenchError, Figure, Options, Report, median};

/// Tells a process that it is one of the two: `HOST:PORT,HOST:PORT`, where they meet by TCP.
const HOSTS: &str = "ADVECT_BENCH_TRANSPORT_HOSTS";
/// Which of them it is, where no launcher says so.
const PROCESS: &str = "ADVECT_BENCH_TRANSPORT_PROCESS";
/// Set for rough numbers.
const QUICK: &str = "ADVECT_BENCH_TRANSPORT_QUICK";

/// One of the two processes.
#[derive(Debug)]
pub(super) struct Part {
    hosts: Vec<String>,
    quick: bool,
}

impl Part {
    /// The part of this process, if it was started as one.
    pub(super) fn of_this_process() -> Option<Self> {
        let hosts = std::env::var(HOSTS).ok()?;
        Some(Part {
            hosts: hosts.split(',').map(str::to_owned).collect(),
            quick: std::env::var_os(QUICK).is_some(),
        })
    }
}

/// Starts both processes, and gives what they measure to the report.
pub(super) fn start_both(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let failed = |why: String| BenchError::failed(NAME, why);
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let hosts = free_hosts().map_err(|e| failed(format!("no free port on this machine: {e}")))?;
    let prepare = |mut command: Command| {
        command.env(HOSTS, hosts.join(","));
        if options.quick {
            command.env(QUICK, "1");
        }
        command
    };
    let launcher = cfg!(feature = "mpi").then(|| find("mpirun")).flatten();
    let printed = if let Some(mpirun) = launcher {
        let mut command = prepare(Command::new(mpirun));
        command
            .args(["-n", "2"])
            .arg(&program)
            .args(["bench", NAME]);
        // more ranks than cores are fine here, and so is the administrator
        command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1");
        command.env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        vec![finish(command, options.patience)]
    } else {
        let why = if cfg!(feature = "mpi") {
            "there is no mpirun here; install Open MPI"
        } else {
            "this program was built without it; build it with --features mpi"
        };
        report.note(&format!("{NAME}: MPI is left out: {why}"));
        let start = |process: usize| {
            let mut command = prepare(Command::new(&program));
            command
                .args(["bench", NAME])
                .env(PROCESS, process.to_string());
            let patience = options.patience;
            thread::spawn(move || finish(command, patience))
        };
        let both: Vec<_> = (0..2).map(start).collect();
        let join = |t: thread::JoinHandle<_>| t.join().unwrap_or(Err("was lost".to_owned()));
        both.into_iter().map(join).collect()
    };
    let before = report.figures().len();
    for text in printed {
        let text = text.map_err(|e| failed(format!("its two processes: {e}")))?;
        for figure in text.lines().filter_map(|l| serde_json::from_str(l).ok()) {
            report.give(figure);
        }
    }
    if report.figures().len() == before {
        let why = "its two processes gave no figures; what they say is above";
        return Err(failed(why.to_owned()));
    }
    Ok(())
}

fn free_hosts() -> std::io::Result<Vec<String>> {
    let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0"));
    let address = |l: std::io::Result<TcpListener>| Ok(l?.local_addr()?.to_string());
    // both are bound before either is let go: they differ
    bound.into_iter().map(address).collect()
}

/// A program on the search path.
fn find(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Measures in one of the two processes; the first one gives the figures.
pub(super) fn take_part(part: &Part, report: &mut Report) -> Result<(), BenchError> {
    let engine = |source| BenchError::Engine {
        bench: NAME,
        source,
    };
    let effort = if part.quick {
        Effort {
            turns: 2,
            bytes: 8 << 20,
            most: 20,
        }
    } else {
        Effort {
            turns: 9,
            bytes: 96 << 20,
            most: 100,
        }
    };
    let ranks = match fabric::under_mpi() {
        true => Some(Fabric::named("mpi", 1).map_err(engine)?),
        false => None,
    };
    let process = match (&ranks, std::env::var(PROCESS)) {
        (Some(ranks), _) => ranks.process(),
        (None, Ok(number)) => number
            .parse()
            .map_err(|_| BenchError::failed(NAME, format!("{PROCESS}={number} is no number")))?,
        (None, Err(_)) => 0,
    };
    // alone first: the other process sleeps meanwhile, as it waits for a connection
    let mut copies = Vec::new();
    let mut alone = None;
    if process == 0 {
        copies.extend(SIZES.map(|(bytes, _)| median(&copy_rate(bytes, effort))));
        alone = Some(measure(&Fabric::Threads(2), effort, None).map_err(engine)?);
    }
    let mpi = ranks.as_ref().and_then(own_calls);
    let tcp = Fabric::Tcp {
        threads: 1,
        process,
        hosts: part.hosts.clone(),
    };
    let by_tcp = measure(&tcp, effort, mpi.clone()).map_err(engine)?;
    let by_mpi = match &ranks {
        Some(ranks) => Some(measure(ranks, effort, mpi).map_err(engine)?),
        None => None,
    };
    if process > 0 {
        return Ok(());
    }
    for ((_, size), rate) in SIZES.iter().zip(copies) {
        report.give(Figure::new(NAME, format!("memcpy {size}"), rate, "GB/s"));
    }
    // threads are one process, which has no calls of MPI to take turns with: those of TCP's turns
    let (times, idle) = &by_tcp;
    if let Some((threads, idle)) = alone {
        figures("threads", &threads, times, idle, report);
    }
    figures("TCP", times, times, *idle, report);
    if let Some((times, idle)) = by_mpi {
        figures("MPI", &times, &times, idle, report);
    }
    Ok(())
}

#[cfg(feature = "mpi")]
impl Mpi for fabric::Job {
    fn ping_pong(&self, buffer: &mut [u8]) {
        self.ping_pong(buffer);
    }

    fn all_reduce(&self, parts: &[f32], sums: &mut [f32]) {
        self.all_reduce(parts, sums);
    }
}

/// MPI's own calls, where the fabric has them.
#[cfg(feature = "mpi")]
fn own_calls(ranks: &Fabric) -> Option<Arc<dyn Mpi>> {
    match ranks {
        Fabric::Mpi { job, .. } => Some(Arc::new(job.clone())),
        _ => None,
    }
}

#[cfg(not(feature = "mpi"))]
fn own_calls(_: &Fabric) -> Option<Arc<dyn Mpi>> {
    None
}
