//! Quality control as filters with reasons.
//!
//! A filter never drops: it says what is wrong, and the pipeline keeps the report with the reason.

use std::collections::BTreeSet;
use std::fmt;

use super::Report;

/// What is wrong with a report; the names are stable and stand in the file of rejected reports.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// The station is on the block list.
    BlockList,
    /// The value is outside what the variable can be.
    Range,
    /// The position is outside the domain.
    Domain,
    /// The height is missing or impossible.
    Elevation,
    /// Another report of the station and cycle was taken.
    Duplicate,
    /// It came after its cycle was closed for good.
    Late,
    /// It is too far from the background.
    GrossError,
    /// It is too far from what its neighbours say.
    Buddy,
    /// It is kept for verification.
    Withheld,
}

impl Fault {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Fault::BlockList => "block_list",
            Fault::Range => "range",
            Fault::Domain => "domain",
            Fault::Elevation => "elevation",
            Fault::Duplicate => "duplicate",
            Fault::Late => "late",
            Fault::GrossError => "gross_error",
            Fault::Buddy => "buddy",
            Fault::Withheld => "withheld",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Filters that need nothing but the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// Least and largest value, SI unit.
    pub range: (f64, f64),
    /// South, north, west, east, degrees.
    pub domain: (f64, f64, f64, f64),
    /// Least and largest height, m.
    pub heights: (f64, f64),
    /// Stations that are never used.
    pub block_list: BTreeSet<String>,
}

impl Quality {
    /// The first fault of a report and the words for it, in the order of the fields of
    /// [`Fault`]; `Ok` if there is none.
    pub fn check(&self, report: &Report) -> Result<(), (Fault, String)> {
        if self.block_list.contains(&report.station) {
            return Err((
                Fault::BlockList,
                format!("station {} is blocked", report.station),
            ));
        }
        let value = report.value();
        if !(self.range.0..=self.range.1).contains(&value) {
            let (low, high) = self.range;
            return Err((Fault::Range, format!("{value} is not in {low}..{high}")));
        }
        let (lat, lon) = (report.latitude(), report.longitude());
        let (south, north, west, east) = self.domain;
        if !((south..=north).contains(&lat) && (west..=east).contains(&lon)) {
            let place = format!("{lat} N, {lon} E");
            return Err((
                Fault::Domain,
                format!("{place} is not in {south}..{north} N, {west}..{east} E"),
            ));
        }
        let (low, high) = self.heights;
        match report.elevation() {
            Some(z) if !(low..=high).contains(&z) => Err((
                Fault::Elevation,
                format!("height {z} m is not in {low}..{high} m"),
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a departure is a gross error: beyond `limit` times the expected departure
/// $\sqrt{\sigma_b^2 + \sigma_o^2}$.
pub fn gross(departure: f64, background_variance: f64, error_variance: f64, limit: f64) -> bool {
    let expected = limit * (background_variance + error_variance).sqrt();
    // what cannot be compared is no good either
    departure.abs() > expected || departure.is_nan() || expected.is_nan()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            cycle: 0,
            station: "DEN".into(),
            order: 0,
            time: 0,
            latitude: 3_975_000,
            longitude: -10_487_000,
            elevation: Some(16_100),
            value: 283_150,
        }
    }

    fn quality() -> Quality {
        Quality {
            range: (213.15, 323.15),
            domain: (20.0, 55.0, -130.0, -60.0),
            heights: (-100.0, 5000.0),
            block_list: ["BAD".to_owned()].into(),
        }
    }

    /// Each filter finds its own fault and lets the rest pass.
    #[test]
    fn every_fault_is_found() {
        let q = quality();
        assert_eq!(q.check(&report()), Ok(()));
        let fault = |change: &dyn Fn(&mut Report)| {
            let mut r = report();
            change(&mut r);
            q.check(&r).map_err(|(f, _)| f)
        };
        assert_eq!(fault(&|r| r.station = "BAD".into()), Err(Fault::BlockList));
        assert_eq!(fault(&|r| r.value = 679_150), Err(Fault::Range));
        assert_eq!(fault(&|r| r.longitude = -79_000_000), Err(Fault::Domain));
        assert_eq!(
            fault(&|r| r.elevation = Some(999_990)),
            Err(Fault::Elevation)
        );
        assert_eq!(fault(&|r| r.elevation = None), Ok(()));
    }

    /// A departure that is not a number is a gross error.
    #[test]
    fn gross_error_of_nan() {
        assert!(gross(f64::NAN, 1.0, 1.0, 5.0));
        assert!(gross(7.2, 1.0, 1.0, 5.0));
        assert!(!gross(-7.0, 1.0, 1.0, 5.0));
    }
}
