//! CSV tables of observations, read by a declared layout.
//!
//! The dialect is RFC 4180: a header line, fields that may be quoted, quotes doubled inside
//! quotes, line ends `\n` or `\r\n`. The reader holds one record at a time and bounds its length.
//! A row that does not fit the layout becomes a [`Rejected`] and reading goes on.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use self::record::{read_record, split};
use crate::decoded::Row;
use crate::error::{ConnectorError, Result};
use crate::rejected::{Reason, Rejected};
use crate::schema::Observation;
use crate::time::{SECOND, parse_iso};

/// How a column spells time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeText {
    /// ISO 8601.
    Iso,
    /// Whole seconds since 1970.
    UnixSeconds,
    /// Nanoseconds since 1970.
    UnixNanoseconds,
}

/// Where a text field comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// The column of this name.
    Column(String),
    /// The same text in every row.
    Constant(String),
}

/// The layout of a table: which column holds what, in which unit.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvLayout {
    /// Field separator, usually `,`.
    pub separator: u8,
    /// Column of the time and its spelling.
    pub time: (String, TimeText),
    /// Column of the latitude, degrees north.
    pub latitude: String,
    /// Column of the longitude, degrees east.
    pub longitude: String,
    /// Column of the elevation in metres, if there is one.
    pub elevation: Option<String>,
    /// CF standard name of the value.
    pub variable: Text,
    /// Column of the value.
    pub value: String,
    /// `SI value = scale · number + offset`: (1, 273.15) for degrees Celsius.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// Column of the standard deviation, in the unit of the column of the value.
    pub error: Option<String>,
    /// Name of the station.
    pub station: Text,
    /// The longest record in bytes.
    pub max_record: usize,
}

impl CsvLayout {
    /// The layout whose columns bear the names of the observation schema, SI units, ISO times.
    pub fn canonical() -> Self {
        let column = |name: &str| name.to_string();
        Self {
            separator: b',',
            time: (column("time"), TimeText::Iso),
            latitude: column("latitude"),
            longitude: column("longitude"),
            elevation: Some(column("elevation")),
            variable: Text::Column(column("variable")),
            value: column("value"),
            scale: 1.0,
            offset: 0.0,
            error: Some(column("error")),
            station: Text::Column(column("station")),
            max_record: 1 << 16,
        }
    }

    /// Temperatures of a METAR table (columns `Unix_time`, `ICAO`, `Temp` in °C and so on).
    pub fn metar_temperature() -> Self {
        Self {
            time: ("Unix_time".into(), TimeText::UnixSeconds),
            latitude: "Latitude".into(),
            longitude: "Longitude".into(),
            elevation: Some("Elev".into()),
            variable: Text::Constant("air_temperature".into()),
            value: "Temp".into(),
            offset: 273.15,
            error: None,
            station: Text::Column("ICAO".into()),
            ..Self::canonical()
        }
    }
}

/// The rows of a CSV table, one at a time.
#[derive(Debug)]
pub struct CsvRows<R> {
    reader: R,
    place: String,
    layout: CsvLayout,
    index: Index,
    line: u64,
    record: Vec<u8>,
    done: bool,
}

/// Positions of the columns in the header.
#[derive(Debug)]
struct Index {
    width: usize,
    time: usize,
    latitude: usize,
    longitude: usize,
    elevation: Option<usize>,
    variable: Option<usize>,
    value: usize,
    error: Option<usize>,
    station: Option<usize>,
}

/// Opens a CSV file. Errors if it cannot be opened or its header lacks a declared column.
pub fn open_csv(path: impl AsRef<Path>, layout: CsvLayout) -> Result<CsvRows<BufReader<File>>> {
    let path = path.as_ref();
    let file = File::open(path).map_err(ConnectorError::io("open", path, "check the path"))?;
    CsvRows::new(
        BufReader::with_capacity(1 << 18, file),
        &path.display().to_string(),
        layout,
    )
}

impl<R: BufRead> CsvRows<R> {
    /// Reads the header of a table. Errors if it lacks a column that the layout declares.
    pub fn new(mut reader: R, place: &str, layout: CsvLayout) -> Result<Self> {
        let mut record = Vec::new();
        let mut line = 0;
        let header = read_record(&mut reader, &mut record, layout.max_record, &mut line);
        let fields = match header {
            Ok(true) => split(&record, layout.separator),
            Ok(false) => None,
            Err(e) => return Err(ConnectorError::format(place, "CSV", e, "check the file")),
        };
        let header: Vec<String> = fields.unwrap_or_default();
        let find = |name: &String| {
            header.iter().position(|h| h.trim() == name).ok_or_else(|| {
                ConnectorError::MissingColumn {
                    place: place.to_string(),
                    column: name.clone(),
                    found: header.join(", "),
                }
            })
        };
        let text = |t: &Text| match t {
            Text::Column(name) => find(name).map(Some),
            Text::Constant(_) => Ok(None),
        };
        let index = Index {
            width: header.len(),
            time: find(&layout.time.0)?,
            latitude: find(&layout.latitude)?,
            longitude: find(&layout.longitude)?,
            elevation: layout.elevation.as_ref().map(find).transpose()?,
            variable: text(&layout.variable)?,
            value: find(&layout.value)?,
            error: layout.error.as_ref().map(find).transpose()?,
            station: text(&layout.station)?,
        };
        Ok(Self {
            reader,
            place: place.to_string(),
            layout,
            index,
            line,
            record,
            done: false,
        })
    }

    fn parse(&self, at: &str) -> Row {
        let refuse =
            |reason, detail: String| Box::new(Rejected::raw(&self.record, reason, detail, at));
        let malformed = |detail: &str| refuse(Reason::Malformed, detail.to_string());
        let fields = split(&self.record, self.layout.separator)
            .ok_or_else(|| malformed("not UTF-8, or a quote that is not closed"))?;
        let i = &self.index;
        if fields.len() != i.width {
            let detail = format!("{} fields, the header has {}", fields.len(), i.width);
            return Err(refuse(Reason::Schema, detail));
        }
        let number = |k: usize, empty: Reason, what: &str| {
            let text = fields[k].trim();
            if text.is_empty() {
                return Err(refuse(empty, format!("{what} is empty")));
            }
            text.parse::<f64>()
                .map_err(|_| malformed(&format!("{what} `{text}` is no number")))
        };
        let optional = |k: Option<usize>, what: &str| match k {
            Some(k) if !fields[k].trim().is_empty() => number(k, Reason::Schema, what).map(Some),
            _ => Ok(None),
        };
        let text = |k: Option<usize>, source: &Text| match (k, source) {
            (Some(k), _) => fields[k].trim().to_string(),
            (None, Text::Constant(c) | Text::Column(c)) => c.clone(),
        };
        let clock = fields[i.time].trim();
        let time = match self.layout.time.1 {
            TimeText::Iso => parse_iso(clock),
            TimeText::UnixSeconds => clock.parse().ok().and_then(|s: i64| s.checked_mul(SECOND)),
            TimeText::UnixNanoseconds => clock.parse().ok(),
        };
        let observation = Observation {
            time: time.ok_or_else(|| malformed(&format!("time `{clock}` cannot be read")))?,
            latitude: number(i.latitude, Reason::Position, "latitude")?,
            longitude: number(i.longitude, Reason::Position, "longitude")?,
            elevation: optional(i.elevation, "elevation")?,
            variable: text(i.variable, &self.layout.variable),
            value: self.layout.scale * number(i.value, Reason::MissingValue, "value")?
                + self.layout.offset,
            error: optional(i.error, "error")?.map(|e| e * self.layout.scale.abs()),
            station: text(i.station, &self.layout.station),
            source: self.place.clone(),
        };
        if observation.station.is_empty() || observation.variable.is_empty() {
            return Err(refuse(
                Reason::Schema,
                "station or variable is empty".into(),
            ));
        }
        match observation.check() {
            Ok(()) => Ok(observation),
            Err((reason, detail)) => Err(Box::new(Rejected::observation(
                observation,
                reason,
                detail,
                at,
            ))),
        }
    }
}

impl<R: BufRead> Iterator for CsvRows<R> {
    /// The outer error is the end of the source (the disk), the inner one a bad row.
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let first = self.line + 1;
            let limit = self.layout.max_record;
            let at = format!("{}:{first}", self.place);
            match read_record(&mut self.reader, &mut self.record, limit, &mut self.line) {
                Ok(false) => self.done = true,
                Ok(true) if self.record.is_empty() => (),
                Ok(true) if self.record.len() > limit => {
                    let detail = format!("record is longer than {limit} bytes");
                    let r = Rejected::raw(&self.record, Reason::Malformed, detail, at);
                    return Some(Ok(Err(Box::new(r))));
                }
                Ok(true) => return Some(Ok(self.parse(&at))),
                Err(e) => {
                    self.done = true;
                    return Some(Err(ConnectorError::format(at, "CSV", e, "check the disk")));
                }
            }
        }
        None
    }
}

mod record;
#[cfg(test)]
mod tests;
