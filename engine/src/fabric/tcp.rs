//! Processes over TCP: timely's own channels on the control sockets, payloads on the bulk sockets.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};

use super::alarm::Alarm;
use super::bulk::{Arrival, Lane, Seat};
use super::connect::Sockets;
use super::link::{Farewell, Link};
use super::{NOTICE, Parts};
use crate::error::{EngineError, Result};
use crate::shard::payload::View;
use crate::shard::pool::Pool;
use crate::shard::{DType, Data};

/// Builds the workers of this process on connected sockets.
pub(crate) fn assemble(
    threads: usize,
    process: usize,
    hosts: &[String],
    sockets: Vec<Option<Sockets>>,
    alarm: &Arc<Alarm>,
) -> Result<Parts> {
    let names = hosts.iter().enumerate();
    let names: Vec<String> = names.map(|(p, h)| format!("process {p} ({h})")).collect();
    let (control, bulk) = sockets
        .into_iter()
        .map(|pair| pair.map(|s| (s.control, s.bulk)).unzip())
        .unzip();
    let seat = Seat::default();
    let lane = SocketLane::start(&names, bulk, threads, alarm, &seat.pool)
        .map_err(|e| connect_error(&e))?;
    let (builders, guard) = channels(threads, process, &names, control, alarm)?;
    Ok(Parts {
        builders,
        guard,
        seat: Seat {
            lane: Some(lane),
            ..seat
        },
        first: process * threads,
        net: None,
    })
}

/// Allocators of timely, one per worker, and what keeps them connected.
pub(super) type Channels = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

/// timely's own channels on the control sockets; `names` says who is at the other end.
pub(super) fn channels(
    threads: usize,
    process: usize,
    names: &[String],
    sockets: Vec<Option<TcpStream>>,
    alarm: &Arc<Alarm>,
) -> Result<Channels> {
    let hooks = Hooks::default();
    let inside =
        ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
    for socket in sockets.iter().flatten() {
        alarm.hold(socket).map_err(|e| connect_error(&e))?;
    }
    let named = sockets.into_iter().zip(names);
    let gone = Arc::default();
    let links =
        named.map(|(socket, name)| socket.map(|socket| Link::new(socket, name, alarm, &gone)));
    let (builders, guard) =
        initialize_networking_from_sockets(inside, links.collect(), process, threads, hooks)
            .map_err(|e| connect_error(&e))?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    // dropped in this order: the links end, then timely waits for the threads that hold them
    Ok((builders, Box::new((Farewell(Arc::clone(&gone)), guard))))
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
    /// Who is at the other end of each socket.
    names: Vec<String>,
    next: AtomicU64,
    out: Vec<Option<Mutex<TcpStream>>>,
    inbox: Arc<Inbox>,
}

/// Payloads that have arrived and not been asked for, by process and tag; `None` in the place of
/// one that will come and that nobody wants.
struct Inbox {
    arrived: Mutex<BTreeMap<(usize, u64), Option<Data>>>,
    pool: Arc<Pool>,
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
        names: &[String],
        sockets: Vec<Option<TcpStream>>,
        threads: usize,
        alarm: &Arc<Alarm>,
        pool: &Arc<Pool>,
    ) -> io::Result<Arc<Self>> {
        let inbox = Arc::new(Inbox {
            arrived: Mutex::new(BTreeMap::new()),
            pool: Arc::clone(pool),
            more: Condvar::new(),
            alarm: Arc::clone(alarm),
        });
        let mut out = Vec::new();
        for (peer, (name, socket)) in names.iter().zip(sockets).enumerate() {
            let name = name.clone();
            if let Some(socket) = &socket {
                alarm.hold(socket)?;
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
            names: names.to_vec(),
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
            let mut data = self.pool.buffer(dtype, word(2) as usize);
            socket.read_exact(data.as_bytes_mut())?;
            let mut arrived = locked(&self.arrived);
            if arrived.remove(&(peer, word(0))).is_some() {
                self.pool.recycle(&mut data);
            } else {
                arrived.insert((peer, word(0)), Some(data));
                self.more.notify_all();
            }
        }
    }

    fn take(&self, peer: usize, tag: u64) -> Data {
        let mut arrived = locked(&self.arrived);
        loop {
            if let Some(Some(data)) = arrived.remove(&(peer, tag)) {
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

impl Inbox {
    fn mismatch(&self, peer: usize, got: usize, announced: usize) {
        self.alarm.raise(format!(
            "process {peer} announced {announced} bytes and sent {got}; run one build everywhere"
        ));
        self.alarm.check();
    }
}

impl Lane for SocketLane {
    fn send(&self, worker: usize, view: &View) -> u64 {
        let tag = self.next.fetch_add(1, Ordering::Relaxed);
        let peer = worker / self.threads;
        if let Some(Some(socket)) = self.out.get(peer) {
            let mut head = [0u8; 24];
            for (slot, word) in
                head.chunks_exact_mut(8)
                    .zip([tag, view.dtype() as u64, view.len() as u64])
            {
                slot.copy_from_slice(&word.to_le_bytes());
            }
            let mut socket = locked(socket);
            let sent = socket
                .write_all(&head)
                .and_then(|()| socket.write_all(view.bytes()));
            if let Err(e) = sent {
                self.inbox
                    .alarm
                    .raise(format!("{} takes no payloads: {e}", self.names[peer]));
                self.inbox.alarm.check();
            }
        }
        tag
    }

    fn expect(&self, worker: usize, tag: u64) -> Result<Box<dyn Arrival>, String> {
        Ok(Box::new(Posted {
            inbox: Arc::clone(&self.inbox),
            peer: worker / self.threads,
            tag,
        }))
    }
}

/// A payload that the reading thread puts into the inbox.
struct Posted {
    inbox: Arc<Inbox>,
    peer: usize,
    tag: u64,
}

impl Arrival for Posted {
    fn fill(self: Box<Self>, out: &mut [u8]) {
        let mut data = self.inbox.take(self.peer, self.tag);
        if data.bytes_len() == out.len() {
            out.copy_from_slice(data.as_bytes());
            self.inbox.pool.recycle(&mut data);
        } else {
            self.inbox.mismatch(self.peer, data.bytes_len(), out.len());
        }
    }

    fn take(self: Box<Self>, dtype: DType, len: usize) -> Data {
        let data = self.inbox.take(self.peer, self.tag);
        if data.dtype() != dtype || data.len() != len {
            self.inbox
                .mismatch(self.peer, data.bytes_len(), len * dtype.size());
        }
        data
    }

    fn discard(self: Box<Self>, _: usize) {
        let mut arrived = locked(&self.inbox.arrived);
        if arrived.remove(&(self.peer, self.tag)).is_none() {
            arrived.insert((self.peer, self.tag), None);
        }
    }
}
