//! Connecting processes: two sockets between every pair, one for control and one for bulk.
//!
//! Every process listens on its own address, calls those with a lower index and is called by those
//! with a higher one. Both begin with [`MAGIC`], what they take the job to be ([`Terms`]), their index
//! and the purpose of the call, so that a stranger is turned away, and processes that were started
//! differently say so instead of waiting for each other.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{EngineError, Result};

const MAGIC: u64 = 0x6164_7665_6374_3032;
/// How long all processes have to come up.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(20);

/// What all processes of a job must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Number of processes.
    pub(crate) processes: usize,
    /// Workers in each.
    pub(crate) threads: usize,
    /// Of what they run, such as a checksum of its configuration.
    pub(crate) digest: u64,
}

impl Terms {
    /// What another process, which has `other`, does differently.
    fn agree(&self, other: &Terms, who: &str) -> Result<()> {
        let differ = if other.processes != self.processes {
            format!(
                "a job of {} processes, this one of {}",
                other.processes, self.processes
            )
        } else if other.threads != self.threads {
            format!("{} workers, this one {}", other.threads, self.threads)
        } else if other.digest != self.digest {
            "another pipeline, configuration or version".to_owned()
        } else {
            return Ok(());
        };
        let why = format!("it runs {differ}; start all processes with the same arguments");
        Err(fail(who, &why))
    }
}

/// The first words on a socket, from both ends.
struct Greeting {
    process: usize,
    purpose: u64,
    terms: Terms,
}

impl Greeting {
    fn send(&self, mut socket: &TcpStream) -> std::io::Result<()> {
        let terms = [
            self.terms.processes as u64,
            self.terms.threads as u64,
            self.terms.digest,
        ];
        let words = [
            MAGIC,
            self.process as u64,
            self.purpose,
            terms[0],
            terms[1],
            terms[2],
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        socket.write_all(&bytes)
    }

    /// `None` if it is a stranger's or does not come within `patience`.
    fn receive(mut socket: &TcpStream, patience: Duration) -> Option<Greeting> {
        socket.set_nonblocking(false).ok()?;
        socket.set_read_timeout(Some(patience)).ok()?;
        let mut bytes = [[0u8; 8]; 6];
        socket.read_exact(bytes.as_flattened_mut()).ok()?;
        socket.set_read_timeout(None).ok()?;
        let [magic, process, purpose, processes, threads, digest] = bytes.map(u64::from_le_bytes);
        let terms = Terms {
            processes: processes as usize,
            threads: threads as usize,
            digest,
        };
        (magic == MAGIC && purpose < 2).then_some(Greeting {
            process: process as usize,
            purpose,
            terms,
        })
    }
}

/// The two sockets to one peer.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) control: TcpStream,
    pub(crate) bulk: TcpStream,
}

/// Connects this process to all others; `None` at its own place.
pub(crate) fn connect(
    hosts: &[String],
    process: usize,
    terms: Terms,
) -> Result<Vec<Option<Sockets>>> {
    let me = hosts.get(process).ok_or_else(|| {
        fail(
            &format!("process {process} of {}", hosts.len()),
            "there is no such host in the list",
        )
    })?;
    let listener = TcpListener::bind(me.as_str())
        .map_err(|e| fail(me, &format!("cannot listen there: {e}; choose a free port")))?;
    connect_with(listener, hosts, process, terms)
}

/// The same with a listener that is already bound.
pub(crate) fn connect_with(
    listener: TcpListener,
    hosts: &[String],
    process: usize,
    terms: Terms,
) -> Result<Vec<Option<Sockets>>> {
    let greeting = |purpose| Greeting {
        process,
        purpose,
        terms,
    };
    let deadline = Instant::now() + PATIENCE;
    let mut control: Vec<Option<TcpStream>> = hosts.iter().map(|_| None).collect();
    let mut bulk: Vec<Option<TcpStream>> = hosts.iter().map(|_| None).collect();
    for (peer, host) in hosts.iter().enumerate().take(process) {
        for (purpose, slot) in [(0u64, &mut control[peer]), (1, &mut bulk[peer])] {
            let socket = call(host, deadline)?;
            let sent = greeting(purpose).send(&socket);
            sent.map_err(|e| fail(host, &format!("it hung up at the greeting: {e}")))?;
            let answer = Greeting::receive(&socket, PATIENCE);
            let answer = answer.filter(|a| a.process == peer).ok_or_else(|| {
                let why =
                    "it hung up or is no process of this job; see its log and the list of hosts";
                fail(host, why)
            })?;
            terms.agree(&answer.terms, host)?;
            *slot = Some(socket);
        }
    }
    listener
        .set_nonblocking(true)
        .map_err(|e| fail(&hosts[process], &e.to_string()))?;
    let missing = |control: &[Option<TcpStream>], bulk: &[Option<TcpStream>]| -> Option<usize> {
        (process + 1..hosts.len()).find(|&p| control[p].is_none() || bulk[p].is_none())
    };
    while let Some(late) = missing(&control, &bulk) {
        match listener.accept() {
            Ok((socket, _)) => {
                let Some(caller) = Greeting::receive(&socket, Duration::from_secs(5)) else {
                    continue;
                };
                // whoever it is, it learns why
                let answered = greeting(caller.purpose).send(&socket).is_ok();
                let peer = caller.process;
                let unknown = format!("process {peer}");
                terms.agree(&caller.terms, hosts.get(peer).unwrap_or(&unknown))?;
                if !answered || peer <= process || peer >= hosts.len() {
                    continue;
                }
                if caller.purpose == 0 {
                    control[peer] = Some(socket)
                } else {
                    bulk[peer] = Some(socket)
                }
            }
            Err(_) if Instant::now() < deadline => sleep(RETRY),
            Err(_) => {
                let why = format!("process {late} did not call within {PATIENCE:?}; start it");
                return Err(fail(&hosts[late], &why));
            }
        }
    }
    let pairs = control.into_iter().zip(bulk);
    Ok(pairs
        .map(|pair| match pair {
            (Some(control), Some(bulk)) => {
                // small control messages must not wait for more to come
                let _ = control.set_nodelay(true);
                let _ = bulk.set_nodelay(true);
                Some(Sockets { control, bulk })
            }
            _ => None,
        })
        .collect())
}

fn call(host: &str, deadline: Instant) -> Result<TcpStream> {
    loop {
        let tried = host
            .to_socket_addrs()
            .and_then(|mut a| {
                a.next()
                    .ok_or_else(|| std::io::Error::other("no such address"))
            })
            .and_then(|a| TcpStream::connect_timeout(&a, Duration::from_secs(5)));
        match tried {
            Ok(socket) => return Ok(socket),
            Err(_) if Instant::now() < deadline => sleep(RETRY),
            Err(e) => {
                return Err(fail(
                    host,
                    &format!("no answer within {PATIENCE:?}: {e}; start it"),
                ));
            }
        }
    }
}

fn fail(host: &str, why: &str) -> EngineError {
    EngineError::Connect {
        fabric: format!("TCP ({host})"),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes on free ports, which take the job to be this.
    fn start(terms: [Terms; 2]) -> [Result<Vec<Option<Sockets>>>; 2] {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let address = |l: &TcpListener| l.local_addr().expect("it is bound").to_string();
        let hosts: Vec<String> = listeners.iter().map(address).collect();
        let mut processes =
            listeners
                .into_iter()
                .zip(terms)
                .enumerate()
                .map(|(process, (listener, terms))| {
                    let hosts = hosts.clone();
                    std::thread::spawn(move || connect_with(listener, &hosts, process, terms))
                });
        let threads = [(); 2].map(|()| processes.next().expect("two processes"));
        threads.map(|t| t.join().expect("no panic"))
    }

    /// Processes that were started differently both say so, at once and with what differs.
    #[test]
    fn terms_differ() {
        let terms = Terms {
            processes: 2,
            threads: 1,
            digest: 7,
        };
        for sockets in start([terms, terms]) {
            assert_eq!(sockets.expect("they agree").iter().flatten().count(), 1);
        }
        let others = [
            (
                Terms {
                    threads: 4,
                    ..terms
                },
                "4 workers, this one 1",
            ),
            (
                Terms { digest: 8, ..terms },
                "another pipeline, configuration",
            ),
            (
                Terms {
                    processes: 3,
                    ..terms
                },
                "3 processes, this one of 2",
            ),
        ];
        for (other, differ) in others {
            let [here, there] = start([terms, other]);
            let (here, there) = (
                here.unwrap_err().to_string(),
                there.unwrap_err().to_string(),
            );
            assert!(here.contains(differ), "{here}");
            assert!(
                there.contains("start all processes with the same arguments"),
                "{there}"
            );
        }
    }
}
