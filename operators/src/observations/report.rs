//! One report as exact integers: it can be compared, counted and retracted without a rounding.

use serde::{Deserialize, Serialize};

/// One report of one scalar, at a station.
///
/// Positions are in 10⁻⁵ degrees, heights in decimetres, values in thousandths of the SI unit, so
/// that two copies of a report are equal to the bit wherever they were made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Report {
    /// Cycle that the report belongs to.
    pub cycle: u64,
    /// Station identifier.
    pub station: String,
    /// Position in the source: an earlier report of a station and cycle wins over a later one
    /// unless the later one corrects it.
    pub order: u64,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub time: i64,
    /// Latitude, 10⁻⁵ degrees north.
    pub latitude: i32,
    /// Longitude, 10⁻⁵ degrees east.
    pub longitude: i32,
    /// Height of the station, dm above sea level; `None` if it was not reported.
    pub elevation: Option<i32>,
    /// Value, 10⁻³ of the SI unit (mK).
    pub value: i64,
}

impl Report {
    /// Degrees north.
    pub fn latitude(&self) -> f64 {
        f64::from(self.latitude) * 1e-5
    }

    /// Degrees east.
    pub fn longitude(&self) -> f64 {
        f64::from(self.longitude) * 1e-5
    }

    /// Metres above sea level.
    pub fn elevation(&self) -> Option<f64> {
        self.elevation.map(|z| f64::from(z) * 0.1)
    }

    /// Value in the SI unit.
    pub fn value(&self) -> f64 {
        self.value as f64 * 1e-3
    }

    /// Degrees as stored.
    pub fn encode_degrees(degrees: f64) -> i32 {
        (degrees * 1e5).round() as i32
    }

    /// Metres as stored.
    pub fn encode_metres(metres: f64) -> i32 {
        (metres * 10.0).round() as i32
    }

    /// A value in the SI unit as stored.
    pub fn encode_value(value: f64) -> i64 {
        (value * 1e3).round() as i64
    }
}
