//! A server for two pages, `/metrics` and `/health`, that no client can hurt.
//!
//! One thread serves all. It sleeps in `accept` while nobody is connected; with clients it looks
//! after them every few milliseconds without ever blocking on one. At most [`CLIENTS`] are
//! connected at a time (the oldest has to go for a new one), each has [`PATIENCE`] in all and may
//! send [`REQUEST`] bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients connected at a time.
const CLIENTS: usize = 32;
/// Time from a client's connection to the end of its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request.
const REQUEST: usize = 8 << 10;
/// How often connected clients are looked after.
const ROUND: Duration = Duration::from_millis(5);

/// The pages.
pub(crate) trait Pages: Send + 'static {
    /// Metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Nothing if all is well, or what is wrong.
    fn health(&self) -> Result<(), String>;
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `pages` on a bound listener.
    pub(crate) fn start(listener: TcpListener, pages: impl Pages) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || serve(&listener, &pages, &stopped))?;
        Ok(Server {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // a call of our own wakes the thread from `accept`
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(match own {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let woken = TcpStream::connect_timeout(&own, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

struct Client {
    socket: TcpStream,
    since: Instant,
    request: Vec<u8>,
    answer: Option<(Vec<u8>, usize)>,
}

fn serve(listener: &TcpListener, pages: &dyn Pages, stop: &AtomicBool) {
    let mut clients: Vec<Client> = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let waiting = !clients.is_empty();
        if listener.set_nonblocking(waiting).is_err() {
            return;
        }
        match listener.accept() {
            Ok((socket, _)) if socket.set_nonblocking(true).is_ok() => {
                if clients.len() == CLIENTS {
                    clients.remove(0);
                }
                clients.push(Client {
                    socket,
                    since: Instant::now(),
                    request: Vec::new(),
                    answer: None,
                });
            }
            // nobody new, or out of descriptors: not a reason to spin
            _ => std::thread::sleep(ROUND),
        }
        clients.retain_mut(|c| c.since.elapsed() < PATIENCE && c.attend(pages));
    }
}

impl Client {
    /// Gets on as far as possible without waiting; false when done with the client.
    fn attend(&mut self, pages: &dyn Pages) -> bool {
        while self.answer.is_none() {
            let mut some = [0u8; 1024];
            match self.socket.read(&mut some) {
                Ok(0) => return false,
                Ok(n) => {
                    self.request.extend_from_slice(&some[..n]);
                    self.answer = reply(&self.request, pages).map(|a| (a, 0));
                }
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
        while let Some((answer, done)) = &mut self.answer {
            match self.socket.write(&answer[*done..]) {
                Ok(n) if *done + n < answer.len() && n > 0 => *done += n,
                Ok(_) => {
                    let _ = self.socket.shutdown(std::net::Shutdown::Write);
                    return false;
                }
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}

/// The answer to a request; `None` while it is not complete.
fn reply(request: &[u8], pages: &dyn Pages) -> Option<Vec<u8>> {
    let complete = request.windows(4).any(|w| w == b"\r\n\r\n");
    if !complete {
        let long = request.len() > REQUEST;
        return long.then(|| page("431 Request Header Fields Too Large", "too long\n"));
    }
    let line = request.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&b| b == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let known = version.is_some_and(|v| v.starts_with(b"HTTP/1.")) && words.next().is_none();
    let path = target.map(|t| t.split(|&b| b == b'?').next().unwrap_or_default());
    Some(match (method, path) {
        _ if !known => page("400 Bad Request", "this is not HTTP/1\n"),
        (Some(b"GET"), Some(b"/metrics")) => page("200 OK", &pages.metrics()),
        (Some(b"GET"), Some(b"/health")) => match pages.health() {
            Ok(()) => page("200 OK", "ok\n"),
            Err(why) => page("503 Service Unavailable", &format!("{why}\n")),
        },
        (Some(b"GET"), _) => page("404 Not Found", "here are /metrics and /health\n"),
        _ => page("405 Method Not Allowed", "only GET\n"),
    })
}

fn page(status: &str, body: &str) -> Vec<u8> {
    let allow = if status.starts_with("405") {
        "Allow: GET\r\n"
    } else {
        ""
    };
    format!(
        "HTTP/1.1 {status}\r\n{allow}Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
