//! Traces in the Chrome JSON array format, which `ui.perfetto.dev` opens.
//!
//! A process is a process, a worker a thread, and every activation of an operator a complete
//! event (`X`) inside that of its scope. Messages between workers are flow arrows (`s` to `f`),
//! bytes sent are counters (`C`), and each move of a dataflow's frontier is an instant (`i`) and a
//! counter. Times are microseconds since midnight (UTC) of the day the process began, so that
//! files of several processes lie on one axis.
//!
//! Workers hand their marks to one writing thread through a bounded queue and never wait for it:
//! what does not fit, or comes after the limit of bytes, is left out whole and counted. The array
//! is written event by event and closed in the end, after a failure as well; a file whose process
//! was killed lacks only its last bracket, which Perfetto forgives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::page::dotted;

/// Handovers that may wait for the writer.
const QUEUE: usize = 256;

/// Something to be drawn.
#[derive(Debug)]
pub(crate) enum Mark {
    Name {
        id: usize,
        name: String,
        addr: Vec<usize>,
    },
    Slice {
        id: usize,
        start: Duration,
        duration: Duration,
        records_in: u64,
        records_out: u64,
        bytes: u64,
    },
    Message {
        at: Duration,
        sent: bool,
        channel: usize,
        source: usize,
        target: usize,
        number: usize,
    },
    Bytes {
        at: Duration,
        id: usize,
        total: u64,
    },
    Frontier {
        at: Duration,
        dataflow: String,
        time: Option<(String, u64)>,
    },
}

enum Parcel {
    Marks(usize, Vec<Mark>),
    End,
}

/// Where workers put their marks.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    queue: SyncSender<Parcel>,
    lost: Arc<AtomicU64>,
}

impl Feed {
    pub(crate) fn send(&self, worker: usize, marks: Vec<Mark>) {
        let many = marks.len() as u64;
        if self.queue.try_send(Parcel::Marks(worker, marks)).is_err() {
            self.lost.fetch_add(many, Ordering::Relaxed);
        }
    }

    /// Marks that were left out.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A trace being written.
#[derive(Debug)]
pub(crate) struct Tracer {
    feed: Feed,
    writer: JoinHandle<io::Result<()>>,
    path: PathBuf,
}

impl Tracer {
    /// Creates the file (and its folder) and starts to write.
    pub(crate) fn start(path: &Path, process: usize, name: &str, limit: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let (queue, parcels) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let mut out = Writer {
            file: BufWriter::new(File::create(path)?),
            process,
            zero: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(Duration::ZERO, |t| {
                    t - Duration::from_secs(t.as_secs() / 86400 * 86400)
                }),
            room: limit,
            names: BTreeMap::new(),
            totals: BTreeMap::new(),
            lost: Arc::clone(&lost),
        };
        out.begin(name)?;
        let writer = std::thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || out.run(&parcels))?;
        Ok(Tracer {
            feed: Feed { queue, lost },
            writer,
            path: path.to_owned(),
        })
    }

    pub(crate) fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// Writes what is left and closes the file.
    pub(crate) fn finish(self) -> (PathBuf, io::Result<u64>) {
        // waits for room in the queue; fails only if the writer has gone with an error
        let _ = self.feed.queue.send(Parcel::End);
        let written = self
            .writer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the writer of the trace failed")));
        (self.path, written.map(|()| self.feed.lost()))
    }
}

struct Writer {
    file: BufWriter<File>,
    process: usize,
    zero: Duration,
    /// Bytes that may still be written.
    room: u64,
    names: BTreeMap<(usize, usize), (String, String)>,
    /// Bytes sent by each worker.
    totals: BTreeMap<usize, BTreeMap<usize, u64>>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(&mut self, parcels: &Receiver<Parcel>) -> io::Result<()> {
        loop {
            match parcels.recv_timeout(Duration::from_secs(1)) {
                Ok(Parcel::Marks(worker, marks)) => {
                    for mark in marks {
                        self.mark(worker, mark)?;
                    }
                }
                // what has come so far is on disk if the process is killed
                Err(RecvTimeoutError::Timeout) => self.file.flush()?,
                Ok(Parcel::End) | Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
        }
    }

    fn begin(&mut self, name: &str) -> io::Result<()> {
        let (pid, name) = (
            self.process,
            quoted(&format!("process {} {name}", self.process)),
        );
        write!(
            self.file,
            r#"[{{"ph":"M","name":"process_name","pid":{pid},"args":{{"name":{name}}}}}"#
        )
    }

    fn end(&mut self) -> io::Result<()> {
        let lost = self.lost.load(Ordering::Relaxed);
        let pid = self.process;
        writeln!(
            self.file,
            ",\n{{\"ph\":\"M\",\"name\":\"process_labels\",\"pid\":{pid},\
             \"args\":{{\"labels\":\"{lost} events left out\"}}}}]"
        )?;
        self.file.flush()
    }

    /// Microseconds with all their digits.
    fn micros(&self, at: Duration) -> String {
        let t = self.zero + at;
        format!("{}.{:03}", t.as_micros(), t.subsec_nanos() % 1000)
    }

    fn event(&mut self, text: &str) -> io::Result<()> {
        let bytes = text.len() as u64 + 2;
        if bytes > self.room {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.room -= bytes;
        self.file.write_all(b",\n")?;
        self.file.write_all(text.as_bytes())
    }

    fn mark(&mut self, worker: usize, mark: Mark) -> io::Result<()> {
        let pid = self.process;
        match mark {
            Mark::Name { id, name, addr } => {
                let new = !self.names.keys().any(|(w, _)| *w == worker);
                self.names
                    .insert((worker, id), (quoted(&name), dotted(&addr)));
                if !new {
                    return Ok(());
                }
                self.event(&format!(
                    r#"{{"ph":"M","name":"thread_name","pid":{pid},"tid":{worker},"args":{{"name":"worker {worker}"}}}}"#
                ))
            }
            Mark::Slice {
                id,
                start,
                duration,
                records_in,
                records_out,
                bytes,
            } => {
                let (name, addr) = self.name(worker, id);
                let (ts, dur) = (self.micros(start), duration.as_nanos());
                self.event(&format!(
                    r#"{{"ph":"X","name":{name},"cat":"operator","pid":{pid},"tid":{worker},"ts":{ts},"dur":{}.{:03},"args":{{"address":"{addr}","records_in":{records_in},"records_out":{records_out},"bytes":{bytes}}}}}"#,
                    dur / 1000,
                    dur % 1000
                ))
            }
            Mark::Message {
                at,
                sent,
                channel,
                source,
                target,
                number,
            } => {
                let ts = self.micros(at);
                let end = if sent {
                    r#""ph":"s""#
                } else {
                    r#""ph":"f","bp":"e""#
                };
                self.event(&format!(
                    r#"{{{end},"name":"message","cat":"message","id":"{channel}.{source}.{target}.{number}","pid":{pid},"tid":{worker},"ts":{ts}}}"#
                ))
            }
            Mark::Bytes { at, id, total } => {
                let all = self.totals.entry(worker).or_default();
                all.insert(id, total);
                let sum: u64 = all.values().sum();
                let ts = self.micros(at);
                self.event(&format!(
                    r#"{{"ph":"C","name":"bytes sent by worker {worker}","pid":{pid},"tid":{worker},"ts":{ts},"args":{{"bytes":{sum}}}}}"#
                ))
            }
            Mark::Frontier { at, dataflow, time } => {
                let ts = self.micros(at);
                let shown = time.as_ref().map_or("done", |(t, _)| t.as_str());
                let name = quoted(&format!("{dataflow}: {shown}"));
                self.event(&format!(
                    r#"{{"ph":"i","s":"p","name":{name},"cat":"frontier","pid":{pid},"tid":{worker},"ts":{ts}}}"#
                ))?;
                let Some((_, number)) = time else {
                    return Ok(());
                };
                let name = quoted(&format!("frontier of {dataflow}"));
                self.event(&format!(
                    r#"{{"ph":"C","name":{name},"pid":{pid},"ts":{ts},"args":{{"time":{number}}}}}"#
                ))
            }
        }
    }

    fn name(&self, worker: usize, id: usize) -> (String, String) {
        self.names
            .get(&(worker, id))
            .cloned()
            .unwrap_or_else(|| (format!("\"operator {id}\""), String::new()))
    }
}

/// A text as JSON writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
