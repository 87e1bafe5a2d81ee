//! What a decoder of a whole file gives: observations in the order of time, and the rest.

use crate::rejected::Rejected;
use crate::schema::Observation;

/// One row of a table: usable or not.
pub type Row = Result<Observation, Box<Rejected>>;

/// All records of a file: `observations.len() + rejected.len()` is the number of its rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    /// Usable records by (time, station); records that tie keep the order of the file.
    pub observations: Vec<Observation>,
    /// The others, in the order of the file.
    pub rejected: Vec<Rejected>,
}

impl Decoded {
    /// Takes a record in, or its rejection.
    pub(crate) fn push(&mut self, row: Row) {
        match row {
            Ok(observation) => self.observations.push(observation),
            Err(rejected) => self.rejected.push(*rejected),
        }
    }

    /// Brings the observations into the order of event time.
    pub(crate) fn in_event_time(mut self) -> Self {
        self.observations
            .sort_by(|a, b| (a.time, a.station.as_str()).cmp(&(b.time, b.station.as_str())));
        self
    }

    /// Consecutive runs of observations of the same time step of `width` nanoseconds, for a
    /// source that plays an archive as a stream: `(start of the step, its observations)`.
    pub fn steps(&self, width: i64) -> impl Iterator<Item = (i64, &[Observation])> {
        let width = width.max(1);
        let step = move |o: &Observation| o.time.div_euclid(width);
        self.observations
            .chunk_by(move |a, b| step(a) == step(b))
            .filter_map(move |run| Some((step(run.first()?) * width, run)))
    }
}

/// The file name of a path, as the source of its records.
pub(crate) fn file_name(path: &std::path::Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}
