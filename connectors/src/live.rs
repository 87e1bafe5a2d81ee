//! What live sources deliver, and how they call the engine.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{Float64Builder, StringBuilder, TimestampNanosecondBuilder};

use crate::error::{ConnectorError, Result};
use crate::rejected::Rejected;
use crate::schema::observation_schema;

/// Called after every delivery, from the thread of the source; typically activates an operator.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Records that came together.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The client (`address:port`) or the file they came from.
    pub origin: String,
    /// Usable observations in the order they came.
    pub batch: RecordBatch,
    /// The others.
    pub rejected: Vec<Rejected>,
    /// Whether nothing more comes from this origin. For a file: it can be marked as done.
    pub finished: bool,
}

/// One observation whose texts are borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) time: i64,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) elevation: Option<f64>,
    pub(crate) variable: &'a str,
    pub(crate) value: f64,
    pub(crate) error: Option<f64>,
    pub(crate) station: &'a str,
    pub(crate) source: &'a str,
}

/// Collects rows column by column, without a copy of its own for each text.
#[derive(Debug, Default)]
pub(crate) struct BatchBuilder {
    rows: usize,
    time: TimestampNanosecondBuilder,
    numbers: [Float64Builder; 5],
    texts: [StringBuilder; 3],
}

impl BatchBuilder {
    pub(crate) fn push(&mut self, row: &Row<'_>) {
        self.rows += 1;
        self.time.append_value(row.time);
        let [latitude, longitude, elevation, value, error] = &mut self.numbers;
        latitude.append_value(row.latitude);
        longitude.append_value(row.longitude);
        elevation.append_option(row.elevation);
        value.append_value(row.value);
        error.append_option(row.error);
        let [variable, station, source] = &mut self.texts;
        variable.append_value(row.variable);
        station.append_value(row.station);
        source.append_value(row.source);
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The rows as one batch of the observation schema; the builder is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        self.rows = 0;
        let time = self.time.finish().with_timezone("UTC");
        let [latitude, longitude, elevation, value, error] =
            self.numbers.each_mut().map(|b| Arc::new(b.finish()));
        let [variable, station, source] = self.texts.each_mut().map(|b| Arc::new(b.finish()));
        RecordBatch::try_new(
            observation_schema(),
            vec![
                Arc::new(time),
                latitude,
                longitude,
                elevation,
                variable,
                value,
                error,
                station,
                source,
            ],
        )
        .map_err(|e| ConnectorError::format("live observations", "Arrow", e, "report it"))
    }
}
