//! Damaged inputs through every decoder: no panic comes out, memory stays bounded, and every
//! record is in the output or in the file of rejected records.
//!
//! Each decoder gets [`CASES`] damaged copies of small files, the same ones in every run. The
//! law of each case: what the decoder passes on and what it rejects add up to the records that
//! an independent count finds; a file that cannot be read to its end is rejected by name. All
//! rejected records of a test go to one Parquet file whose rows are counted in the end.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use advect_connectors::ipc::{read_ipc, write_ipc_file};
use advect_connectors::listener::{Listener, ListenerOptions};
use advect_connectors::netcdf::{NetcdfFile, ReadPath, Slab, isolate};
use advect_connectors::parquet::ParquetSource;
use advect_connectors::{
    A3mReader, ConnectorError, Decoded, Reason, Rejected, RejectedSink, decode_file,
    observation_schema, read_isd, read_pdb, read_sao,
};
use arrow_array::{RecordBatch, StringArray, TimestampMicrosecondArray};

#[path = "decoders/memory.rs"]
mod memory;
#[path = "decoders/mutate.rs"]
mod mutate;
#[path = "decoders/seeds.rs"]
mod seeds;

use mutate::{Random, mutate};
use seeds::{
    alignment, batch, classic, lines, netcdf4, parquet, reports, stream, structure, table,
};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Damaged copies of each decoder's files.
const CASES: u64 = 10_000;
/// The cases of HDF5 that run with every test; a second test has the others.
const HDF5_CASES: u64 = 1_000;
/// The most bytes that all tests of this file may have in use at once.
const MAX_MEMORY: usize = 256 << 20;

/// The damaged copies of some files, one after the other under one name.
struct Cases {
    directory: tempfile::TempDir,
    sink: RejectedSink,
    rejected: u64,
    accepted: u64,
    broken: u64,
}

impl Cases {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sink = RejectedSink::create(directory.path().join("rejected.parquet")).unwrap();
        let (rejected, accepted, broken) = (0, 0, 0);
        Self {
            directory,
            sink,
            rejected,
            accepted,
            broken,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Calls `each` with the path and the bytes of all [`CASES`].
    fn run(&mut self, name: &str, seeds: &[Vec<u8>], each: impl FnMut(&mut Self, &Path, &[u8])) {
        self.run_some(name, seeds, 0..CASES, each);
    }

    /// Calls `each` with the path and the bytes of these cases.
    fn run_some(
        &mut self,
        name: &str,
        seeds: &[Vec<u8>],
        cases: Range<u64>,
        mut each: impl FnMut(&mut Self, &Path, &[u8]),
    ) {
        let path = self.path(name);
        for case in cases {
            let mut random = Random(case ^ (name.len() as u64) << 32);
            let seed = &seeds[case as usize % seeds.len()];
            let other = &seeds[random.below(seeds.len())];
            let bytes = mutate(seed, other, &mut random);
            // a new file: writing over one waits for the disk
            _ = std::fs::remove_file(&path);
            std::fs::write(&path, &bytes).unwrap();
            each(self, &path, &bytes);
        }
    }

    /// Takes the records of a case in.
    fn take(&mut self, accepted: usize, rejected: &[Rejected]) {
        self.accepted += accepted as u64;
        self.rejected += rejected.len() as u64;
        self.sink.write(rejected).unwrap();
    }

    /// Rejects a file that could not be read to its end, as live sources do.
    fn reject_file(&mut self, error: &ConnectorError) {
        let text = error.to_string();
        assert!(!text.is_empty());
        self.broken += 1;
        self.take(
            0,
            &[Rejected::raw(b"case", Reason::Malformed, text, "case")],
        );
    }

    /// Everything rejected is in the file, and nothing took too much memory.
    fn finish(self, what: &str) {
        let counts = self.sink.finish().unwrap();
        assert_eq!(counts.values().sum::<u64>(), self.rejected);
        let file = self.directory.path().join("rejected.parquet");
        assert_eq!(ParquetSource::open(file).unwrap().rows(), self.rejected);
        let peak = memory::peak();
        eprintln!(
            "{what}: {} accepted, {} rejected, {} files not readable to the end, peak {} MiB",
            self.accepted,
            self.rejected,
            self.broken,
            peak >> 20
        );
        assert!(
            self.accepted > 0 && self.rejected > 0,
            "the damage has no effect"
        );
        assert!(peak < MAX_MEMORY, "{peak} bytes at once");
    }
}

/// Runs the cases of a table format; `count` finds the records of a file that can be read whole.
fn tables(name: &str, seeds: &[Vec<u8>], count: impl Fn(&Path, &[u8]) -> usize) {
    let mut cases = Cases::new();
    cases.run(name, seeds, |cases, path, bytes| {
        let mut read = 0;
        let mut each = |d: advect_connectors::Delivery| {
            read += d.batch.num_rows() + d.rejected.len();
            cases.take(d.batch.num_rows(), &d.rejected);
            true
        };
        match decode_file(path, 64, &mut each) {
            Ok(()) => assert_eq!(read, count(path, bytes)),
            Err(error) => cases.reject_file(&error),
        }
    });
    cases.finish(name);
}

/// Newline-delimited JSON: one record for each line that is not blank.
#[test]
fn ndjson() {
    let seeds = [lines(12), lines(1), lines(30)];
    tables("case.ndjson", &seeds, |_, bytes| {
        let blank = |l: &&[u8]| l.iter().all(u8::is_ascii_whitespace);
        bytes.split(|&b| b == b'\n').filter(|l| !blank(l)).count()
    });
}

/// CSV: one record for each line end outside quotes, without the header and empty lines.
#[test]
fn csv() {
    tables("case.csv", &[table(12), table(1), table(30)], |_, bytes| {
        let (mut quoted, mut records) = (false, vec![Vec::new()]);
        for &b in bytes {
            quoted ^= b == b'"';
            match records.last_mut() {
                Some(record) if b != b'\n' || quoted => record.push(b),
                _ => records.push(Vec::new()),
            }
        }
        let filled = |r: &&Vec<u8>| !r.is_empty() && *r != b"\r";
        records.iter().skip(1).filter(filled).count()
    });
}

/// Parquet: as many records as its batches have rows.
#[test]
fn parquet_tables() {
    let dir = tempfile::tempdir().unwrap();
    let seeds = [12, 1, 300].map(|n| parquet(&dir.path().join("seed"), &batch(n)));
    tables("case.parquet", &seeds, |path, _| {
        let batches = ParquetSource::open(path).unwrap().read().unwrap();
        batches.map(|b| b.unwrap().num_rows()).sum()
    });
}

fn ipc_rows(path: &Path, _: &[u8]) -> usize {
    let mut rows = 0;
    read_ipc(path, |batch| rows += batch.num_rows()).unwrap();
    rows
}

/// Arrow IPC files.
#[test]
fn ipc_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed");
    let seeds = [12, 1, 300].map(|n| {
        write_ipc_file(&path, &observation_schema(), &[batch(n), batch(2)]).unwrap();
        std::fs::read(&path).unwrap()
    });
    tables("case.arrow", &seeds, ipc_rows);
}

/// Arrow IPC streams on disk.
#[test]
fn ipc_streams() {
    tables(
        "case.arrows",
        &[stream(12), stream(1), stream(100)],
        ipc_rows,
    );
}

/// Runs the cases of an archive's reader.
fn archive(
    name: &str,
    seed: &RecordBatch,
    read: impl Fn(&Path) -> Result<Decoded, ConnectorError>,
) {
    let dir = tempfile::tempdir().unwrap();
    let small = parquet(&dir.path().join("seed"), &seed.slice(0, 3));
    let seeds = [parquet(&dir.path().join("seed"), seed), small];
    let mut cases = Cases::new();
    cases.run(name, &seeds, |cases, path, _| match read(path) {
        Ok(decoded) => {
            let batches = ParquetSource::open(path).unwrap().read().unwrap();
            let rows: usize = batches.map(|b| b.unwrap().num_rows()).sum();
            assert_eq!(decoded.observations.len() + decoded.rejected.len(), rows);
            assert!(decoded.observations.iter().all(|o| o.check().is_ok()));
            cases.take(decoded.observations.len(), &decoded.rejected);
        }
        Err(error) => cases.reject_file(&error),
    });
    cases.finish(name);
}

/// The archive of surface aviation observations.
#[test]
fn sao() {
    let clock = |k: usize| Some(format!("1995 03 18 {:02}:00 UTC", k % 24));
    let times: StringArray = (0..40).map(clock).collect();
    let seed = reports(("report_time", Arc::new(times)), "temperature", 40);
    archive("sao", &seed, |path| read_sao(path));
}

/// The archive of hourly station temperatures.
#[test]
fn isd() {
    let time = |k: i64| Some(1_400_000_000_000_000 + k * 3_600_000_000);
    let times: TimestampMicrosecondArray = (0..40).map(time).collect();
    let seed = reports(("time", Arc::new(times)), "air_temperature", 40);
    archive("isd", &seed, |path| read_isd(path));
}

/// Alignments: one record for each line that begins with `>`, and all rows have the columns of the query.
#[test]
fn a3m() {
    let mut cases = Cases::new();
    let seeds = [alignment(12), alignment(1), alignment(30)];
    cases.run("case.a3m", &seeds, |cases, path, bytes| {
        let (mut rows, mut rejected) = (Vec::new(), Vec::new());
        for row in A3mReader::open(path).unwrap() {
            match row {
                Ok(Ok(row)) => rows.push(row),
                Ok(Err(bad)) => rejected.push(*bad),
                Err(error) => return cases.reject_file(&error),
            }
        }
        let columns = rows[0].letters.len();
        let fits = |r: &advect_connectors::AlignedRow| {
            r.letters.len() == columns && r.inserted.len() == columns
        };
        assert!(rows.iter().all(fits));
        let heads = bytes.split(|&b| b == b'\n').filter(|l| l.starts_with(b">"));
        assert_eq!(rows.len() + rejected.len(), heads.count());
        cases.take(rows.len(), &rejected);
    });
    cases.finish("a3m");
}

/// Structures: one residue for each run of lines of an atom CA with the same number, in the first chain of the first
/// model, at a position that is a number.
#[test]
fn pdb() {
    let mut cases = Cases::new();
    let seeds = [structure(12), structure(1), structure(40)];
    cases.run("case.pdb", &seeds, |cases, path, bytes| {
        let residues = match read_pdb(path, 1 << 20) {
            Ok(residues) => residues,
            Err(error) => return cases.reject_file(&error),
        };
        let model = bytes.split(|&b| b == b'\n');
        let model = model.take_while(|line| !line.starts_with(b"ENDMDL"));
        let alpha = |line: &&[u8]| {
            let atom = line.starts_with(b"ATOM  ");
            let modified = line.starts_with(b"HETATM") && line.get(17..20) == Some(b"MSE");
            line.get(12..16) == Some(b" CA ") && (atom || modified)
        };
        let mut places: Vec<&[u8]> = model.filter(alpha).map(|line| &line[21..27]).collect();
        let chain = places[0][0];
        places.retain(|place| place[0] == chain);
        places.dedup();
        assert_eq!(residues.len(), places.len());
        let finite = |r: &advect_connectors::Residue| r.alpha.iter().all(|x| x.is_finite());
        assert!(residues.iter().all(finite));
        assert!(residues.iter().all(|r| r.letter.is_ascii_uppercase()));
        cases.take(residues.len(), &[]);
    });
    cases.finish("pdb");
}

/// Everything that can be asked of a file of arrays: an answer of the right length, or an error.
fn arrays(cases: &mut Cases, path: &Path) {
    let file = match NetcdfFile::open(path) {
        Ok(file) => file.with_limit(16 << 20),
        Err(error) => return cases.reject_file(&error),
    };
    for (name, variable) in file.variables() {
        let all = Slab::all(variable);
        for by in [ReadPath::Fastest, ReadPath::Library] {
            match file.read_by(name, &all, by) {
                Ok(values) => {
                    assert_eq!(values.len(), all.count.iter().product::<usize>());
                    cases.accepted += 1;
                }
                Err(error) => cases.reject_file(&error),
            }
        }
        if variable
            .text("units")
            .is_some_and(|u| u.contains(" since "))
        {
            _ = file.read_times(name);
        }
    }
}

/// Cases of netCDF-4 with and without chunks and filters, on two threads.
fn hdf5(cases: Range<u64>) {
    apart();
    let seeds = netcdf4();
    let middle = cases.start.midpoint(cases.end);
    std::thread::scope(|scope| {
        for half in [cases.start..middle, middle..cases.end] {
            scope.spawn(|| {
                let mut cases = Cases::new();
                cases.run_some("case.nc", &seeds, half, |cases, path, _| {
                    arrays(cases, path)
                });
                cases.finish("netCDF-4");
            });
        }
    });
}

/// netCDF-4, the first cases: each has a child process, so all of them take minutes.
#[test]
fn netcdf_hdf5() {
    hdf5(0..HDF5_CASES);
}

/// netCDF-4, the other cases.
#[test]
#[ignore = "minutes; run it with `cargo test --release -p advect-tests --test decoders -- --ignored`"]
fn netcdf_hdf5_long() {
    hdf5(HDF5_CASES..CASES);
}

/// Starts children of this test at [`child`].
fn apart() {
    isolate(&["child", "--exact", "--nocapture"]).unwrap();
}

/// In a child process: serves the parent. Elsewhere it does nothing.
#[test]
fn child() {
    apart();
}

/// Classic netCDF, with and without a record dimension.
#[test]
fn netcdf_classic() {
    let mut cases = Cases::new();
    let seeds = [classic(true), classic(false)];
    cases.run("case.cdf", &seeds, |cases, path, _| arrays(cases, path));
    cases.finish("classic netCDF");
}

/// Receives until a client is done: (accepted, rejected).
fn collect(listener: &Listener, woken: &Receiver<()>, cases: &mut Cases) -> (u64, u64) {
    let mut sum = (0, 0);
    loop {
        woken
            .recv_timeout(Duration::from_secs(30))
            .expect("the listener is alive");
        for d in listener.drain(usize::MAX) {
            sum.0 += d.batch.num_rows() as u64;
            sum.1 += d.rejected.len() as u64;
            cases.take(d.batch.num_rows(), &d.rejected);
            if d.finished {
                return sum;
            }
        }
    }
}

/// The listener: every line and every batch that came whole is counted, and each client is told.
#[test]
fn listener() {
    let (wake, woken) = channel();
    let waker = Arc::new(move || _ = wake.send(()));
    let listener = Listener::bind("127.0.0.1:0", ListenerOptions::default(), waker).unwrap();
    let seeds = [lines(12), stream(12), lines(1), stream(1)];
    let mut cases = Cases::new();
    let mut total = (0, 0);
    cases.run("case.tcp", &seeds, |cases, _, bytes| {
        let mut stream = TcpStream::connect(listener.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        // The listener may end the connection before it took everything.
        _ = stream
            .write_all(bytes)
            .and_then(|()| stream.shutdown(Shutdown::Write));
        let (good, bad) = collect(&listener, &woken, cases);
        total = (total.0 + good, total.1 + bad);
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer);
        let stats = listener.stats();
        assert_eq!((stats.accepted, stats.rejected), total);
        if bytes.first() != Some(&0xff) {
            let blank = |l: &&[u8]| l.iter().all(u8::is_ascii_whitespace);
            let lines = bytes.split(|&b| b == b'\n').filter(|l| !blank(l)).count();
            assert_eq!(good + bad, lines as u64);
            let last = format!("{{\"accepted\":{good},\"rejected\":{bad}}}\n");
            assert!(
                answer.ends_with(last.as_bytes()),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    });
    cases.finish("listener");
}
