//! The one table of observations: what a row is, and how it travels as Arrow.
//!
//! | column | type | unit |
//! |---|---|---|
//! | `time` | timestamp (ns, UTC) | when it was measured |
//! | `latitude`, `longitude` | f64 | degrees north, degrees east |
//! | `elevation` | f64, nullable | m above sea level |
//! | `variable` | utf8 | CF standard name, `air_temperature` |
//! | `value` | f64 | SI unit of the variable (K, Pa, m s-1) |
//! | `error` | f64, nullable | standard deviation, unit of `value` |
//! | `station`, `source` | utf8 | who measured, who delivered |

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::error::{ConnectorError, Result};
use crate::rejected::{Reason, Rejected};

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub time: i64,
    /// Degrees north, −90 to 90.
    pub latitude: f64,
    /// Degrees east, −180 to 360.
    pub longitude: f64,
    /// Metres above sea level.
    pub elevation: Option<f64>,
    /// CF standard name.
    pub variable: String,
    /// Measured value in the SI unit of the variable.
    pub value: f64,
    /// Standard deviation of the measurement error, in the unit of `value`.
    pub error: Option<f64>,
    /// Who measured.
    pub station: String,
    /// Which file or connection delivered it.
    pub source: String,
}

impl Observation {
    /// Says whether the record can be used at all: position on the globe, value finite,
    /// error positive. Plausibility of the value is for quality control, not for a decoder.
    pub fn check(&self) -> Result<(), (Reason, String)> {
        check(
            self.latitude,
            self.longitude,
            self.elevation,
            self.value,
            self.error,
        )
    }
}

/// [`Observation::check`] on the numbers alone.
pub(crate) fn check(
    latitude: f64,
    longitude: f64,
    elevation: Option<f64>,
    value: f64,
    error: Option<f64>,
) -> Result<(), (Reason, String)> {
    if !(-90.0..=90.0).contains(&latitude) {
        return Err((
            Reason::Position,
            format!("latitude {latitude} is not in -90..=90"),
        ));
    }
    if !(-180.0..=360.0).contains(&longitude) {
        return Err((
            Reason::Position,
            format!("longitude {longitude} is not in -180..=360"),
        ));
    }
    if !value.is_finite() {
        return Err((Reason::MissingValue, format!("value is {value}")));
    }
    if elevation.is_some_and(|z| !z.is_finite()) {
        return Err((
            Reason::Range,
            "elevation is not finite; leave it out".into(),
        ));
    }
    if let Some(e) = error.filter(|e| !(e.is_finite() && *e > 0.0)) {
        return Err((
            Reason::Range,
            format!("error {e} is not a positive standard deviation"),
        ));
    }
    Ok(())
}

/// The Arrow schema of observations (see the table of this module).
pub fn observation_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("time", utc, false),
            Field::new("latitude", DataType::Float64, false),
            Field::new("longitude", DataType::Float64, false),
            Field::new("elevation", DataType::Float64, true),
            Field::new("variable", DataType::Utf8, false),
            Field::new("value", DataType::Float64, false),
            Field::new("error", DataType::Float64, true),
            Field::new("station", DataType::Utf8, false),
            Field::new("source", DataType::Utf8, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Observations as one batch of [`observation_schema`], rows in the given order.
pub fn to_batch(observations: &[Observation]) -> Result<RecordBatch> {
    fn number(obs: &[Observation], get: impl Fn(&Observation) -> f64) -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(obs.iter().map(get)))
    }
    fn text<'a>(obs: &'a [Observation], get: impl Fn(&'a Observation) -> &'a String) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(obs.iter().map(get)))
    }
    let o = observations;
    let time = TimestampNanosecondArray::from_iter_values(o.iter().map(|o| o.time));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(time.with_timezone("UTC")),
        number(o, |o| o.latitude),
        number(o, |o| o.longitude),
        Arc::new(o.iter().map(|o| o.elevation).collect::<Float64Array>()),
        text(o, |o| &o.variable),
        number(o, |o| o.value),
        Arc::new(o.iter().map(|o| o.error).collect::<Float64Array>()),
        text(o, |o| &o.station),
        text(o, |o| &o.source),
    ];
    RecordBatch::try_new(observation_schema(), columns)
        .map_err(|e| ConnectorError::format("observations", "Arrow", e, "report it"))
}

/// The nine columns of a batch, cast to the types of [`observation_schema`].
struct Columns {
    time: Int64Array,
    numbers: [ArrayRef; 5],
    texts: [ArrayRef; 3],
}

const NUMBERS: [&str; 5] = ["latitude", "longitude", "elevation", "value", "error"];
const TEXTS: [&str; 3] = ["variable", "station", "source"];

/// Reads a batch back. Columns are found by name; any timestamp unit, any number and any text
/// type (also dictionary-encoded) is accepted. `elevation` and `error` may be absent.
///
/// Rows that fail [`Observation::check`] or hold a null where none is allowed come back as
/// [`Rejected`] at `place:row`, with rows counted from `first_row + 1`; rows out + rejected =
/// rows in. Errors if a column is missing or has a type that cannot be read.
pub fn from_batch(
    batch: &RecordBatch,
    place: &str,
    first_row: u64,
) -> Result<(Vec<Observation>, Vec<Rejected>)> {
    let columns = columns(batch, place)?;
    let time = &columns.time;
    let [latitude, longitude, elevation, value, error] = columns
        .numbers
        .each_ref()
        .map(|c| c.as_primitive::<Float64Type>());
    let [variable, station, source] = columns.texts.each_ref().map(|c| c.as_string::<i32>());
    let mut observations = Vec::with_capacity(batch.num_rows());
    let mut rejected = Vec::new();
    let number = |c: &Float64Array, i: usize| (!c.is_null(i)).then(|| c.value(i));
    for i in 0..batch.num_rows() {
        let text = |c: &StringArray| if c.is_null(i) { "" } else { c.value(i) }.to_string();
        let observation = Observation {
            time: if time.is_null(i) { 0 } else { time.value(i) },
            latitude: number(latitude, i).unwrap_or(f64::NAN),
            longitude: number(longitude, i).unwrap_or(f64::NAN),
            elevation: number(elevation, i),
            variable: text(variable),
            value: number(value, i).unwrap_or(f64::NAN),
            error: number(error, i),
            station: text(station),
            source: text(source),
        };
        let verdict = if time.is_null(i) {
            Err((
                Reason::Schema,
                "time is null or not in 1677..2262".to_string(),
            ))
        } else if observation.variable.is_empty() {
            Err((Reason::Schema, "variable is null or empty".to_string()))
        } else if observation.station.is_empty() {
            Err((Reason::Schema, "station is null or empty".to_string()))
        } else {
            observation.check()
        };
        match verdict {
            Ok(()) => observations.push(observation),
            Err((reason, detail)) => {
                let place = format!("{place}:{}", first_row + i as u64 + 1);
                rejected.push(Rejected::observation(observation, reason, detail, place));
            }
        }
    }
    Ok((observations, rejected))
}

fn columns(batch: &RecordBatch, place: &str) -> Result<Columns> {
    let find = |name: &str| -> Result<Option<&ArrayRef>> {
        match batch.column_by_name(name) {
            Some(column) => Ok(Some(column)),
            None if matches!(name, "elevation" | "error") => Ok(None),
            None => Err(ConnectorError::MissingColumn {
                place: place.to_string(),
                column: name.to_string(),
                found: names(&batch.schema()),
            }),
        }
    };
    let cast = |name: &str, to: &DataType, fits: fn(&DataType) -> bool| -> Result<ArrayRef> {
        let Some(column) = find(name)? else {
            return Ok(arrow_array::new_null_array(to, batch.num_rows()));
        };
        let fitting = if fits(column.data_type()) {
            arrow_cast::cast(column, to).ok()
        } else {
            None
        };
        fitting.ok_or_else(|| ConnectorError::ColumnType {
            place: place.to_string(),
            column: name.to_string(),
            found: column.data_type().to_string(),
            expected: if name == "time" {
                "Timestamp".into()
            } else {
                to.to_string()
            },
        })
    };
    let ticks = cast("time", &DataType::Int64, |t| {
        matches!(t, DataType::Timestamp(..))
    })?;
    let scale = match find("time")?.map(|c| c.data_type()) {
        Some(DataType::Timestamp(TimeUnit::Second, _)) => 1_000_000_000,
        Some(DataType::Timestamp(TimeUnit::Millisecond, _)) => 1_000_000,
        Some(DataType::Timestamp(TimeUnit::Microsecond, _)) => 1000,
        _ => 1,
    };
    // What overflows becomes null, and so the row is rejected.
    let ticks = ticks.as_primitive::<Int64Type>();
    let time = ticks.unary_opt::<_, Int64Type>(|t: i64| t.checked_mul(scale));
    let mut numbers = Vec::with_capacity(5);
    for name in NUMBERS {
        numbers.push(cast(name, &DataType::Float64, |t| {
            t.is_numeric() || *t == DataType::Null
        })?);
    }
    let mut texts = Vec::with_capacity(3);
    for name in TEXTS {
        if let Some(longest) = find(name)?
            .and_then(shared_text)
            .filter(|&n| n > MAX_SHARED_TEXT)
        {
            let what = format!("longest text of column `{name}`");
            let want = format!("at most {MAX_SHARED_TEXT} bytes");
            return Err(ConnectorError::invalid(place, what, longest, want));
        }
        texts.push(cast(name, &DataType::Utf8, is_text)?);
    }
    let short = |_: Vec<ArrayRef>| ConnectorError::invalid(place, "columns", "fewer", "nine");
    Ok(Columns {
        time,
        numbers: numbers.try_into().map_err(short)?,
        texts: texts.try_into().map_err(short)?,
    })
}

/// The longest text that many rows may share.
const MAX_SHARED_TEXT: usize = 1024;

/// The longest text of a column whose rows can share one: dictionaries and views. A few bytes a
/// row could otherwise swell to any size when each row gets its own copy.
fn shared_text(column: &ArrayRef) -> Option<usize> {
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().lengths().max().map(|n| n as usize),
        DataType::Dictionary(_, _) => {
            let values = column.as_any_dictionary_opt()?.values();
            match values.data_type() {
                DataType::Utf8 => values
                    .as_string::<i32>()
                    .iter()
                    .flatten()
                    .map(str::len)
                    .max(),
                _ => values
                    .as_string_opt::<i64>()?
                    .iter()
                    .flatten()
                    .map(str::len)
                    .max(),
            }
        }
        _ => None,
    }
}

/// Whether a column of this type holds text.
pub(crate) fn is_text(t: &DataType) -> bool {
    match t {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => {
            matches!(**values, DataType::Utf8 | DataType::LargeUtf8)
        }
        _ => false,
    }
}

/// The column names of a schema, for messages.
pub(crate) fn names(schema: &Schema) -> String {
    schema
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
pub(crate) mod tests;
