//! Records that are not used, each with its reason and the place it came from.
//!
//! No record is dropped in silence: a decoder, a listener or a quality check that does not pass
//! a record on makes a [`Rejected`] of it, and [`RejectedSink`] keeps them in a Parquet file.
//! For every source, records read = observations passed on + records rejected.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::error::{ConnectorError, Result};
use crate::parquet::ParquetSink;
use crate::schema::Observation;

/// Why a record is not used. The names are part of the file format and do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The record lacks a field or has one of another type.
    Schema,
    /// The bytes cannot be parsed.
    Malformed,
    /// The measured value is absent or not finite.
    MissingValue,
    /// A field lies outside the range that its definition allows.
    Range,
    /// The position is absent or not on the globe.
    Position,
    /// The same station, time and variable came before.
    Duplicate,
    /// The value is too far from the first guess or from climate.
    GrossError,
    /// The value disagrees with its neighbours.
    Buddy,
    /// The station is on the block list.
    BlockList,
    /// The record came after its window had closed.
    Late,
    /// Another observation of the same cell and window was kept.
    Thinned,
    /// More records came than are taken.
    Limit,
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Reason; 12] = [
        Reason::Schema,
        Reason::Malformed,
        Reason::MissingValue,
        Reason::Range,
        Reason::Position,
        Reason::Duplicate,
        Reason::GrossError,
        Reason::Buddy,
        Reason::BlockList,
        Reason::Late,
        Reason::Thinned,
        Reason::Limit,
    ];

    /// The stable name, as in files and answers: `gross_error`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Schema => "schema",
            Reason::Malformed => "malformed",
            Reason::MissingValue => "missing_value",
            Reason::Range => "range",
            Reason::Position => "position",
            Reason::Duplicate => "duplicate",
            Reason::GrossError => "gross_error",
            Reason::Buddy => "buddy",
            Reason::BlockList => "block_list",
            Reason::Late => "late",
            Reason::Thinned => "thinned",
            Reason::Limit => "limit",
        }
    }

    /// The reason of this stable name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was rejected: a whole observation, or the text it would have been read from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A record that could be read.
    Observation(Observation),
    /// The raw text of one that could not; long texts are cut at [`Rejected::RAW_LIMIT`] bytes.
    Raw(String),
}

/// One record that is not used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// The record.
    pub item: Item,
    /// Why, as a stable name.
    pub reason: Reason,
    /// Why, in words, with the offending value.
    pub detail: String,
    /// Where it came from: `file:row` or `client:line`, counted from 1.
    pub place: String,
}

impl Rejected {
    /// The most bytes of a raw text that are kept.
    pub const RAW_LIMIT: usize = 1024;

    /// Rejects a readable observation.
    pub fn observation(
        observation: Observation,
        reason: Reason,
        detail: impl Into<String>,
        place: impl Into<String>,
    ) -> Self {
        let item = Item::Observation(observation);
        Self {
            item,
            reason,
            detail: detail.into(),
            place: place.into(),
        }
    }

    /// Rejects a text that could not be read; bytes that are not UTF-8 are replaced.
    pub fn raw(
        text: &[u8],
        reason: Reason,
        detail: impl Into<String>,
        place: impl Into<String>,
    ) -> Self {
        let kept = &text[..text.len().min(Self::RAW_LIMIT)];
        let item = Item::Raw(String::from_utf8_lossy(kept).into_owned());
        Self {
            item,
            reason,
            detail: detail.into(),
            place: place.into(),
        }
    }
}

/// The columns of a file of rejected records. Positions and values are null for raw texts.
pub fn rejected_schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("reason", DataType::Utf8, false),
        Field::new("detail", DataType::Utf8, false),
        Field::new("place", DataType::Utf8, false),
        Field::new("time", utc, true),
        Field::new("latitude", DataType::Float64, true),
        Field::new("longitude", DataType::Float64, true),
        Field::new("variable", DataType::Utf8, true),
        Field::new("value", DataType::Float64, true),
        Field::new("station", DataType::Utf8, true),
        Field::new("source", DataType::Utf8, true),
        Field::new("raw", DataType::Utf8, true),
    ]))
}

/// A batch of rejected records in the columns of [`rejected_schema`].
pub fn rejected_to_batch(rejected: &[Rejected]) -> Result<RecordBatch> {
    fn obs(r: &Rejected) -> Option<&Observation> {
        match &r.item {
            Item::Observation(o) => Some(o),
            Item::Raw(_) => None,
        }
    }
    fn text<'a>(
        rejected: &'a [Rejected],
        get: impl Fn(&'a Rejected) -> Option<&'a str>,
    ) -> ArrayRef {
        Arc::new(rejected.iter().map(get).collect::<StringArray>())
    }
    fn number(rejected: &[Rejected], get: impl Fn(&Observation) -> f64) -> ArrayRef {
        Arc::new(
            rejected
                .iter()
                .map(|r| obs(r).map(&get))
                .collect::<Float64Array>(),
        )
    }
    let time: TimestampNanosecondArray = rejected.iter().map(|r| obs(r).map(|o| o.time)).collect();
    let columns: Vec<ArrayRef> = vec![
        text(rejected, |r| Some(r.reason.name())),
        text(rejected, |r| Some(&r.detail)),
        text(rejected, |r| Some(&r.place)),
        Arc::new(time.with_timezone("UTC")),
        number(rejected, |o| o.latitude),
        number(rejected, |o| o.longitude),
        text(rejected, |r| obs(r).map(|o| o.variable.as_str())),
        number(rejected, |o| o.value),
        text(rejected, |r| obs(r).map(|o| o.station.as_str())),
        text(rejected, |r| obs(r).map(|o| o.source.as_str())),
        text(rejected, |r| match &r.item {
            Item::Raw(raw) => Some(raw.as_str()),
            Item::Observation(_) => None,
        }),
    ];
    RecordBatch::try_new(rejected_schema(), columns).map_err(|e| {
        ConnectorError::format("rejected records", "Arrow", e, "report it with the records")
    })
}

/// Keeps rejected records in a Parquet file and counts them by reason.
#[derive(Debug)]
pub struct RejectedSink {
    sink: ParquetSink,
    counts: BTreeMap<Reason, u64>,
}

impl RejectedSink {
    /// Creates the file. Errors if it cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let sink = ParquetSink::create(path, rejected_schema())?;
        Ok(Self {
            sink,
            counts: BTreeMap::new(),
        })
    }

    /// Appends records. Errors if the disk refuses them; then none of them is counted.
    pub fn write(&mut self, rejected: &[Rejected]) -> Result<()> {
        if rejected.is_empty() {
            return Ok(());
        }
        self.sink.write(&rejected_to_batch(rejected)?)?;
        for r in rejected {
            *self.counts.entry(r.reason).or_default() += 1;
        }
        Ok(())
    }

    /// How many records were written, by reason.
    pub fn counts(&self) -> &BTreeMap<Reason, u64> {
        &self.counts
    }

    /// Closes the file and returns the counts; they add up to the rows of the file.
    pub fn finish(self) -> Result<BTreeMap<Reason, u64>> {
        self.sink.finish()?;
        Ok(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reason keeps its name through text, and no two share one.
    #[test]
    fn names_are_stable_and_distinct() {
        for r in Reason::ALL {
            assert_eq!(Reason::from_name(r.name()), Some(r));
            assert_eq!(serde_json::to_string(&r).unwrap(), format!("\"{r}\""));
        }
        assert_eq!(Reason::from_name("nonsense"), None);
    }

    /// The counts add up to the rows of the file, whatever the mixture.
    #[test]
    fn counts_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rejected.parquet");
        let mut sink = RejectedSink::create(&path).unwrap();
        let obs = Observation {
            value: f64::NAN,
            ..crate::schema::tests::sample(3)
        };
        for k in 0..50_usize {
            let reason = Reason::ALL[k % Reason::ALL.len()];
            let a = Rejected::observation(obs.clone(), reason, "nan", format!("f:{k}"));
            let b = Rejected::raw(&[0xff; 5000], Reason::Malformed, "not UTF-8", "c:1");
            sink.write(&[a, b]).unwrap();
        }
        let counts = sink.finish().unwrap();
        let rows: usize = crate::parquet::ParquetSource::open(&path)
            .unwrap()
            .read()
            .unwrap()
            .map(|b| b.unwrap().num_rows())
            .sum();
        assert_eq!(rows, 100);
        assert_eq!(counts.values().sum::<u64>(), 100);
    }
}
