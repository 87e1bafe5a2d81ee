//! One connection: bytes in, deliveries and answers out.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;

use super::answer::Answers;
use super::hub::Shared;
use crate::error::ConnectorError;
use crate::ipc::IpcFrames;
use crate::live::{BatchBuilder, Delivery};
use crate::ndjson::{is_blank, parse_line};
use crate::rejected::{Reason, Rejected};
use crate::schema::{from_batch, to_batch};

/// Bytes of one read.
const READ: usize = 1 << 18;

/// Why a connection ends.
enum End {
    /// The client ended its input.
    Input,
    /// The client broke a rule; it is told which.
    Rule(String),
    /// The connection or the engine is gone; nobody is left to tell.
    Gone,
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        End::Gone
    }
}

/// The state of one connection.
pub(super) struct Client {
    name: String,
    shared: Arc<Shared>,
    sender: SyncSender<Delivery>,
    answers: Answers,
    builder: BatchBuilder,
    rejected: Vec<Rejected>,
    /// When the oldest record that is not delivered yet came.
    waiting: Option<Instant>,
    line: u64,
    bad_run: u64,
    accepted: u64,
    refused: u64,
    /// Begin of the running second, and the records in it.
    second: (Instant, u64),
}

impl Client {
    /// Serves a connection until it ends.
    pub(super) fn serve(
        stream: TcpStream,
        name: String,
        shared: Arc<Shared>,
        sender: SyncSender<Delivery>,
    ) {
        let tick = shared.options.flush.max(Duration::from_millis(1));
        let Ok(answers) = stream
            .set_read_timeout(Some(tick))
            .and_then(|()| stream.try_clone())
            .and_then(Answers::new)
        else {
            return;
        };
        let mut client = Self {
            name,
            shared,
            sender,
            answers,
            builder: BatchBuilder::default(),
            rejected: Vec::new(),
            waiting: None,
            line: 0,
            bad_run: 0,
            accepted: 0,
            refused: 0,
            second: (Instant::now(), 0),
        };
        let end = match client.read(stream) {
            Ok(()) => End::Input,
            Err(end) => end,
        };
        let delivered = client.deliver(true);
        match (end, delivered) {
            (End::Gone, _) | (_, Err(_)) => (),
            (End::Rule(rule), Ok(())) => {
                tracing::warn!(client = client.name, rule, "disconnected");
                if client.answers.bad(&rule, client.line).is_ok() {
                    client.answers.farewell();
                }
            }
            (End::Input, Ok(())) => {
                if client
                    .answers
                    .summary(client.accepted, client.refused)
                    .is_ok()
                {
                    client.answers.farewell();
                }
            }
        }
    }

    fn read(&mut self, mut stream: TcpStream) -> Result<(), End> {
        let limit = self.shared.options.max_message;
        let mut frames: Option<IpcFrames> = None;
        let mut buffer = vec![0; READ];
        // Bytes of a line that is not complete, and since when.
        let mut rest: Vec<u8> = Vec::new();
        let (mut heard, mut begun) = (Instant::now(), None::<Instant>);
        loop {
            if self.shared.stop.load(Ordering::Relaxed) {
                return Err(End::Gone);
            }
            let n = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(End::Gone),
            };
            let now = Instant::now();
            let bytes = &buffer[..n];
            if n > 0 {
                heard = now;
                if self.line == 0 && rest.is_empty() && frames.is_none() && bytes[0] == 0xff {
                    frames = Some(IpcFrames::new(&*self.name, limit));
                }
                let whole = match &mut frames {
                    Some(frames) => self.take_frames(frames, bytes)?,
                    None => self.take_lines(&mut rest, bytes)?,
                };
                let open = frames
                    .as_ref()
                    .map_or(!rest.is_empty(), |f| f.finish().is_err());
                begun = if open {
                    begun.filter(|_| !whole).or(Some(now))
                } else {
                    None
                };
            }
            self.answers.flush()?;
            if self
                .waiting
                .is_some_and(|t| now.duration_since(t) >= self.shared.options.flush)
            {
                self.deliver(false)?;
            }
            let options = &self.shared.options;
            if begun.is_some_and(|t| now.duration_since(t) > options.slow) {
                let rule = format!("slow: one record took more than {:?}", options.slow);
                return Err(End::Rule(rule));
            }
            if now.duration_since(heard) > options.idle {
                return Err(End::Rule(format!("idle: no bytes for {:?}", options.idle)));
            }
        }
        match frames {
            Some(frames) => frames.finish().map_err(|e| End::Rule(e.to_string())),
            None if is_blank(&rest) => Ok(()),
            None => self.take_line(&rest),
        }
    }

    /// Takes lines out of `bytes`; keeps the incomplete one in `rest`. Says whether one ended.
    fn take_lines(&mut self, rest: &mut Vec<u8>, bytes: &[u8]) -> Result<bool, End> {
        let mut pieces = bytes.split(|&b| b == b'\n');
        let tail = pieces.next_back().unwrap_or_default();
        let mut ended = false;
        for piece in pieces {
            ended = true;
            if rest.is_empty() {
                self.take_line(piece)?;
            } else {
                rest.extend_from_slice(piece);
                let line = std::mem::take(rest);
                self.take_line(&line)?;
            }
        }
        rest.extend_from_slice(tail);
        let most = self.shared.options.max_line;
        if rest.len() > most {
            self.line += 1;
            let place = format!("{}:{}", self.name, self.line);
            let detail = format!("line is longer than {most} bytes");
            self.refuse(Rejected::raw(rest, Reason::Malformed, &*detail, place))?;
            rest.clear();
            return Err(End::Rule(format!("malformed: {detail}")));
        }
        Ok(ended)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), End> {
        self.line += 1;
        if is_blank(line) {
            return Ok(());
        }
        let most = self.shared.options.max_line;
        let parsed = if line.len() > most {
            Err((
                Reason::Malformed,
                format!("line is longer than {most} bytes"),
            ))
        } else {
            parse_line(line, &self.name, &mut self.builder)
        };
        match parsed {
            Ok(()) => self.accept(1)?,
            Err((reason, detail)) => {
                self.answers
                    .bad(&format!("{reason}: {detail}"), self.line)?;
                let place = format!("{}:{}", self.name, self.line);
                self.refuse(Rejected::raw(line, reason, detail, place))?;
            }
        }
        if self.builder.rows() + self.rejected.len() >= self.shared.options.rows {
            self.deliver(false)?;
        }
        Ok(())
    }

    fn take_frames(&mut self, frames: &mut IpcFrames, bytes: &[u8]) -> Result<bool, End> {
        let mut batches = Vec::new();
        let pushed = frames.push(bytes, |batch| batches.push(batch));
        let ended = !batches.is_empty();
        for batch in batches {
            let rows = self.shared.options.rows.max(1);
            for at in (0..batch.num_rows()).step_by(rows) {
                self.take_batch(&batch.slice(at, rows.min(batch.num_rows() - at)))?;
            }
        }
        match pushed {
            Ok(()) => Ok(ended),
            Err(error) => Err(self.damaged(Reason::Malformed, 1, &error)),
        }
    }

    /// Rejects what could not be read of an Arrow stream and ends the connection.
    fn damaged(&mut self, reason: Reason, rows: usize, error: &ConnectorError) -> End {
        let place = format!("{}:{}", self.name, self.line + 1);
        let text = format!("{rows} rows of an Arrow stream");
        let rejected = Rejected::raw(text.as_bytes(), reason, error.to_string(), place);
        match self.refuse(rejected) {
            Err(End::Gone) => End::Gone,
            _ => End::Rule(error.to_string()),
        }
    }

    fn take_batch(&mut self, batch: &RecordBatch) -> Result<(), End> {
        let (mut good, bad) = match from_batch(batch, &self.name, self.line) {
            Ok(split) => split,
            Err(error) => return Err(self.damaged(Reason::Schema, batch.num_rows(), &error)),
        };
        self.line += batch.num_rows() as u64;
        good.iter_mut()
            .filter(|o| o.source.is_empty())
            .for_each(|o| o.source = self.name.clone());
        self.deliver(false)?;
        let batch = to_batch(&good).map_err(|e| End::Rule(e.to_string()))?;
        self.accept(good.len() as u64)?;
        for r in bad {
            let line = r
                .place
                .rsplit(':')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(self.line);
            self.answers
                .bad(&format!("{}: {}", r.reason, r.detail), line)?;
            self.refuse(r)?;
        }
        let rejected = std::mem::take(&mut self.rejected);
        self.waiting = None;
        self.send(Delivery {
            origin: self.name.clone(),
            batch,
            rejected,
            finished: false,
        })
    }

    fn accept(&mut self, records: u64) -> Result<(), End> {
        self.waiting.get_or_insert_with(Instant::now);
        self.accepted += records;
        self.bad_run = 0;
        self.shared.accepted.fetch_add(records, Ordering::Relaxed);
        self.count(records)
    }

    fn refuse(&mut self, rejected: Rejected) -> Result<(), End> {
        self.waiting.get_or_insert_with(Instant::now);
        self.rejected.push(rejected);
        self.refused += 1;
        self.bad_run += 1;
        self.shared.rejected.fetch_add(1, Ordering::Relaxed);
        let most = self.shared.options.max_bad;
        if self.bad_run >= most {
            return Err(End::Rule(format!("flooding: {most} bad records in a row")));
        }
        self.count(1)
    }

    fn count(&mut self, records: u64) -> Result<(), End> {
        let Some(most) = self.shared.options.max_rate else {
            return Ok(());
        };
        if self.second.0.elapsed() >= Duration::from_secs(1) {
            self.second = (Instant::now(), 0);
        }
        self.second.1 += records;
        if self.second.1 > most {
            return Err(End::Rule(format!(
                "flooding: more than {most} records in one second"
            )));
        }
        Ok(())
    }

    /// Delivers what waits; the last delivery goes out even if it is empty.
    fn deliver(&mut self, finished: bool) -> Result<(), End> {
        if self.builder.rows() + self.rejected.len() == 0 && !finished {
            return Ok(());
        }
        self.waiting = None;
        let batch = self
            .builder
            .finish()
            .map_err(|e| End::Rule(e.to_string()))?;
        let rejected = std::mem::take(&mut self.rejected);
        self.send(Delivery {
            origin: self.name.clone(),
            batch,
            rejected,
            finished,
        })
    }

    /// Waits while the channel of this client is full; TCP then holds the client back.
    fn send(&mut self, delivery: Delivery) -> Result<(), End> {
        self.sender.send(delivery).map_err(|_| End::Gone)?;
        (self.shared.waker)();
        Ok(())
    }
}
