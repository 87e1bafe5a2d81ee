//! The records that are measured, and what must come of them.

use std::collections::BTreeMap;
use std::path::Path;

use advect_connectors::ipc::write_ipc_stream;
use advect_connectors::parquet::ParquetSink;
use advect_connectors::{Observation, from_batch, observation_schema, to_batch};
use advect_operators::observations::Report;
use arrow_array::RecordBatch;

use super::flow::{Next, Outcome, quality, window};

/// Rows of a batch.
pub(super) const ROWS: usize = 8192;
/// Stations that report.
const STATIONS: u64 = 2_000;
/// 2024-03-01T00:00:00Z in seconds.
const BEGIN: i64 = 1_709_251_200;
/// A day in seconds.
const DAY: i64 = 86_400;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// `n` temperatures of one day in the order of time. About one in a hundred is out of range, and
/// one station in fifty lies outside the domain.
pub(super) fn observations(n: usize) -> Vec<Observation> {
    // SplitMix64 (Steele, Lea and Flood 2014) with a fixed seed
    let mut state = 0x5eed_u64;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let one = |k: usize| {
        let station = next() % STATIONS;
        let steps = next() % 240;
        let wrong = next() % 100 == 0;
        Observation {
            time: (BEGIN + k as i64 * DAY / n as i64) * 1_000_000_000,
            latitude: if station.is_multiple_of(50) {
                10.0
            } else {
                25.0 + (station % 24) as f64
            },
            longitude: -125.0 + (station % 60) as f64,
            elevation: (!station.is_multiple_of(7)).then_some((station % 1500) as f64),
            variable: "air_temperature".into(),
            value: if wrong {
                400.0
            } else {
                250.0 + 0.25 * steps as f64
            },
            error: Some(0.5),
            station: format!("K{station:04}"),
            source: "bench".into(),
        }
    };
    (0..n).map(one).collect()
}

/// The report of an observation.
fn report(o: Observation) -> Report {
    Report {
        cycle: 0,
        station: o.station,
        order: 0,
        time: o.time.div_euclid(1_000_000_000),
        latitude: Report::encode_degrees(o.latitude),
        longitude: Report::encode_degrees(o.longitude),
        elevation: o.elevation.map(Report::encode_metres),
        value: Report::encode_value(o.value),
    }
}

/// The reports of a batch, which `floor` says are of its window or later.
pub(super) fn reports(batch: &RecordBatch, floor: Option<u64>) -> Result<Next, Failed> {
    let (good, bad) = from_batch(batch, "bench", 0)?;
    let reports: Vec<Report> = good.into_iter().map(report).collect();
    let first = reports.iter().map(|r| window(r.time)).min();
    let floor = floor.or(first).unwrap_or(0);
    Ok(Next::Reports(floor, reports, bad.len() as u64))
}

/// What must come out, computed without a dataflow.
pub(super) fn expected(observations: &[Observation]) -> Outcome {
    let quality = quality();
    let mut outcome = Outcome::default();
    let mut sums: BTreeMap<(u64, String), (i64, i64)> = BTreeMap::new();
    for o in observations {
        let r = report(o.clone());
        if quality.check(&r).is_err() {
            outcome.rejected += 1;
            continue;
        }
        let sum = sums.entry((window(r.time), r.station)).or_default();
        *sum = (sum.0 + r.value, sum.1 + 1);
    }
    for (sum, count) in sums.into_values() {
        outcome.windows += 1;
        outcome.accepted += count as u64;
        outcome.means += (sum + count / 2).div_euclid(count);
    }
    outcome
}

/// Writes the records as Parquet.
pub(super) fn write_parquet(path: &Path, observations: &[Observation]) -> Result<(), Failed> {
    let mut sink = ParquetSink::create(path, observation_schema())?;
    for some in observations.chunks(ROWS) {
        sink.write(&to_batch(some)?)?;
    }
    sink.finish()?;
    Ok(())
}

/// Writes the columns that the references need as a table of text, seconds since 1970.
pub(super) fn write_csv(path: &Path, observations: &[Observation]) -> Result<(), Failed> {
    use std::io::Write;
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(out, "time,latitude,longitude,elevation,value,station")?;
    for o in observations {
        let time = o.time / 1_000_000_000;
        // a missing height is one that passes
        let z = o.elevation.unwrap_or(0.0);
        let (lat, lon, x, s) = (o.latitude, o.longitude, o.value, &o.station);
        writeln!(out, "{time},{lat},{lon},{z},{x},{s}")?;
    }
    Ok(out.flush()?)
}

/// The bytes that each of `clients` sends: every so many-th record, in the order of time.
pub(super) fn shares(
    observations: &[Observation],
    clients: usize,
    arrow: bool,
) -> Result<Vec<Vec<u8>>, Failed> {
    let share = |client: usize| -> Result<Vec<u8>, Failed> {
        let mine = observations.iter().skip(client).step_by(clients).cloned();
        let mine: Vec<Observation> = mine.collect();
        let mut bytes = Vec::new();
        if arrow {
            let batches: Vec<RecordBatch> =
                mine.chunks(ROWS).map(to_batch).collect::<Result<_, _>>()?;
            write_ipc_stream(&mut bytes, "memory", &observation_schema(), &batches)?;
        } else {
            for o in &mine {
                serde_json::to_writer(&mut bytes, o)?;
                bytes.push(b'\n');
            }
        }
        Ok(bytes)
    };
    (0..clients).map(share).collect()
}
