//! Hourly station temperatures of the Integrated Surface Database, as prepared in Parquet.
//!
//! A table with the columns `station`, `latitude`, `longitude`, `elevation`, `time` (a timestamp
//! of any unit, UTC) and `air_temperature` in kelvin. The values are unfiltered.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};

use crate::decoded::{Decoded, file_name};
use crate::error::{ConnectorError, Result};
use crate::parquet::ParquetSource;
use crate::schema::{from_batch, is_text};

const COLUMNS: [&str; 6] = [
    "station",
    "latitude",
    "longitude",
    "elevation",
    "time",
    "air_temperature",
];

/// Reads a file of station temperatures in the order of event time.
///
/// Rejected are rows without a usable position, value, time or station; see
/// [`from_batch`] for the reasons. Errors if the file cannot be read or lacks a column.
pub fn read_isd(path: impl AsRef<Path>) -> Result<Decoded> {
    let path = path.as_ref();
    let source = ParquetSource::open(path)?;
    source.require("station", "a text", is_text)?;
    source.require("time", "a timestamp", |t| {
        matches!(t, DataType::Timestamp(..))
    })?;
    for column in ["latitude", "longitude", "elevation", "air_temperature"] {
        source.require(column, "a number", DataType::is_numeric)?;
    }
    let name = file_name(path);
    let mut decoded = Decoded::default();
    let mut first = 0;
    for batch in source.columns(&COLUMNS)?.batch_rows(65_536).read()? {
        let batch = canonical(&batch?, &name)?;
        let (good, bad) = from_batch(&batch, &name, first)?;
        first += batch.num_rows() as u64;
        decoded.observations.extend(good);
        decoded.rejected.extend(bad);
    }
    Ok(decoded.in_event_time())
}

/// The table under the names of the observation schema: one variable, one source.
fn canonical(batch: &RecordBatch, source: &str) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = if field.name() == "air_temperature" {
            "value"
        } else {
            field.name()
        };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(Arc::clone(column));
    }
    for (name, text) in [("variable", "air_temperature"), ("source", source)] {
        let texts = StringArray::from_iter_values(std::iter::repeat_n(text, batch.num_rows()));
        fields.push(Field::new(name, DataType::Utf8, false));
        columns.push(Arc::new(texts));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|e| ConnectorError::format(source, "Parquet", e, "write the file again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejected::Reason;
    use arrow_array::{Float32Array, Float64Array, TimestampMicrosecondArray};
    use proptest::prelude::*;

    type Raw = (Option<String>, [Option<f64>; 3], Option<i64>, Option<f32>);

    fn file(rows: &[Raw]) -> (tempfile::TempDir, std::path::PathBuf) {
        let number = |k: usize| -> ArrayRef {
            Arc::new(rows.iter().map(|r| r.1[k]).collect::<Float64Array>())
        };
        let station: StringArray = rows.iter().map(|r| r.0.clone()).collect();
        let time: TimestampMicrosecondArray = rows.iter().map(|r| r.2).collect();
        let value: Float32Array = rows.iter().map(|r| r.3).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("station", Arc::new(station) as ArrayRef, true),
            ("latitude", number(0), true),
            ("longitude", number(1), true),
            ("elevation", number(2), true),
            ("time", Arc::new(time), true),
            ("air_temperature", Arc::new(value), true),
        ])
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("isd.parquet");
        let mut sink = crate::parquet::ParquetSink::create(&path, batch.schema()).unwrap();
        sink.write(&batch).unwrap();
        sink.finish().unwrap();
        (dir, path)
    }

    /// Every row of the two real years is passed on, in the order of time.
    #[test]
    fn the_real_years_add_up() {
        let Some(data) = std::env::var_os("ADVECT_DATA") else {
            eprintln!("skipped: ADVECT_DATA is not set");
            return;
        };
        let got = read_isd(Path::new(&data).join("weather/isd_na_2013_2014.parquet")).unwrap();
        assert_eq!(got.observations.len() + got.rejected.len(), 280_031);
        assert!(got.observations.is_sorted_by_key(|o| o.time));
        assert!(
            got.observations.len() > 280_000,
            "{:?}",
            got.rejected.first()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Rows in = observations + rejected, and a null is never a number.
        #[test]
        fn nothing_is_lost(rows in prop::collection::vec((
            prop::option::of("[0-9]{0,6}"),
            prop::array::uniform3(prop::option::of(prop_oneof![-400.0..400.0_f64, any::<f64>()])),
            prop::option::of(any::<i64>()),
            prop::option::of(prop_oneof![200.0..320.0_f32, any::<f32>()]),
        ), 0..30)) {
            let (_dir, path) = file(&rows);
            let got = read_isd(path).unwrap();
            prop_assert_eq!(got.observations.len() + got.rejected.len(), rows.len());
            for r in &got.rejected {
                prop_assert!(Reason::ALL.contains(&r.reason));
            }
        }
    }
}
