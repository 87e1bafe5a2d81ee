//! Playing an archive as a stream: when each report becomes known, and what is wrong with it then.

use advect_engine::Cycle;
use advect_operators::cycle::ReportUpdate;
use advect_operators::observations::Report;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::settings::{Arrival, Period};

/// Every `known` with the updates that come then: at (cycle, known) as long as the cycle is open,
/// else at the first open cycle, where the report is late.
pub(crate) fn arrivals(
    reports: &[Report],
    arrival: &Arrival,
    period: &Period,
) -> Vec<Vec<ReportUpdate>> {
    let last = period.cycles + period.window;
    let mut out: Vec<Vec<ReportUpdate>> = vec![Vec::new(); last as usize];
    let mut tell = |known: u64, report: &Report, diff: isize| {
        let known = known.min(last - 1);
        let valid = report.cycle.max(known.saturating_sub(period.window));
        out[known as usize].push((report.clone(), Cycle::new(valid, known), diff));
    };
    for report in reports {
        // a stream of its own for each report: the same whatever comes beside it
        let mut rng = ChaCha8Rng::seed_from_u64(arrival.seed);
        rng.set_stream(report.order);
        let (late, corrected): (f64, f64) = (rng.random(), rng.random());
        if corrected < arrival.corrected {
            let celsius = report.value - 273_150;
            let wrong = Report {
                value: 273_150 - celsius,
                ..report.clone()
            };
            tell(report.cycle, &wrong, 1);
            tell(report.cycle + 1, &wrong, -1);
            tell(report.cycle + 1, report, 1);
        } else {
            tell(report.cycle + u64::from(late < arrival.late), report, 1);
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(arrival.seed);
    rng.set_stream(u64::MAX);
    for extra in false_reports(reports, arrival.extra, &mut rng) {
        tell(extra.cycle, &extra, 1);
        tell(extra.cycle + 1, &extra, -1);
    }
    if arrival.shuffle != 0 {
        let mut rng = ChaCha8Rng::seed_from_u64(arrival.shuffle);
        for updates in &mut out {
            updates.shuffle(&mut rng);
        }
    }
    out
}

/// Reports of stations that do not exist, between those that do.
fn false_reports(reports: &[Report], count: u64, rng: &mut impl Rng) -> Vec<Report> {
    let base = reports.iter().map(|r| r.order + 1).max().unwrap_or(0);
    if reports.is_empty() {
        return Vec::new();
    }
    (0..count)
        .map(|i| {
            let like = &reports[rng.random_range(0..reports.len())];
            Report {
                station: format!("false {i}"),
                order: base + i,
                latitude: like.latitude + rng.random_range(-30_000..30_000),
                longitude: like.longitude + rng.random_range(-30_000..30_000),
                value: like.value + rng.random_range(-4_000..4_000),
                ..like.clone()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn standing(updates: &[Vec<ReportUpdate>]) -> BTreeMap<Report, isize> {
        let mut counts = BTreeMap::new();
        for (report, _, diff) in updates.iter().flatten() {
            *counts.entry(report.clone()).or_default() += diff;
        }
        counts.retain(|_, c| *c != 0);
        counts
    }

    /// Whatever is late, corrected, false or shuffled: in the end the archive stands, once.
    #[test]
    fn the_archive_stands_in_the_end() {
        let reports: Vec<Report> = (0..500)
            .map(|i| Report {
                cycle: i % 5,
                station: format!("{}", i % 90),
                order: i,
                time: 0,
                latitude: 4_000_000,
                longitude: -9_000_000,
                elevation: None,
                value: 280_000 + i as i64,
            })
            .collect();
        let period: Period =
            toml::from_str("start = \"1995-03-18T00:00:00Z\"\ncycles = 5\nstep = 1\nwindow = 1")
                .unwrap();
        let play = |extra, shuffle| {
            let arrival = Arrival {
                seed: 3,
                late: 0.1,
                corrected: 0.1,
                extra,
                shuffle,
            };
            arrivals(&reports, &arrival, &period)
        };
        let plain = play(0, 0);
        let want: BTreeMap<Report, isize> = reports.iter().map(|r| (r.clone(), 1)).collect();
        assert_eq!(standing(&plain), want);
        assert_eq!(standing(&play(200, 9)), want);
        assert!(
            plain
                .iter()
                .flatten()
                .any(|(r, t, d)| *d > 0 && t.known > r.cycle)
        );
        assert_ne!(play(0, 1), play(0, 2));
    }
}
