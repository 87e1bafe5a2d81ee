//! Who the workers are: flags over environment variables over what the machine says.

use std::path::Path;

use advect_engine::Fabric;
use clap::ValueEnum;

use super::args::{FabricArgs, FabricKind};
use super::usage;
use crate::error::{PipelineError, Result};

/// Variables by which MPI launchers tell a rank that it is one.
const LAUNCHERS: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"];

/// Threads of a process; more is a slip of the finger.
const MOST_WORKERS: usize = 1024;

/// The fabric of this process.
pub(crate) fn choose(args: &FabricArgs) -> Result<Fabric> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let threads = number(args.operator_threads, "ADVECT_OPERATOR_THREADS", &variable)?;
    advect_engine::threads::fix(threads.unwrap_or(0));
    build(args, &variable)
}

fn build(args: &FabricArgs, variable: &dyn Fn(&str) -> Option<String>) -> Result<Fabric> {
    let hosts = args.hosts.clone().or_else(|| variable("ADVECT_HOSTS"));
    let kind = match (args.fabric, variable("ADVECT_FABRIC")) {
        (Some(kind), _) => kind,
        (None, Some(name)) => FabricKind::from_str(&name, true).map_err(|_| {
            usage(
                "ADVECT_FABRIC",
                &format!("there is no fabric `{name}`"),
                "set threads, tcp or mpi",
            )
        })?,
        (None, None) if LAUNCHERS.iter().any(|name| variable(name).is_some()) => FabricKind::Mpi,
        (None, None) if hosts.is_some() => FabricKind::Tcp,
        (None, None) => FabricKind::Threads,
    };
    let workers = number(args.workers, "ADVECT_WORKERS", variable)?;
    if workers == Some(0) {
        return Err(usage(
            "-w 0",
            "there is no worker to run on",
            "give at least 1",
        ));
    }
    if let Some(n) = workers.filter(|n| *n > MOST_WORKERS) {
        return Err(usage(
            &format!("-w {n}"),
            "a process has as many threads, and every pair of them a channel",
            "give at most 1024, about one a core",
        ));
    }
    match kind {
        FabricKind::Threads => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            Ok(Fabric::Threads(workers.unwrap_or(cores)))
        }
        FabricKind::Tcp => {
            let mend = "give --hosts host:port,host:port, the same list to every process";
            let list =
                hosts.ok_or_else(|| usage("--fabric tcp", "the hosts are not known", mend))?;
            let hosts = parse_hosts(&list)?;
            let process = number(args.process, "ADVECT_PROCESS", variable)?.ok_or_else(|| {
                usage(
                    "--fabric tcp",
                    "which process this is is not known",
                    "give --process, from 0",
                )
            })?;
            if process >= hosts.len() {
                let why = format!("there are {} hosts", hosts.len());
                let mend = format!("give 0 to {}", hosts.len() - 1);
                return Err(usage(&format!("--process {process}"), &why, &mend));
            }
            Ok(Fabric::Tcp {
                threads: workers.unwrap_or(1),
                process,
                hosts,
            })
        }
        FabricKind::Mpi => mpi(workers.unwrap_or(1)),
    }
}

#[cfg(feature = "mpi")]
fn mpi(threads: usize) -> Result<Fabric> {
    Ok(Fabric::named("mpi", threads)?)
}

#[cfg(not(feature = "mpi"))]
fn mpi(_: usize) -> Result<Fabric> {
    let mend = "build with `cargo build --release --features advect-pipelines/mpi`, \
                or give --fabric threads";
    Err(usage(
        "--fabric mpi",
        "this advect was built without MPI",
        mend,
    ))
}

fn number(
    flag: Option<usize>,
    name: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<usize>> {
    if flag.is_some() {
        return Ok(flag);
    }
    let parse = |text: String| {
        let bad = |_| usage(name, &format!("`{text}` is no count"), "set a whole number");
        text.parse().map_err(bad)
    };
    variable(name).map(parse).transpose()
}

/// `host:port,host:port`, or the same one a line in a file, `#` for comments.
fn parse_hosts(list: &str) -> Result<Vec<String>> {
    let path = Path::new(list);
    let text = if path.is_file() {
        std::fs::read_to_string(path).map_err(PipelineError::file(
            "read",
            path,
            "give a text file of host:port lines",
        ))?
    } else {
        list.replace(',', "\n")
    };
    let lines = text
        .lines()
        .map(|l| l.split('#').next().unwrap_or("").trim());
    let hosts: Vec<String> = lines.filter(|l| !l.is_empty()).map(str::to_owned).collect();
    for host in &hosts {
        let port = host
            .rsplit_once(':')
            .and_then(|(name, port)| port.parse::<u16>().ok().filter(|_| !name.is_empty()));
        if port.is_none() {
            let why = format!("`{host}` is neither host:port nor a file");
            return Err(usage(
                "--hosts",
                &why,
                "write each as name:port, such as node1:5000",
            ));
        }
    }
    if hosts.is_empty() {
        return Err(usage(
            "--hosts",
            "the list is empty",
            "name every process as host:port",
        ));
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(args: FabricArgs, variables: &[(&str, &str)]) -> Result<Fabric> {
        build(&args, &|name| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        })
    }

    fn none() -> FabricArgs {
        FabricArgs {
            workers: None,
            fabric: None,
            hosts: None,
            process: None,
            operator_threads: None,
        }
    }

    #[test]
    fn flags_win_over_variables() {
        let variables = [("ADVECT_FABRIC", "tcp"), ("ADVECT_WORKERS", "7")];
        let args = FabricArgs {
            fabric: Some(FabricKind::Threads),
            workers: Some(3),
            ..none()
        };
        assert_eq!(with(args, &variables).unwrap(), Fabric::Threads(3));
    }

    #[test]
    fn hosts_alone_mean_tcp_and_the_process_must_be_one_of_them() {
        let variables = [("ADVECT_HOSTS", "a:1, b:2"), ("ADVECT_PROCESS", "1")];
        let hosts = vec!["a:1".to_owned(), "b:2".to_owned()];
        let tcp = Fabric::Tcp {
            threads: 1,
            process: 1,
            hosts,
        };
        assert_eq!(with(none(), &variables).unwrap(), tcp);
        let args = FabricArgs {
            process: Some(2),
            ..none()
        };
        let e = with(args, &variables).unwrap_err().to_string();
        assert_eq!(e, "--process 2: there are 2 hosts; give 0 to 1");
    }

    #[test]
    fn a_host_without_port_is_named() {
        let variables = [("ADVECT_HOSTS", "a:1,b"), ("ADVECT_PROCESS", "0")];
        let e = with(none(), &variables).unwrap_err().to_string();
        assert!(e.contains("`b` is neither host:port nor a file"), "{e}");
    }

    #[test]
    fn no_worker_is_an_error() {
        let args = FabricArgs {
            workers: Some(0),
            ..none()
        };
        assert!(with(args, &[]).is_err());
    }
}
