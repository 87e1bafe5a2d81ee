//! Surface aviation observations of one day, as archived with all their faults.
//!
//! A Parquet table with the columns `station`, `report_time` (`1995 03 17 23:49 UTC`),
//! `latitude`, `longitude`, `elevation` and `temperature` in degrees Celsius; others are not
//! read. Temperatures become `air_temperature` in kelvin. Implausible ones (406 °C) pass: a
//! decoder judges whether a record can be read, quality control whether to believe it.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, Float64Array, RecordBatch, StringArray};
use arrow_schema::DataType;

use crate::decoded::{Decoded, Row, file_name};
use crate::error::{ConnectorError, Result};
use crate::parquet::ParquetSource;
use crate::rejected::{Reason, Rejected};
use crate::schema::{Observation, is_text};
use crate::time::parse_report_time;

/// The freezing point of water in kelvin: 0 °C.
const CELSIUS: f64 = 273.15;
const TEXTS: [&str; 2] = ["station", "report_time"];
const NUMBERS: [&str; 4] = ["latitude", "longitude", "elevation", "temperature"];

/// Reads a file of surface aviation observations in the order of event time.
///
/// Rejected are rows without position ([`Reason::Position`]), without temperature
/// ([`Reason::MissingValue`]) and with a time that cannot be read ([`Reason::Malformed`]).
/// Errors if the file cannot be read or lacks a column.
pub fn read_sao(path: impl AsRef<Path>) -> Result<Decoded> {
    let path = path.as_ref();
    let source = ParquetSource::open(path)?;
    for column in TEXTS {
        source.require(column, "a text", is_text)?;
    }
    for column in NUMBERS {
        source.require(column, "a number", DataType::is_numeric)?;
    }
    let mut decoded = Decoded::default();
    let mut row = 0;
    let wanted: Vec<&str> = TEXTS.into_iter().chain(NUMBERS).collect();
    for batch in source.columns(&wanted)?.read()? {
        let batch = batch?;
        let table = Table::of(&batch, &path.display().to_string())?;
        for i in 0..batch.num_rows() {
            row += 1;
            decoded.push(table.row(i, &file_name(path), row));
        }
    }
    Ok(decoded.in_event_time())
}

/// The columns of a batch.
struct Table {
    texts: Vec<StringArray>,
    numbers: Vec<Float64Array>,
}

impl Table {
    fn of(batch: &RecordBatch, place: &str) -> Result<Self> {
        let cast = |name: &str, to: &DataType| {
            let column = batch.column_by_name(name).ok_or_else(|| {
                let (place, column) = (place.to_string(), name.to_string());
                let found = crate::schema::names(&batch.schema());
                ConnectorError::MissingColumn {
                    place,
                    column,
                    found,
                }
            })?;
            arrow_cast::cast(column, to).map_err(|_| ConnectorError::ColumnType {
                place: place.to_string(),
                column: name.to_string(),
                found: column.data_type().to_string(),
                expected: to.to_string(),
            })
        };
        let texts = TEXTS
            .iter()
            .map(|name| Ok(cast(name, &DataType::Utf8)?.as_string::<i32>().clone()))
            .collect::<Result<_>>()?;
        let numbers = NUMBERS
            .iter()
            .map(|name| {
                Ok(cast(name, &DataType::Float64)?
                    .as_primitive::<Float64Type>()
                    .clone())
            })
            .collect::<Result<_>>()?;
        Ok(Self { texts, numbers })
    }

    fn row(&self, i: usize, source: &str, row: u64) -> Row {
        let text = |k: usize| {
            if self.texts[k].is_null(i) {
                ""
            } else {
                self.texts[k].value(i)
            }
        };
        let number = |k: usize| {
            let column = &self.numbers[k];
            (!column.is_null(i))
                .then(|| column.value(i))
                .filter(|x| !x.is_nan())
        };
        let [station, clock] = [text(0), text(1)];
        let [latitude, longitude, elevation, temperature] = [0, 1, 2, 3].map(number);
        let place = format!("{source}:{row}");
        let time = parse_report_time(clock);
        let observation = Observation {
            time: time.unwrap_or_default(),
            latitude: latitude.unwrap_or(f64::NAN),
            longitude: longitude.unwrap_or(f64::NAN),
            elevation,
            variable: "air_temperature".into(),
            value: temperature.map_or(f64::NAN, |t| t + CELSIUS),
            error: None,
            station: station.to_string(),
            source: source.to_string(),
        };
        if time.is_none() {
            let raw = format!("{station},{clock},{latitude:?},{longitude:?},{temperature:?}");
            let detail = format!("report_time `{clock}` is not `YYYY MM DD HH:MM UTC`");
            let rejected = Rejected::raw(raw.as_bytes(), Reason::Malformed, detail, place);
            return Err(Box::new(rejected));
        }
        let verdict = if station.is_empty() {
            Err((Reason::Schema, "station is null or empty".to_string()))
        } else if latitude.is_none() || longitude.is_none() {
            Err((Reason::Position, "the position is missing".to_string()))
        } else if temperature.is_none() {
            Err((
                Reason::MissingValue,
                "the temperature is missing".to_string(),
            ))
        } else {
            observation.check()
        };
        match verdict {
            Ok(()) => Ok(observation),
            Err((reason, detail)) => Err(Box::new(Rejected::observation(
                observation,
                reason,
                detail,
                place,
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Float32Array, LargeStringArray};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    type Raw = (Option<String>, Option<String>, [Option<f32>; 4]);

    fn file(rows: &[Raw]) -> (tempfile::TempDir, std::path::PathBuf) {
        let number = |k: usize| -> ArrayRef {
            Arc::new(rows.iter().map(|r| r.2[k]).collect::<Float32Array>())
        };
        let station: LargeStringArray = rows.iter().map(|r| r.0.clone()).collect();
        let clock: LargeStringArray = rows.iter().map(|r| r.1.clone()).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("station", Arc::new(station) as ArrayRef, true),
            ("report_time", Arc::new(clock), true),
            ("latitude", number(0), true),
            ("longitude", number(1), true),
            ("elevation", number(2), true),
            ("temperature", number(3), true),
        ])
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sao.parquet");
        let mut sink = crate::parquet::ParquetSink::create(&path, batch.schema()).unwrap();
        sink.write(&batch).unwrap();
        sink.finish().unwrap();
        (dir, path)
    }

    /// Celsius becomes kelvin, and records come in the order of time, whatever that of the file.
    #[test]
    fn order_and_unit() {
        let row = |s: &str, t: &str| {
            let numbers = [Some(10.0), Some(-20.0), None, Some(-40.0)];
            (Some(s.to_string()), Some(t.to_string()), numbers)
        };
        let (_dir, path) = file(&[
            row("B", "1995 03 18 01:00 UTC"),
            row("A", "1995 03 17 23:49 UTC"),
        ]);
        let got = read_sao(path).unwrap();
        let stations: Vec<_> = got
            .observations
            .iter()
            .map(|o| o.station.as_str())
            .collect();
        assert_eq!(stations, ["A", "B"]);
        assert!((got.observations[0].value - 233.15).abs() < 1e-12);
        assert_eq!(got.steps(crate::time::HOUR).count(), 2);
    }

    /// Every row of the real day is passed on or rejected, with the reasons of its faults.
    #[test]
    fn the_real_day_adds_up() {
        let Some(data) = std::env::var_os("ADVECT_DATA") else {
            eprintln!("skipped: ADVECT_DATA is not set");
            return;
        };
        let got = read_sao(Path::new(&data).join("weather/sao_1995-03-18.parquet")).unwrap();
        assert_eq!(got.observations.len() + got.rejected.len(), 47_468);
        assert!(got.observations.is_sorted_by_key(|o| o.time));
        let mut reasons = BTreeMap::new();
        got.rejected
            .iter()
            .for_each(|r| *reasons.entry(r.reason).or_insert(0) += 1);
        eprintln!(
            "{} observations, rejected {reasons:?}",
            got.observations.len()
        );
        assert!(reasons[&Reason::Position] >= 12_867, "{reasons:?}");
        assert!(reasons[&Reason::MissingValue] > 0, "{reasons:?}");
        assert!(got.observations.len() > 31_600);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Rows in = observations + rejected, whatever the cells hold.
        #[test]
        fn nothing_is_lost(rows in prop::collection::vec((
            prop::option::of("[A-Z]{0,3}"),
            prop::option::of(prop_oneof!["1995 0[1-9] [012][0-9] [01][0-9]:[0-5][0-9] UTC", ".{0,24}"]),
            prop::array::uniform4(prop::option::of(prop_oneof![-400.0..400.0_f32, any::<f32>()])),
        ), 0..30)) {
            let (_dir, path) = file(&rows);
            let got = read_sao(path).unwrap();
            prop_assert_eq!(got.observations.len() + got.rejected.len(), rows.len());
            prop_assert!(got.observations.iter().all(|o| o.check().is_ok()));
        }
    }
}
