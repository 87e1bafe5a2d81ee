//! Newline-delimited JSON: one observation a line.
//!
//! ```json
//! {"time":"2026-03-25T06:00:00Z","latitude":48.1,"longitude":11.6,"elevation":515,
//!  "variable":"air_temperature","value":281.4,"error":0.5,"station":"10865"}
//! ```
//!
//! (on one line). `time` may also be an integer, nanoseconds since 1970. `elevation`, `error` and
//! `source` may be absent; other fields are refused, so that a misspelt one is noticed.

use std::borrow::Cow;
use std::io::BufRead;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::error::{ConnectorError, Result};
use crate::live::{BatchBuilder, Delivery, Row};
use crate::rejected::{Reason, Rejected};
use crate::schema::check;
use crate::time::parse_iso;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    time: Instant,
    latitude: Option<f64>,
    longitude: Option<f64>,
    elevation: Option<f64>,
    #[serde(borrow)]
    variable: Cow<'a, str>,
    value: Option<f64>,
    error: Option<f64>,
    #[serde(borrow)]
    station: Cow<'a, str>,
    #[serde(borrow, default)]
    source: Cow<'a, str>,
}

/// A time as ISO text or as nanoseconds.
struct Instant(i64);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Spelling;
        impl Visitor<'_> for Spelling {
            type Value = Instant;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a time (ISO 8601 text, or integer nanoseconds since 1970)")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Instant, E> {
                parse_iso(text).map(Instant).ok_or_else(|| {
                    E::custom(format!(
                        "time `{text}` is not ISO 8601 between 1677 and 2262"
                    ))
                })
            }
            fn visit_i64<E: Error>(self, ns: i64) -> Result<Instant, E> {
                Ok(Instant(ns))
            }
            fn visit_u64<E: Error>(self, ns: u64) -> Result<Instant, E> {
                i64::try_from(ns)
                    .map(Instant)
                    .map_err(|_| E::custom("time is beyond 2262"))
            }
        }
        deserializer.deserialize_any(Spelling)
    }
}

/// Parses one line (without its end) into the builder; `source` stands in for an absent one.
///
/// Errors with the reason and its detail if the line is not a usable observation.
pub(crate) fn parse_line(
    line: &[u8],
    source: &str,
    into: &mut BatchBuilder,
) -> Result<(), (Reason, String)> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => (Reason::Schema, e.to_string()),
        _ => (Reason::Malformed, e.to_string()),
    })?;
    let (Some(latitude), Some(longitude)) = (line.latitude, line.longitude) else {
        return Err((Reason::Position, "latitude or longitude is missing".into()));
    };
    let value = line
        .value
        .ok_or_else(|| (Reason::MissingValue, "value is missing".to_string()))?;
    if line.station.is_empty() || line.variable.is_empty() {
        return Err((Reason::Schema, "station or variable is empty".into()));
    }
    check(latitude, longitude, line.elevation, value, line.error)?;
    into.push(&Row {
        time: line.time.0,
        latitude,
        longitude,
        elevation: line.elevation,
        variable: &line.variable,
        value,
        error: line.error,
        station: &line.station,
        source: if line.source.is_empty() {
            source
        } else {
            &line.source
        },
    });
    Ok(())
}

/// Whether a line holds nothing; such lines are no records.
pub(crate) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Reads a file of lines in deliveries of at most `rows` records; stops early if `each` says no.
///
/// Lines longer than `max_line` bytes are rejected. Errors if the file cannot be read.
pub fn read_ndjson(
    path: impl AsRef<Path>,
    rows: usize,
    max_line: usize,
    mut each: impl FnMut(Delivery) -> bool,
) -> Result<()> {
    let path = path.as_ref();
    let file =
        std::fs::File::open(path).map_err(ConnectorError::io("open", path, "check the path"))?;
    let mut reader = std::io::BufReader::with_capacity(1 << 18, file);
    let origin = crate::decoded::file_name(path);
    let (mut builder, mut rejected) = (BatchBuilder::default(), Vec::new());
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        let more = take_line(&mut reader, &mut line, max_line).map_err(ConnectorError::io(
            "read",
            path,
            "check the disk",
        ))?;
        if !more || builder.rows() + rejected.len() >= rows.max(1) {
            let rejected = std::mem::take(&mut rejected);
            let batch = builder.finish()?;
            let delivery = Delivery {
                origin: origin.clone(),
                batch,
                rejected,
                finished: false,
            };
            if !each(delivery) || !more {
                return Ok(());
            }
        }
        number += 1;
        if is_blank(&line) {
            continue;
        }
        let parsed = if line.len() > max_line {
            Err((
                Reason::Malformed,
                format!("line is longer than {max_line} bytes"),
            ))
        } else {
            parse_line(&line, &origin, &mut builder)
        };
        if let Err((reason, detail)) = parsed {
            rejected.push(Rejected::raw(
                &line,
                reason,
                detail,
                format!("{origin}:{number}"),
            ));
        }
    }
}

/// Reads one line without its end, cut to `limit + 1` bytes; `false` at the end of the input.
fn take_line(reader: &mut impl BufRead, line: &mut Vec<u8>, limit: usize) -> std::io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = buffer.iter().position(|&b| b == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        let room = (limit + 1).saturating_sub(line.len());
        line.extend_from_slice(&piece[..piece.len().min(room)]);
        let used = piece.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{from_batch, tests::sample};
    use proptest::prelude::*;

    /// An observation written by serde is read back as itself.
    #[test]
    fn lines_are_the_json_of_observations() {
        let mut builder = BatchBuilder::default();
        let obs: Vec<_> = (0..100).map(sample).collect();
        for o in &obs {
            parse_line(
                serde_json::to_string(o).unwrap().as_bytes(),
                "s",
                &mut builder,
            )
            .unwrap();
        }
        let (back, bad) = from_batch(&builder.finish().unwrap(), "x", 0).unwrap();
        assert!(bad.is_empty());
        assert_eq!(back, obs);
    }

    /// Each fault has its reason, and words that name it.
    #[test]
    fn faults_have_reasons() {
        let good =
            r#"{"time":1,"latitude":1,"longitude":2,"variable":"v","value":3,"station":"S"}"#;
        for (from, to, reason, word) in [
            (
                "1,\"latitude\"",
                "\"noon\",\"latitude\"",
                Reason::Schema,
                "noon",
            ),
            ("\"latitude\":1", "\"latitude\":91", Reason::Position, "91"),
            (
                "\"latitude\":1",
                "\"latitude\":null",
                Reason::Position,
                "missing",
            ),
            (
                "\"value\":3",
                "\"value\":null",
                Reason::MissingValue,
                "value",
            ),
            ("\"value\"", "\"valeu\"", Reason::Schema, "valeu"),
            ("}", "", Reason::Malformed, "EOF"),
            ("\"S\"", "\"\"", Reason::Schema, "station"),
            (
                "\"value\":3",
                "\"value\":3,\"error\":-1",
                Reason::Range,
                "-1",
            ),
        ] {
            let line = good.replace(from, to);
            let mut builder = BatchBuilder::default();
            let (got, detail) = parse_line(line.as_bytes(), "s", &mut builder).unwrap_err();
            assert!(
                got == reason && detail.contains(word),
                "{line}: {got} {detail}"
            );
            assert_eq!(builder.rows(), 0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Mutated files lose no line.
        #[test]
        fn nothing_is_lost(at in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 0..9), rows in 1..9_usize) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.ndjson");
            let mut text: Vec<u8> = (0..8)
                .flat_map(|k| format!("{}\n", serde_json::to_string(&sample(k)).unwrap()).into_bytes())
                .collect();
            for (x, b) in at {
                let i = (x * text.len() as f64) as usize;
                text[i] = b;
            }
            let lines = text.split(|&b| b == b'\n').filter(|l| !is_blank(l)).count();
            std::fs::write(&path, text).unwrap();
            let mut got = 0;
            read_ndjson(&path, rows, 4096, |d| {
                got += d.batch.num_rows() + d.rejected.len();
                true
            }).unwrap();
            prop_assert_eq!(got, lines);
        }
    }
}
