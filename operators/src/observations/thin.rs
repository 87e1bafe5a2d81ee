//! Thinning and superobbing: fewer reports where they are dense.
//!
//! Both group reports by grid cell and cycle. Thinning keeps the report with the least
//! (distance to the centre, station, order); superobbing replaces the group by its mean at its mean
//! place, with sums in exact integers. Neither depends on the order of arrival.

use std::collections::BTreeMap;

use super::grid::{Grid, distance};
use super::report::Report;

/// The cell nearest to a report, if it is on the grid.
fn nearest(grid: &Grid, report: &Report) -> Option<usize> {
    let (row, column) = grid.locate(report.latitude(), report.longitude())?;
    Some(row.round() as usize * grid.columns() + column.round() as usize)
}

/// Keeps one report per cell and cycle: the kept and the others, each in order. Reports outside the
/// grid are kept.
pub fn thin(grid: &Grid, reports: impl IntoIterator<Item = Report>) -> (Vec<Report>, Vec<Report>) {
    let (mut kept, mut others) = (Vec::new(), Vec::new());
    let mut groups: BTreeMap<(u64, usize), Vec<Report>> = BTreeMap::new();
    for report in reports {
        match nearest(grid, &report) {
            Some(cell) => groups.entry((report.cycle, cell)).or_default().push(report),
            None => kept.push(report),
        }
    }
    for ((_, cell), mut group) in groups {
        let (row, column) = grid.place(cell);
        let (lat, lon) = (grid.latitude(row), grid.longitude(column));
        group.sort_by(|a, b| {
            let km = |r: &Report| distance(lat, lon, r.latitude(), r.longitude());
            km(a)
                .total_cmp(&km(b))
                .then_with(|| (&a.station, a.order).cmp(&(&b.station, b.order)))
        });
        let mut group = group.into_iter();
        kept.extend(group.next());
        others.extend(group);
    }
    kept.sort();
    others.sort();
    (kept, others)
}

/// Replaces the reports of each cell and cycle by one: means of value, place, height and time, the
/// station and order of the first. Reports outside the grid stay as they are.
pub fn superob(grid: &Grid, reports: impl IntoIterator<Item = Report>) -> Vec<Report> {
    let mut out = Vec::new();
    let mut groups: BTreeMap<(u64, usize), Vec<Report>> = BTreeMap::new();
    for report in reports {
        match nearest(grid, &report) {
            Some(cell) => groups.entry((report.cycle, cell)).or_default().push(report),
            None => out.push(report),
        }
    }
    for group in groups.into_values() {
        let mean = |get: &dyn Fn(&Report) -> Option<i64>| -> Option<i64> {
            let values: Vec<i64> = group.iter().filter_map(get).collect();
            let sum: i128 = values.iter().map(|&v| i128::from(v)).sum();
            let n = values.len() as i128;
            (n > 0).then(|| (2 * sum + n).div_euclid(2 * n) as i64)
        };
        let first = group.iter().min_by_key(|r| (&r.station, r.order)).cloned();
        out.extend(first.map(|first| Report {
            time: mean(&|r| Some(r.time)).unwrap_or(first.time),
            latitude: mean(&|r| Some(i64::from(r.latitude))).unwrap_or(0) as i32,
            longitude: mean(&|r| Some(i64::from(r.longitude))).unwrap_or(0) as i32,
            elevation: mean(&|r| r.elevation.map(i64::from)).map(|z| z as i32),
            value: mean(&|r| Some(r.value)).unwrap_or(first.value),
            ..first
        }));
    }
    out.sort();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports() -> Vec<Report> {
        (0..60u64)
            .map(|i| Report {
                cycle: i % 2,
                station: format!("S{:02}", i * 7 % 60),
                order: i,
                time: i as i64,
                latitude: 3_000_000 + (i as i32 * 7919 % 500_000),
                longitude: -10_000_000 + (i as i32 * 104_729 % 500_000),
                elevation: (i % 3 != 0).then_some(i as i32),
                value: 280_000 + i as i64 * 13 % 7,
            })
            .collect()
    }

    /// No report is lost, one is left per cell and cycle, and the order of arrival does not matter.
    #[test]
    fn thinning_is_order_free() {
        let grid = Grid::try_new(29.5, -100.5, 1.0, 8, 8).unwrap();
        let (kept, others) = thin(&grid, reports());
        let mut all: Vec<Report> = kept.iter().chain(&others).cloned().collect();
        all.sort();
        let mut want = reports();
        want.sort();
        assert_eq!(all, want);
        let reversed: Vec<Report> = reports().into_iter().rev().collect();
        assert_eq!(thin(&grid, reversed.clone()), (kept.clone(), others));
        assert_eq!(superob(&grid, reversed), superob(&grid, reports()));
        assert_eq!(superob(&grid, reports()).len(), kept.len());
        // what is thin already stays as it is
        assert_eq!(thin(&grid, kept.clone()), (kept, Vec::new()));
    }
}
