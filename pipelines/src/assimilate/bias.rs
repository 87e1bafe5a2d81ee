//! What a station reads above the prior at its place, by hour of the day.
//!
//! A station stands in a valley, on a roof, by a lake: its mean departure from a field on a coarse grid
//! says nothing about the weather. It is fitted on the time of the prior alone, and taken off all
//! reports of the station.

use std::collections::BTreeMap;

use advect_connectors::Observation;
use advect_connectors::time::HOUR;
use advect_operators::observations::Report;

use super::prior::Sample;
use super::settings::AssimilateConfig;

/// Hour of the day, 0 to 23, that a time is nearest to.
fn hour(time: i64) -> i64 {
    (time + HOUR / 2).div_euclid(HOUR).rem_euclid(24)
}

/// Takes the mean departure of each station and hour off its `reports`. A station and hour without
/// observations in the time of the prior keeps what it reads.
pub(crate) fn remove(
    reports: &mut [Report],
    observations: &[Observation],
    sample: &Sample,
    config: &AssimilateConfig,
) {
    let (low, high) = config.quality.range;
    let fields: BTreeMap<i64, usize> = sample.times.iter().copied().zip(0..).collect();
    let mut sums: BTreeMap<(&str, i64), (f64, f64)> = BTreeMap::new();
    for o in observations
        .iter()
        .filter(|o| (low..=high).contains(&o.value))
    {
        // the field at that hour, if the prior has one
        let near = (o.time + HOUR / 2).div_euclid(HOUR) * HOUR;
        if let Some(&at) = fields.get(&near) {
            let departure = o.value - sample.fields[at].at(o.latitude, o.longitude);
            let slot = sums.entry((&o.station, hour(o.time))).or_default();
            *slot = (slot.0 + departure, slot.1 + 1.0);
        }
    }
    for r in reports {
        let time = config.time_of(r.cycle);
        if let Some((sum, count)) = sums.get(&(r.station.as_str(), hour(time))) {
            r.value -= (1000.0 * sum / count).round() as i64;
        }
    }
}
