//! Choosing a fabric: by name, or by what the environment says.

use super::Fabric;
use crate::error::{EngineError, Result};

/// Variables that launchers of MPI set for every rank: Open MPI, PMIx (Slurm and others), MPICH
/// and its kin.
const LAUNCHERS: [&str; 4] = [
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "MPI_LOCALRANKID",
];

/// Whether a launcher of MPI (`mpirun`, `srun --mpi=...`) started this process.
pub fn under_mpi() -> bool {
    LAUNCHERS.iter().any(|v| std::env::var_os(v).is_some())
}

impl Fabric {
    /// The fabric that this process was started for, with `threads` workers in each process: MPI
    /// under `mpirun` and `srun`, else threads.
    ///
    /// # Errors
    /// As [`Fabric::named`].
    pub fn from_environment(threads: usize) -> Result<Fabric> {
        Fabric::named(if under_mpi() { "mpi" } else { "threads" }, threads)
    }

    /// A fabric by its name, with `threads` workers in each process:
    ///
    /// * `threads`: this process alone
    /// * `mpi`: the ranks that `mpirun` or `srun` started
    /// * `tcp:1@node0:7000,node1:7000`: process 1 of those that listen there
    ///
    /// # Errors
    /// If there is no such fabric, it can not be started, or the program was built without it.
    pub fn named(name: &str, threads: usize) -> Result<Fabric> {
        let unknown = |why: &str| EngineError::Connect {
            fabric: format!("'{name}'"),
            why: why.to_owned(),
        };
        match name.split_once(':') {
            None if name == "threads" => Ok(Fabric::Threads(threads)),
            None if name == "mpi" => mpi(threads),
            Some(("tcp", rest)) => {
                let form = "write tcp:PROCESS@HOST:PORT,HOST:PORT with PROCESS from 0";
                let (process, hosts) = rest.split_once('@').ok_or_else(|| unknown(form))?;
                let process: usize = process.parse().map_err(|_| unknown(form))?;
                let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
                if process >= hosts.len() || hosts.iter().any(|h| !h.contains(':')) {
                    return Err(unknown(form));
                }
                Ok(Fabric::Tcp {
                    threads,
                    process,
                    hosts,
                })
            }
            _ => Err(unknown("there is threads, tcp:PROCESS@HOSTS and mpi")),
        }
    }
}

#[cfg(feature = "mpi")]
fn mpi(threads: usize) -> Result<Fabric> {
    Ok(Fabric::Mpi {
        threads,
        job: super::mpi::Job::start()?,
    })
}

#[cfg(not(feature = "mpi"))]
fn mpi(_: usize) -> Result<Fabric> {
    Err(EngineError::Connect {
        fabric: "MPI".to_owned(),
        why: "this program was built without it; build it with --features mpi".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names give their fabric; half a name is answered with the right form.
    #[test]
    fn names() {
        assert_eq!(
            Fabric::named("threads", 3).expect("known"),
            Fabric::Threads(3)
        );
        let tcp = Fabric::named("tcp:1@a:1,b:2", 2).expect("known");
        assert_eq!((tcp.process(), tcp.workers()), (1, 4));
        for wrong in [
            "tcp",
            "tcp:a:1",
            "tcp:2@a:1,b:2",
            "tcp:0@a",
            "udp",
            "threads:2",
        ] {
            let error = Fabric::named(wrong, 1).expect_err(wrong).to_string();
            assert!(error.contains(&format!("'{wrong}'")), "{error}");
        }
    }
}
