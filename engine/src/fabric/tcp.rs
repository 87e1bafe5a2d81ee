//! Processes over TCP: timely's own channels on the control sockets, payloads on the bulk sockets.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::zero_copy::stream::Stream;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};

use super::alarm::Alarm;
use super::bulk::Lane;
use super::connect::Sockets;
use super::{NOTICE, Parts};
use crate::error::{EngineError, Result};
use crate::shard::{DType, Data};

/// A control socket that names its peer when it breaks: timely's communication threads end in a
/// panic then, which drops the socket they hold.
struct Link {
    socket: TcpStream,
    peer: Arc<str>,
    alarm: Arc<Alarm>,
}

impl Drop for Link {
    fn drop(&mut self) {
        if thread::panicking() {
            self.alarm.raise(format!(
                "{} was lost; see its own log, then resume",
                self.peer
            ));
        }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for Link {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.write(buffer)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        let socket = self.socket.try_clone()?;
        Ok(Link {
            socket,
            peer: Arc::clone(&self.peer),
            alarm: Arc::clone(&self.alarm),
        })
    }
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
    }
}

/// Builds the workers of this process on connected sockets.
pub(crate) fn assemble(
    threads: usize,
    process: usize,
    hosts: &[String],
    sockets: Vec<Option<Sockets>>,
    alarm: &Arc<Alarm>,
) -> Result<Parts> {
    let hooks = Hooks::default();
    let inside =
        ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
    let mut control = Vec::new();
    let mut bulk = Vec::new();
    for (peer, pair) in sockets.into_iter().enumerate() {
        let name: Arc<str> = format!("process {peer} ({})", hosts[peer]).into();
        let (c, b) = pair.map(|s| (s.control, s.bulk)).unzip();
        let link = c.map(|socket| Link {
            socket,
            peer: Arc::clone(&name),
            alarm: Arc::clone(alarm),
        });
        control.push(link);
        bulk.push((name, b));
    }
    let lane = SocketLane::start(bulk, threads, alarm).map_err(|e| connect_error(&e))?;
    let (builders, guard) =
        initialize_networking_from_sockets(inside, control, process, threads, hooks)
            .map_err(|e| connect_error(&e))?;
    Ok(Parts {
        builders: builders.into_iter().map(AllocatorBuilder::Tcp).collect(),
        guard: Box::new(guard),
        lane: Some(lane),
        first: process * threads,
    })
}

fn connect_error(e: &io::Error) -> EngineError {
    EngineError::Connect {
        fabric: "TCP".to_owned(),
        why: e.to_string(),
    }
}

/// Payloads over one socket per peer: the sender writes from its worker thread, one thread per
/// peer reads, so that two workers that send to each other never wait for one another.
struct SocketLane {
    threads: usize,
    next: AtomicU64,
    out: Vec<Option<Mutex<TcpStream>>>,
    inbox: Arc<Inbox>,
}

/// Payloads that have arrived and not been asked for, by process and tag.
struct Inbox {
    arrived: Mutex<BTreeMap<(usize, u64), Data>>,
    more: Condvar,
    alarm: Arc<Alarm>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl SocketLane {
    fn start(
        sockets: Vec<(Arc<str>, Option<TcpStream>)>,
        threads: usize,
        alarm: &Arc<Alarm>,
    ) -> io::Result<Arc<Self>> {
        let inbox = Arc::new(Inbox {
            arrived: Mutex::new(BTreeMap::new()),
            more: Condvar::new(),
            alarm: Arc::clone(alarm),
        });
        let mut out = Vec::new();
        for (peer, (name, socket)) in sockets.into_iter().enumerate() {
            if let Some(socket) = &socket {
                let (reader, inbox) = (socket.try_clone()?, Arc::clone(&inbox));
                thread::Builder::new()
                    .name(format!("bulk from {name}"))
                    .spawn(move || {
                        if let Err(e) = inbox.fill(peer, reader) {
                            inbox
                                .alarm
                                .raise(format!("{name} broke off a payload: {e}"));
                        }
                    })?;
            }
            out.push(socket.map(Mutex::new));
        }
        Ok(Arc::new(SocketLane {
            threads,
            next: AtomicU64::new(1),
            out,
            inbox,
        }))
    }
}

impl Drop for SocketLane {
    fn drop(&mut self) {
        // ends the reading threads of both sides
        for socket in self.out.iter().flatten() {
            let _ = locked(socket).shutdown(Shutdown::Write);
        }
    }
}

impl Inbox {
    fn fill(&self, peer: usize, mut socket: TcpStream) -> io::Result<()> {
        loop {
            let mut head = [0u8; 24];
            match socket.read_exact(&mut head) {
                Ok(()) => {}
                // the peer has shut its side at the end of the job; a loss shows on control
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(e),
            }
            let word = |i: usize| {
                head[8 * i..]
                    .iter()
                    .take(8)
                    .rev()
                    .fold(0u64, |w, &b| w << 8 | u64::from(b))
            };
            let dtype = DType::from_code(word(1) as u8)
                .ok_or_else(|| io::Error::other("unknown element type on the bulk lane"))?;
            let mut data = Data::zeros(dtype, word(2) as usize);
            socket.read_exact(data.as_bytes_mut())?;
            locked(&self.arrived).insert((peer, word(0)), data);
            self.more.notify_all();
        }
    }

    fn take(&self, peer: usize, tag: u64) -> Data {
        let mut arrived = locked(&self.arrived);
        loop {
            if let Some(data) = arrived.remove(&(peer, tag)) {
                return data;
            }
            self.alarm.check();
            arrived = match self.more.wait_timeout(arrived, NOTICE) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl Lane for SocketLane {
    fn send(&self, worker: usize, data: &Data) -> u64 {
        let tag = self.next.fetch_add(1, Ordering::Relaxed);
        let peer = worker / self.threads;
        if let Some(Some(socket)) = self.out.get(peer) {
            let mut head = [0u8; 24];
            for (slot, word) in
                head.chunks_exact_mut(8)
                    .zip([tag, data.dtype() as u64, data.len() as u64])
            {
                slot.copy_from_slice(&word.to_le_bytes());
            }
            let mut socket = locked(socket);
            let sent = socket
                .write_all(&head)
                .and_then(|()| socket.write_all(data.as_bytes()));
            if let Err(e) = sent {
                self.inbox
                    .alarm
                    .raise(format!("process {peer} takes no payloads: {e}"));
                self.inbox.alarm.check();
            }
        }
        tag
    }

    fn receive(
        &self,
        worker: usize,
        tag: u64,
        _: DType,
        _: usize,
    ) -> Result<Box<dyn FnOnce() -> Data + Send>, String> {
        let (inbox, peer) = (Arc::clone(&self.inbox), worker / self.threads);
        Ok(Box::new(move || inbox.take(peer, tag)))
    }
}
