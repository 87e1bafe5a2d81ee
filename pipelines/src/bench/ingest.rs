//! Records a second from a Parquet file and from TCP clients through quality control to hourly
//! means per station, on two workers.
//!
//! The same aggregation runs in Bytewax and in Pathway on two workers, each on the records in the
//! form that it reads fastest; runs of all three alternate. All must find the same windows with
//! the same number of records, which are also computed here without a dataflow.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use advect_connectors::listener::{Listener, ListenerOptions};
use advect_connectors::parquet::{ParquetBatches, ParquetSource};
use advect_engine::Fabric;

use super::{BenchError, Figure, Options, Report, median, peer};
use flow::{Bell, Next, Outcome, hourly_means};

mod flow;
mod records;

const NAME: &str = "ingest";
/// Workers of both sides.
const WORKERS: usize = 2;
/// Clients that send at once.
const CLIENTS: usize = 8;
const UNIT: &str = "records/s";

/// Measures and gives the figures.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let failed = |e: &dyn std::fmt::Display| BenchError::failed(NAME, e);
    let (n, rounds) = if options.quick {
        (100_000, 1)
    } else {
        (1_000_000, 3)
    };
    let directory = Scratch::new().map_err(|e| failed(&e))?;
    let (table, text) = (
        directory.0.join("records.parquet"),
        directory.0.join("records.csv"),
    );
    let observations = records::observations(n);
    let expected = records::expected(&observations);
    records::write_parquet(&table, &observations).map_err(|e| failed(&e))?;
    records::write_csv(&text, &observations).map_err(|e| failed(&e))?;
    let rate = |outcome: Outcome, seconds: f64| {
        if outcome == expected {
            return Ok(n as f64 / seconds);
        }
        let why = format!("the dataflow gave {outcome:?}, {expected:?} is right; report it");
        Err(BenchError::failed(NAME, why))
    };
    let (mut ours, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
    let peers = [("ingest_bytewax", &table), ("ingest_pathway", &text)];
    for _ in 0..rounds {
        for _ in 0..3 {
            let (outcome, seconds) = from_parquet(&table)?;
            ours.push(rate(outcome, seconds)?);
        }
        for ((name, path), rates) in peers.iter().zip(&mut theirs) {
            let path = path.display().to_string();
            let figures = peer(name, &[&path], options, report).unwrap_or_default();
            let value = |case: &str| figures.iter().find(|f| f.case == case).map(|f| f.value);
            let windows = value("windows").unwrap_or_default() as u64;
            let accepted = value("accepted").unwrap_or_default() as u64;
            match value("rate") {
                Some(rate) if (windows, accepted) == (expected.windows, expected.accepted) => {
                    rates.push(rate);
                }
                Some(_) => report.note(&format!(
                    "{name}: left out, it found {accepted} records in {windows} windows, not \
                     {} in {}",
                    expected.accepted, expected.windows
                )),
                None => (),
            }
        }
    }
    let ours = median(&ours);
    let case = "Parquet to hourly means, 2 workers";
    if theirs.iter().all(Vec::is_empty) {
        report.give(Figure::new(NAME, case, ours, UNIT));
    }
    for (name, rates) in ["Bytewax", "Pathway"].iter().zip(&theirs) {
        if !rates.is_empty() {
            let case = format!("{case}, beside {name}");
            report.give(Figure::new(NAME, case, ours, UNIT).beside(median(rates)));
        }
    }
    for (kind, arrow) in [("lines of JSON", false), ("Arrow streams", true)] {
        let shares = records::shares(&observations, CLIENTS, arrow).map_err(|e| failed(&e))?;
        let shares = Arc::new(shares);
        let mut rates = Vec::new();
        for _ in 0..rounds {
            let (outcome, seconds) = from_clients(&shares)?;
            rates.push(rate(outcome, seconds)?);
        }
        let case = format!("TCP, {kind} of {CLIENTS} clients, to hourly means, 2 workers");
        report.give(Figure::new(NAME, case, median(&rates), UNIT));
    }
    Ok(())
}

/// A folder that goes when it is dropped.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("advect-ingest-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // what stays behind is in the folder of temporary files
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Adds up the outcomes of the workers; the first error of a feed is the error of the run.
fn finish(
    parts: Result<Vec<Result<Outcome, String>>, advect_engine::EngineError>,
) -> Result<Outcome, BenchError> {
    let parts = parts.map_err(|source| BenchError::Engine {
        bench: NAME,
        source,
    })?;
    let mut sum = Outcome::default();
    for part in parts {
        sum += part.map_err(|e| BenchError::failed(NAME, e))?;
    }
    Ok(sum)
}

/// The outcome of a Parquet file whose row groups the workers share, and the seconds it took.
fn from_parquet(path: &Path) -> Result<(Outcome, f64), BenchError> {
    let begin = Instant::now();
    let path = path.to_path_buf();
    let parts = Fabric::Threads(WORKERS).run(move |worker, context| {
        let open = || -> advect_connectors::Result<ParquetBatches> {
            let source = ParquetSource::open(&path)?;
            let groups: Vec<usize> = (context.index..source.row_group_count())
                .step_by(context.peers)
                .collect();
            source.batch_rows(records::ROWS).row_groups(&groups)?.read()
        };
        let mut batches = open().map_err(|e| e.to_string())?;
        let trouble = std::rc::Rc::new(std::cell::RefCell::new(None));
        let told = trouble.clone();
        let feed = move || match batches.next() {
            None => Next::End,
            Some(batch) => {
                let next = batch
                    .map_err(Into::into)
                    .and_then(|b| records::reports(&b, None));
                next.unwrap_or_else(|e| {
                    *told.borrow_mut() = Some(e.to_string());
                    Next::End
                })
            }
        };
        let (probe, outcome) = worker.dataflow(|scope| hourly_means(scope, feed, &Bell::default()));
        context.drive(worker, || !probe.done());
        let whole = *outcome.borrow();
        trouble.borrow_mut().take().map_or(Ok(whole), Err)
    });
    Ok((finish(parts)?, begin.elapsed().as_secs_f64()))
}

/// The windows up to which clients have come; the least is that of all.
struct Clocks {
    clients: BTreeMap<String, u64>,
    seen: usize,
}

impl Clocks {
    /// Takes note of a delivery whose first report is of `window`.
    fn advance(&mut self, origin: &str, window: Option<u64>) {
        if !self.clients.contains_key(origin) {
            self.seen += 1;
            self.clients.insert(origin.to_owned(), 0);
        }
        if let (Some(at), Some(window)) = (self.clients.get_mut(origin), window) {
            *at = window.max(*at);
        }
    }

    /// The window before which nothing comes any more.
    fn floor(&self) -> u64 {
        let least = self.clients.values().min().copied();
        least.filter(|_| self.seen == CLIENTS).unwrap_or(0)
    }
}

/// The outcome of what clients send over sockets of this machine, and the seconds it took.
fn from_clients(shares: &Arc<Vec<Vec<u8>>>) -> Result<(Outcome, f64), BenchError> {
    let failed = |e: &dyn std::fmt::Display| BenchError::failed(NAME, e);
    let bell = Bell::default();
    let ringer = bell.clone();
    let waker = Arc::new(move || ringer.ring());
    let listener = Listener::bind("127.0.0.1:0", ListenerOptions::default(), waker);
    let listener = Arc::new(listener.map_err(|e| failed(&e))?);
    let address = listener.address();
    let begin = Instant::now();
    let clients: Vec<_> = (0..shares.len())
        .map(|k| {
            let shares = Arc::clone(shares);
            std::thread::spawn(move || send(address, &shares[k]))
        })
        .collect();
    let hub = Arc::clone(&listener);
    let parts = Fabric::Threads(WORKERS).run(move |worker, context| {
        let (hub, first) = (Arc::clone(&hub), context.index == 0);
        let mut clocks = Clocks {
            clients: BTreeMap::new(),
            seen: 0,
        };
        let trouble = std::rc::Rc::new(std::cell::RefCell::new(None));
        let told = trouble.clone();
        let feed = move || {
            if !first || told.borrow().is_some() {
                return Next::End;
            }
            let Some(delivery) = hub.drain(1).pop() else {
                let ended = clocks.seen == CLIENTS && clocks.clients.is_empty();
                return if ended { Next::End } else { Next::Nothing };
            };
            let next = records::reports(&delivery.batch, None);
            let next = next.unwrap_or_else(|e| {
                *told.borrow_mut() = Some(e.to_string());
                Next::End
            });
            let Next::Reports(window, reports, bad) = next else {
                return next;
            };
            let window = reports.first().map(|_| window);
            clocks.advance(&delivery.origin, window);
            let floor = clocks.floor();
            if delivery.finished {
                clocks.clients.remove(&delivery.origin);
            }
            Next::Reports(floor, reports, bad + delivery.rejected.len() as u64)
        };
        let quiet = Bell::default();
        let bell = if first { &bell } else { &quiet };
        let (probe, outcome) = worker.dataflow(|scope| hourly_means(scope, feed, bell));
        context.drive(worker, || !probe.done());
        let whole = *outcome.borrow();
        trouble.borrow_mut().take().map_or(Ok(whole), Err)
    });
    let outcome = finish(parts)?;
    let seconds = begin.elapsed().as_secs_f64();
    for client in clients {
        let sent = client.join().map_err(|_| failed(&"a client broke off"))?;
        sent.map_err(|e| failed(&e))?;
    }
    Ok((outcome, seconds))
}

/// A client: sends its bytes, ends its side and hears the counts.
fn send(address: SocketAddr, bytes: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways give what is computed without a dataflow, to the last record and mean.
    #[test]
    fn both_ways_are_right() {
        let observations = records::observations(20_000);
        let expected = records::expected(&observations);
        assert!(expected.rejected > 100 && expected.windows > 1000);
        assert_eq!(expected.accepted + expected.rejected, 20_000);
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("a.parquet");
        records::write_parquet(&path, &observations).expect("written");
        assert_eq!(from_parquet(&path).expect("runs").0, expected);
        for arrow in [false, true] {
            let shares = records::shares(&observations, CLIENTS, arrow).expect("encoded");
            assert_eq!(from_clients(&Arc::new(shares)).expect("runs").0, expected);
        }
    }
}
