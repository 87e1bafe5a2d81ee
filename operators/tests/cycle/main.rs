//! The cycling assimilation as a function of the reports that stand: incremental, retractable, and
//! the same on any number of workers and any network.

mod job;
mod network;

use advect_operators::cycle::ReportUpdate;
use advect_operators::observations::Report;

use job::{CYCLES, ROWS, archive, arrives, report, run, settings};

/// The analysis is the same on any number of workers, more than there are rows among them.
#[test]
fn workers_do_not_matter() {
    let (one, _) = run(1, 0.4, CYCLES, archive(CYCLES));
    assert_eq!(one.len(), CYCLES as usize * ROWS);
    for workers in [2, 3, 5] {
        assert!(
            one == run(workers, 0.4, CYCLES, archive(CYCLES)).0,
            "{workers} workers"
        );
    }
}

/// Late, corrected and retracted reports: only what stands counts.
#[test]
fn only_what_stands_counts() {
    let (plain, _) = run(2, 0.4, CYCLES, archive(CYCLES));
    let mut messy: Vec<ReportUpdate> = Vec::new();
    for (i, (report, time, _)) in archive(CYCLES).into_iter().enumerate() {
        if i % 4 == 0 {
            let wrong = Report {
                value: report.value + 2_500,
                ..report.clone()
            };
            messy.push(arrives(wrong.clone(), time.known, 1));
            messy.push(arrives(wrong, time.known + 1, -1));
            messy.push(arrives(report, time.known + 1, 1));
        } else {
            messy.push(arrives(report, time.known + u64::from(i % 3 == 0), 1));
        }
    }
    messy.reverse();
    assert!(plain == run(3, 0.4, CYCLES, messy).0);
    let mut other = archive(CYCLES);
    other.pop();
    assert!(
        plain != run(2, 0.4, CYCLES, other).0,
        "the comparison sees nothing"
    );
}

/// One more report makes only the cells that hear it new.
#[test]
fn only_cells_within_reach_are_analysed_again() {
    let settings = settings(0.0, 1);
    let extra = report(777, 0);
    let mut near = 0;
    settings.grid.for_cells_within(
        extra.latitude(),
        extra.longitude(),
        settings.taper.reach(),
        |_, _| near += 1,
    );
    let (_, plain) = run(2, 0.0, 1, archive(1));
    let mut more = archive(1);
    more.push(arrives(extra, 1, 1));
    let (_, again) = run(2, 0.0, 1, more);
    let points = (settings.grid.cells() + settings.sites.len()) as u64;
    assert_eq!(plain, points, "known 1 brings nothing and costs nothing");
    let new = again - plain;
    assert!(
        0 < new && new <= near + 1,
        "{new} analysed again, {near} within reach"
    );
    assert!(
        near < settings.grid.cells() as u64 / 2,
        "the radius covers everything"
    );
}
