//! Accepting clients and draining their channels fairly.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::answer::turn_away;
use super::client::Client;
use super::options::ListenerOptions;
use crate::error::{ConnectorError, Result};
use crate::live::{Delivery, Waker};

/// What the threads of a listener share.
pub(super) struct Shared {
    pub(super) options: ListenerOptions,
    pub(super) waker: Waker,
    pub(super) stop: AtomicBool,
    pub(super) accepted: AtomicU64,
    pub(super) rejected: AtomicU64,
    clients: AtomicUsize,
    turned_away: AtomicU64,
    channels: Mutex<Channels>,
}

/// The receiving ends, by number of the client.
#[derive(Default)]
struct Channels {
    by_client: BTreeMap<u64, Receiver<Delivery>>,
    /// The client after which the next draining begins.
    last: u64,
}

/// Counts of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerStats {
    /// Clients connected now.
    pub clients: usize,
    /// Records accepted since the start.
    pub accepted: u64,
    /// Records rejected since the start.
    pub rejected: u64,
    /// Clients turned away because there was no room.
    pub turned_away: u64,
}

/// A TCP listener for observations; dropping it disconnects all clients.
pub struct Listener {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens on `address` (`127.0.0.1:0` takes a free port). `waker` is called after each
    /// delivery. Errors if the address cannot be bound.
    pub fn bind(
        address: impl ToSocketAddrs,
        options: ListenerOptions,
        waker: Waker,
    ) -> Result<Self> {
        let io = |action| {
            ConnectorError::io(
                action,
                Path::new("the address"),
                "choose a free address and port",
            )
        };
        let listener = TcpListener::bind(address).map_err(io("listen on"))?;
        let address = listener.local_addr().map_err(io("read"))?;
        let shared = Arc::new(Shared {
            options,
            waker,
            stop: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            clients: AtomicUsize::new(0),
            turned_away: AtomicU64::new(0),
            channels: Mutex::default(),
        });
        let hub = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("listener".into())
            .spawn(move || accept(&listener, &hub))
            .map_err(io("start a thread for"))?;
        Ok(Self {
            address,
            shared,
            thread: Some(thread),
        })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes at most `most` waiting deliveries, one of each client in turn, so that no client
    /// starves another; the next call goes on behind the last client served.
    pub fn drain(&self, most: usize) -> Vec<Delivery> {
        let mut channels = self
            .shared
            .channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let channels = &mut *channels;
        let mut deliveries = Vec::new();
        loop {
            let before = deliveries.len();
            let behind = channels.by_client.range(channels.last + 1..);
            let order: Vec<u64> = behind
                .chain(channels.by_client.range(..=channels.last))
                .map(|c| *c.0)
                .collect();
            for client in order {
                if deliveries.len() >= most {
                    return deliveries;
                }
                match channels.by_client.get(&client).map(Receiver::try_recv) {
                    Some(Ok(delivery)) => {
                        deliveries.push(delivery);
                        channels.last = client;
                    }
                    Some(Err(TryRecvError::Disconnected)) => {
                        channels.by_client.remove(&client);
                    }
                    Some(Err(TryRecvError::Empty)) | None => (),
                }
            }
            if deliveries.len() == before {
                return deliveries;
            }
        }
    }

    /// Counts since the start.
    pub fn stats(&self) -> ListenerStats {
        ListenerStats {
            clients: self.shared.clients.load(Ordering::Relaxed),
            accepted: self.shared.accepted.load(Ordering::Relaxed),
            rejected: self.shared.rejected.load(Ordering::Relaxed),
            turned_away: self.shared.turned_away.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A connection of our own wakes the accepting thread.
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(match own {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let woken = TcpStream::connect_timeout(&own, Duration::from_secs(1)).is_ok();
        // Without receivers every waiting client thread ends.
        let mut channels = self
            .shared
            .channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        channels.by_client.clear();
        drop(channels);
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut number = 0;
    loop {
        let accepted = listener.accept();
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok((stream, peer)) = accepted else {
            // Out of file handles, most likely: wait for clients to leave.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if shared.clients.load(Ordering::Relaxed) >= shared.options.max_clients {
            shared.turned_away.fetch_add(1, Ordering::Relaxed);
            turn_away(stream, shared.options.max_clients);
            continue;
        }
        number += 1;
        let (sender, receiver) = sync_channel(shared.options.queue.max(1));
        let mut channels = shared
            .channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Under the lock: either the dropping listener sees this channel, or it was stopped.
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        channels.by_client.insert(number, receiver);
        drop(channels);
        shared.clients.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(shared));
        let spawned = std::thread::Builder::new()
            .name("client".into())
            .spawn(move || {
                Client::serve(stream, peer.to_string(), Arc::clone(&seat.0), sender);
                drop(seat);
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a client; it is disconnected");
        }
    }
}

/// The place of a client; given back however its thread ends.
struct Seat(Arc<Shared>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
