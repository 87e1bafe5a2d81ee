//! Control sockets whose loss ends the job in order.
//!
//! timely's communication threads panic when their socket breaks, and poison the queues of the workers
//! with that; a worker that meets a poisoned queue while it goes down aborts the process. So a link never
//! breaks for timely: it raises the alarm, takes what is written, gives nothing to read until the workers
//! are gone, and then ends like a peer that has finished.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use timely::communication::allocator::zero_copy::stream::Stream;

use super::alarm::Alarm;

/// How often a lost link looks whether the workers are gone.
const LOOK: Duration = Duration::from_millis(2);

/// One end of a control socket.
pub(super) struct Link {
    socket: TcpStream,
    peer: Arc<str>,
    alarm: Arc<Alarm>,
    gone: Arc<AtomicBool>,
    frames: Frames,
    lost: bool,
}

impl Link {
    /// A link to `peer` of workers that are at work until `gone` is set.
    pub(super) fn new(
        socket: TcpStream,
        peer: &str,
        alarm: &Arc<Alarm>,
        gone: &Arc<AtomicBool>,
    ) -> Self {
        Link {
            socket,
            peer: peer.into(),
            alarm: Arc::clone(alarm),
            gone: Arc::clone(gone),
            frames: Frames::default(),
            lost: false,
        }
    }

    fn lose(&mut self) {
        if !self.lost {
            self.lost = true;
            let why = format!("{} was lost; see its own log, then resume", self.peer);
            self.alarm.raise(why);
            // the peer, if it lives, is waiting for what will not come
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits for the end of the workers and ends the stream.
    fn end(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.gone.load(Ordering::Acquire) {
            thread::sleep(LOOK);
        }
        if !self.frames.between() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut message"));
        }
        // the header of a message of no length is timely's end of a stream
        let n = buffer.len().min(self.frames.missing());
        buffer[..n].fill(0);
        self.frames.follow(&buffer[..n]);
        Ok(n)
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.frames.ended {
            return Ok(0);
        }
        if !self.lost {
            match self.socket.read(buffer) {
                Ok(n) if n > 0 => {
                    self.frames.follow(&buffer[..n]);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
                _ => self.lose(),
            }
        }
        self.end(buffer)
    }
}

impl Write for Link {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if !self.lost {
            match self.socket.write(buffer) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => self.lose(),
                other => return other,
            }
        }
        Ok(buffer.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        let socket = self.socket.try_clone()?;
        Ok(Link::new(socket, &self.peer, &self.alarm, &self.gone))
    }
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.lost {
            true => Ok(()),
            false => self.socket.shutdown(how),
        }
    }
}

/// Follows the messages of a stream: six big-endian words, the fifth of which says how many bytes come
/// after them; none of them is the end.
#[derive(Default)]
struct Frames {
    head: Vec<u8>,
    /// Bytes of the message that are still to come.
    rest: usize,
    ended: bool,
}

const HEAD: usize = 48;

impl Frames {
    /// Whether the stream stands between two messages, or in a header that this end has made up.
    fn between(&self) -> bool {
        self.rest == 0 && self.head.iter().all(|&b| b == 0)
    }

    /// Bytes of the header that are missing.
    fn missing(&self) -> usize {
        HEAD - self.head.len()
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = match self.rest {
                0 => self.missing().min(bytes.len()),
                rest => rest.min(bytes.len()),
            };
            let (now, later) = bytes.split_at(n);
            bytes = later;
            if self.rest > 0 {
                self.rest -= n;
                continue;
            }
            self.head.extend_from_slice(now);
            if self.head.len() == HEAD {
                let length = self.head[32..40]
                    .iter()
                    .fold(0, |n, &b| n << 8 | usize::from(b));
                (self.rest, self.ended) = (length, length == 0);
                self.head.clear();
            }
        }
    }
}

/// Says that the workers are gone when it is dropped: before timely waits for its threads.
pub(super) struct Farewell(pub(super) Arc<AtomicBool>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn message(length: usize) -> Vec<u8> {
        let head = [1, 2, 3, 4, length as u64, 5].map(u64::to_be_bytes);
        [head.as_flattened(), &vec![7; length]].concat()
    }

    fn pair() -> (Link, TcpStream, Arc<Alarm>, Arc<AtomicBool>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let there = TcpStream::connect(listener.local_addr().expect("bound")).expect("listens");
        let (here, _) = listener.accept().expect("it has called");
        let (alarm, gone) = (Arc::default(), Arc::default());
        (
            Link::new(here, "process 1", &alarm, &gone),
            there,
            alarm,
            gone,
        )
    }

    /// A peer that ends in order is no loss, however its bytes are cut.
    #[test]
    fn an_end_is_no_loss() {
        let (mut link, mut there, alarm, _) = pair();
        let sent = [message(3), message(100), message(0)].concat();
        for byte in &sent {
            there.write_all(&[*byte]).expect("connected");
        }
        drop(there);
        let mut got = Vec::new();
        link.read_to_end(&mut got).expect("no error");
        assert_eq!(got, sent);
        assert_eq!(alarm.raised(), None);
    }

    /// A lost peer is named at once; timely sees an ordinary end when the workers are gone, and what is
    /// written goes nowhere.
    #[test]
    fn a_loss_is_named() {
        let (mut link, mut there, alarm, gone) = pair();
        there.write_all(&message(3)).expect("connected");
        drop(there);
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            link.read_to_end(&mut got).map(|_| (got, link))
        });
        while alarm.raised().is_none() {
            thread::sleep(LOOK);
        }
        assert!(
            alarm
                .raised()
                .is_some_and(|why| why.contains("process 1 was lost"))
        );
        assert!(!reader.is_finished());
        drop(Farewell(gone));
        let (got, mut link) = reader.join().expect("no panic").expect("an end");
        assert_eq!(got, [message(3), vec![0; HEAD]].concat());
        link.write_all(&message(1)).expect("it takes what comes");
    }

    /// Half a message is an error, but only then.
    #[test]
    fn half_a_message() {
        let (mut link, mut there, alarm, gone) = pair();
        there.write_all(&message(9)[..50]).expect("connected");
        drop((there, Farewell(gone)));
        assert!(link.read_to_end(&mut Vec::new()).is_err());
        assert!(alarm.raised().is_some());
    }
}
