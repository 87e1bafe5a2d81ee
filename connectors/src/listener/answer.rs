//! The lines that go back to a client.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long a client may take to read its answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Answers are sent once so many bytes are gathered, or when the input pauses.
const GATHER: usize = 1 << 16;

/// Gathers answers and sends them.
#[derive(Debug)]
pub(super) struct Answers {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Answers {
    pub(super) fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self {
            stream,
            pending: Vec::new(),
        })
    }

    /// Answers a bad record.
    pub(super) fn bad(&mut self, error: &str, line: u64) -> std::io::Result<()> {
        let error = serde_json::Value::from(error);
        writeln!(self.pending, "{{\"error\":{error},\"line\":{line}}}")?;
        if self.pending.len() >= GATHER {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Answers the end of the input.
    pub(super) fn summary(&mut self, accepted: u64, rejected: u64) -> std::io::Result<()> {
        writeln!(
            self.pending,
            "{{\"accepted\":{accepted},\"rejected\":{rejected}}}"
        )?;
        self.flush()
    }

    /// Sends what is gathered. Errors if the client does not read it in time.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        let sent = self.stream.write_all(&self.pending);
        self.pending.clear();
        sent
    }

    /// Ends the connection so that the last answer arrives: closing a socket with unread input
    /// resets it and throws the answer away, so some input is read first.
    pub(super) fn farewell(mut self) {
        let ended = self
            .flush()
            .and_then(|()| self.stream.shutdown(Shutdown::Write));
        let short = self
            .stream
            .set_read_timeout(Some(Duration::from_millis(50)));
        if ended.and(short).is_err() {
            return;
        }
        let (begin, mut scrap) = (Instant::now(), [0; 1 << 14]);
        while begin.elapsed() < Duration::from_secs(1) {
            match self.stream.read(&mut scrap) {
                Ok(0) => return,
                Ok(_) => (),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => (),
                Err(_) => return,
            }
        }
    }
}

/// Tells a client that there is no room for it.
pub(super) fn turn_away(mut stream: TcpStream, max_clients: usize) {
    let answer = format!(
        "{{\"error\":\"busy: {max_clients} clients are connected; come back later\",\"line\":0}}\n"
    );
    let limits = stream
        .set_write_timeout(Some(Duration::from_millis(10)))
        .and_then(|()| stream.set_read_timeout(Some(Duration::from_millis(10))));
    if limits.is_ok() && stream.write_all(answer.as_bytes()).is_ok() {
        _ = stream.shutdown(Shutdown::Write);
        _ = stream.read(&mut [0; 1 << 14]);
    }
}
