//! Connecting processes: two sockets between every pair, one for control and one for bulk.
//!
//! Every process listens on its own address, calls those with a lower index and is called by those
//! with a higher one. A call begins with [`MAGIC`], the caller's index, the purpose and the number
//! of processes, so that a stranger or a process of another job is turned away.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{EngineError, Result};

const MAGIC: u64 = 0x6164_7665_6374_3031;
/// How long all processes have to come up.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(20);

/// The two sockets to one peer.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) control: TcpStream,
    pub(crate) bulk: TcpStream,
}

/// Connects this process to all others; `None` at its own place.
pub(crate) fn connect(hosts: &[String], process: usize) -> Result<Vec<Option<Sockets>>> {
    let me = hosts.get(process).ok_or_else(|| {
        fail(
            &format!("process {process} of {}", hosts.len()),
            "there is no such host in the list",
        )
    })?;
    let listener = TcpListener::bind(me.as_str())
        .map_err(|e| fail(me, &format!("cannot listen there: {e}; choose a free port")))?;
    connect_with(listener, hosts, process)
}

/// The same with a listener that is already bound.
pub(crate) fn connect_with(
    listener: TcpListener,
    hosts: &[String],
    process: usize,
) -> Result<Vec<Option<Sockets>>> {
    let deadline = Instant::now() + PATIENCE;
    let mut control: Vec<Option<TcpStream>> = hosts.iter().map(|_| None).collect();
    let mut bulk: Vec<Option<TcpStream>> = hosts.iter().map(|_| None).collect();
    for (peer, host) in hosts.iter().enumerate().take(process) {
        for (purpose, slot) in [(0u64, &mut control[peer]), (1, &mut bulk[peer])] {
            let mut socket = call(host, deadline)?;
            for word in [MAGIC, process as u64, purpose, hosts.len() as u64] {
                socket
                    .write_all(&word.to_le_bytes())
                    .map_err(|e| fail(host, &format!("it hung up at the greeting: {e}")))?;
            }
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
                if let Some((peer, purpose)) = greeting(&socket, process, hosts.len()) {
                    if purpose == 0 {
                        control[peer] = Some(socket)
                    } else {
                        bulk[peer] = Some(socket)
                    }
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

/// Who calls and for what; `None` for a stranger.
fn greeting(socket: &TcpStream, process: usize, processes: usize) -> Option<(usize, u64)> {
    socket.set_nonblocking(false).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut words = [0u8; 32];
    let mut reader = socket;
    reader.read_exact(&mut words).ok()?;
    socket.set_read_timeout(None).ok()?;
    let word = |i: usize| -> Option<u64> {
        words
            .get(8 * i..8 * i + 8)?
            .try_into()
            .ok()
            .map(u64::from_le_bytes)
    };
    let (peer, purpose) = (word(1)? as usize, word(2)?);
    let known = word(0)? == MAGIC && word(3)? as usize == processes && purpose < 2;
    (known && peer > process && peer < processes).then_some((peer, purpose))
}

fn fail(host: &str, why: &str) -> EngineError {
    EngineError::Connect {
        fabric: format!("TCP ({host})"),
        why: why.to_owned(),
    }
}
