//! Times of data files as nanoseconds since 1970-01-01T00:00:00Z.
//!
//! Three spellings are read: ISO 8601 (`2026-03-25T06:00:00Z`, a missing zone is UTC), the
//! report times of surface aviation archives (`1995 03 17 23:49 UTC`) and the offsets of the CF
//! conventions, section 4.4 (`hours since 2013-01-01 00:00:00`).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Nanoseconds of one second.
pub const SECOND: i64 = 1_000_000_000;
/// Nanoseconds of one hour.
pub const HOUR: i64 = 3600 * SECOND;

/// Parses an ISO 8601 instant. A text without zone is UTC, a date alone is its midnight.
///
/// Returns `None` if it cannot be parsed or lies outside 1677..2262, where nanoseconds overflow.
pub fn parse_iso(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return i64::try_from(instant.as_nanosecond()).ok();
    }
    civil_ns(text.trim_end_matches(" UTC").parse().ok()?)
}

/// Parses `YYYY MM DD HH:MM UTC`, the report time of surface aviation archives.
pub fn parse_report_time(text: &str) -> Option<i64> {
    let mut words = text.split_ascii_whitespace();
    let (y, m, d) = (words.next()?, words.next()?, words.next()?);
    let (hour, minute) = words.next()?.split_once(':')?;
    if words.next() != Some("UTC") || words.next().is_some() {
        return None;
    }
    // `i16::from_str` takes a sign; a report never has one.
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if ![y, m, d, hour, minute].into_iter().all(digits) {
        return None;
    }
    let (y, m, d): (i16, i8, i8) = (y.parse().ok()?, m.parse().ok()?, d.parse().ok()?);
    let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
    civil_ns(DateTime::new(y, m, d, hour, minute, 0, 0).ok()?)
}

fn civil_ns(civil: DateTime) -> Option<i64> {
    let instant = TimeZone::UTC.to_timestamp(civil).ok()?;
    i64::try_from(instant.as_nanosecond()).ok()
}

/// A time axis of the CF conventions: `value * unit + epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CfTime {
    /// Nanoseconds of one unit.
    pub unit: i64,
    /// Nanoseconds since 1970 of the reference date.
    pub epoch: i64,
}

impl CfTime {
    /// Parses `"<unit> since <date>"`. Days to nanoseconds are read; months and years are not,
    /// because their length is not fixed. `calendar` must be a Gregorian one (or absent).
    ///
    /// Errors in words that name what was found.
    pub fn parse(units: &str, calendar: Option<&str>) -> Result<Self, String> {
        let calendar = calendar.unwrap_or("standard").trim().to_ascii_lowercase();
        if !matches!(
            calendar.as_str(),
            "standard" | "gregorian" | "proleptic_gregorian"
        ) {
            return Err(format!(
                "calendar `{calendar}` has no instants; convert to standard"
            ));
        }
        let (unit, epoch) = units
            .split_once(" since ")
            .ok_or_else(|| format!("units `{units}` are not `<unit> since <date>`"))?;
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "days" | "day" | "d" => 24 * HOUR,
            "hours" | "hour" | "hr" | "hrs" | "h" => HOUR,
            "minutes" | "minute" | "min" | "mins" => 60 * SECOND,
            "seconds" | "second" | "sec" | "secs" | "s" => SECOND,
            "milliseconds" | "millisecond" | "msec" | "msecs" | "ms" => 1_000_000,
            "microseconds" | "microsecond" | "us" => 1000,
            "nanoseconds" | "nanosecond" | "ns" => 1,
            other => return Err(format!("unit `{other}` has no fixed length; use hours")),
        };
        let epoch = parse_epoch(epoch)
            .ok_or_else(|| format!("reference date `{epoch}` is not ISO 8601"))?;
        Ok(Self { unit, epoch })
    }

    /// The instant of an integer offset, if it fits.
    pub fn instant(&self, offset: i64) -> Option<i64> {
        offset.checked_mul(self.unit)?.checked_add(self.epoch)
    }

    /// The instant of a fractional offset, rounded to the nearest nanosecond, if it fits.
    pub fn instant_f64(&self, offset: f64) -> Option<i64> {
        if offset.fract() == 0.0 && offset.abs() < 9e15 {
            return self.instant(offset as i64);
        }
        let ns = (offset * self.unit as f64).round();
        (ns.abs() < 9.2e18)
            .then_some(ns as i64)?
            .checked_add(self.epoch)
    }
}

/// Reference dates come as `2013-01-01 00:00:00`, `1900-1-1 0:0:0.0`, with or without zone.
fn parse_epoch(text: &str) -> Option<i64> {
    if let Some(ns) = parse_iso(text) {
        return Some(ns);
    }
    let text = text.trim().trim_end_matches('Z').trim_end_matches(" UTC");
    let (date, clock) = text.split_once([' ', 'T']).unwrap_or((text, "0:0:0"));
    let mut date = date.splitn(3, '-');
    let (y, m, d) = (date.next()?, date.next()?, date.next()?);
    let mut clock = clock.split(':');
    let mut part = || clock.next().map_or(Some(0.0), |s| s.parse::<f64>().ok());
    let (h, min, s) = (part()?, part()?, part()?);
    let day = DateTime::new(
        y.parse().ok()?,
        m.parse().ok()?,
        d.parse().ok()?,
        0,
        0,
        0,
        0,
    )
    .ok()?;
    let seconds = h * 3600.0 + min * 60.0 + s;
    (0.0..=86400.0)
        .contains(&seconds)
        .then(|| civil_ns(day))?
        .and_then(|ns| ns.checked_add((seconds * 1e9) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The three spellings of one instant are one number.
    #[test]
    fn spellings_agree() {
        let ns = parse_iso("1995-03-17T23:49:00Z").unwrap();
        assert_eq!(parse_report_time("1995 03 17 23:49 UTC"), Some(ns));
        assert_eq!(parse_iso("1995-03-18 01:49:00+02:00"), Some(ns));
        let cf = CfTime::parse("minutes since 1995-03-17 00:00:00", None).unwrap();
        assert_eq!(cf.instant(23 * 60 + 49), Some(ns));
        assert_eq!(cf.instant_f64(23.0 * 60.0 + 49.0), Some(ns));
        assert_eq!(
            CfTime::parse("days since 1900-1-1 0:0:0.0", None)
                .unwrap()
                .epoch,
            parse_iso("1900-01-01").unwrap()
        );
    }

    /// What has no fixed length or no instant is refused in words.
    #[test]
    fn refusals_say_why() {
        assert!(
            CfTime::parse("months since 2000-01-01", None)
                .unwrap_err()
                .contains("months")
        );
        assert!(
            CfTime::parse("hours since x", None)
                .unwrap_err()
                .contains("`x`")
        );
        assert!(CfTime::parse("hours", None).is_err());
        let noleap = CfTime::parse("days since 2000-01-01", Some("noleap"));
        assert!(noleap.unwrap_err().contains("noleap"));
        for bad in [
            "1995 13 17 23:49 UTC",
            "1995 03 17 24:49 UTC",
            "1995 03 17 23:49",
            "",
            "x",
        ] {
            assert_eq!(parse_report_time(bad), None, "{bad}");
        }
    }

    proptest! {
        /// No text panics.
        #[test]
        fn any_text(s in ".{0,40}", units in "(hours|days|s) since [-0-9: TZ.]{0,24}", x in any::<f64>()) {
            let _ = (parse_iso(&s), parse_report_time(&s));
            if let Ok(cf) = CfTime::parse(&units, None) {
                let _ = (cf.instant_f64(x), cf.instant(x.to_bits() as i64));
            }
        }
    }
}
