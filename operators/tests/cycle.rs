//! The cycling assimilation as a function of the reports that stand: incremental, retractable, and
//! the same on any number of workers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use advect_engine::{Batch, Cycle, Fabric};
use advect_operators::assimilation::Inflation;
use advect_operators::cycle::{
    Hybrid, Model, ReportUpdate, Screen, Settings, Site, Taper, assimilate,
};
use advect_operators::observations::{Buddy, Field, Grid, Krige, Quality, Report};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::{Inspect, ToStream};
use timely::dataflow::operators::generic::operator::Operator;

const MEMBERS: usize = 7;
const ROWS: usize = 14;
const COLUMNS: usize = 18;
const CYCLES: u64 = 3;
const WINDOW: u64 = 1;

/// An ensemble that forgets half of each increment.
struct Forgetful;

fn prior(cell: usize, member: usize) -> f64 {
    let (row, column) = (cell / COLUMNS, cell % COLUMNS);
    280.0
        + 3.0 * ((row * (member + 1)) as f64 * 0.31).sin()
        + 2.0 * (column as f64 * 0.2 + member as f64).cos()
}

impl Model for Forgetful {
    fn start(&self, rows: Range<usize>) -> Vec<f64> {
        let cells = rows.start * COLUMNS..rows.end * COLUMNS;
        cells
            .flat_map(|c| (0..MEMBERS).map(move |m| prior(c, m)))
            .collect()
    }

    fn next(&self, _: u64, rows: Range<usize>, analysis: &[f64]) -> Vec<f64> {
        let prior = self.start(rows);
        prior
            .iter()
            .zip(analysis)
            .map(|(p, a)| 0.5 * (p + a))
            .collect()
    }
}

fn settings(hybrid: f64, cycles: u64) -> Settings {
    let grid = Grid::try_new(30.0, -110.0, 1.0, ROWS, COLUMNS).expect("a grid");
    let cells = grid.cells();
    let krige = Krige {
        variance: 4.0,
        length: 400.0,
        level: 1.0,
        nugget: 1.0,
        per_height: 0.1,
        per_land: 100.0,
        neighbours: 8,
        radius: 400.0,
    };
    Settings {
        grid,
        heights: Rc::new((0..cells).map(|c| (c % 7) as f64 * 90.0).collect()),
        land: Field::try_new(grid, vec![1.0; cells]).expect("a field"),
        sites: Rc::new(vec![Site {
            latitude: 36.4,
            longitude: -101.3,
            height: 410.0,
        }]),
        members: MEMBERS,
        taper: Taper {
            near: 120.0,
            far: 200.0,
            share: 0.4,
        },
        inflation: Inflation::default(),
        hybrid: Hybrid {
            weight: hybrid,
            krige,
        },
        observation_error: 1.0,
        lapse_rate: 0.0065,
        gross_limit: 8.0,
        buddy: Buddy {
            radius: 250.0,
            limit: 50.0,
            at_least: 3,
        },
        window: WINDOW,
        cycles,
    }
}

fn report(k: u64, cycle: u64) -> Report {
    Report {
        cycle,
        station: format!("S{k}"),
        order: cycle * 1000 + k,
        time: 0,
        latitude: 3_020_000 + (k as i32 * 7_919) % 1_250_000,
        longitude: -10_980_000 + (k as i32 * 104_729) % 1_650_000,
        elevation: (!k.is_multiple_of(5)).then_some((k as i32 * 37) % 9000),
        value: 279_000 + (k as i64 * 977 + cycle as i64 * 31) % 4_000,
    }
}

fn arrives(report: Report, known: u64, diff: isize) -> ReportUpdate {
    let time = Cycle::new(report.cycle, known);
    (report, time, diff)
}

fn archive(cycles: u64) -> Vec<ReportUpdate> {
    let of = |cycle| (0..50).map(move |k| arrives(report(k, cycle), cycle, 1));
    (0..cycles).flat_map(of).collect()
}

/// The records of a stream, each at a later time of its own.
fn at<'s, D: Clone + 'static, E: 'static>(
    stream: StreamVec<'s, Cycle, D>,
    mut time: impl FnMut(&D) -> Cycle + 'static,
    mut of: impl FnMut(D) -> E + 'static,
) -> StreamVec<'s, Cycle, E> {
    type Out<E> = CapacityContainerBuilder<Vec<E>>;
    stream.unary::<Out<E>, _, _, _>(Pipeline, "At", move |_, _| {
        move |input, output| {
            input.for_each(|cap, data| {
                for datum in data.drain(..) {
                    output
                        .session(&cap.delayed(&time(&datum), 0))
                        .give(of(datum));
                }
            });
        }
    })
}

/// Last analysis of every cycle and row, in bits; and points analysed.
type Outcome = (BTreeMap<(u64, usize), (u64, Vec<u64>)>, u64);

fn run(workers: usize, hybrid: f64, cycles: u64, updates: Vec<ReportUpdate>) -> Outcome {
    let parts = Fabric::Threads(workers)
        .run(move |worker, context| {
            let settings = Rc::new(settings(hybrid, cycles));
            let quality = Quality {
                range: (200.0, 330.0),
                domain: (30.0, 43.0, -110.0, -93.0),
                heights: (-100.0, 5000.0),
                block_list: BTreeSet::new(),
            };
            let screen = Screen {
                quality,
                withheld: Rc::default(),
            };
            let model: Rc<dyn Model> = Rc::new(Forgetful);
            let mine = if context.index == 0 {
                updates.clone()
            } else {
                Vec::new()
            };
            let ticks: Vec<Cycle> = (0..cycles + WINDOW)
                .map(|known| Cycle::new(known.saturating_sub(WINDOW), known))
                .collect();
            let last = Rc::new(RefCell::new(BTreeMap::new()));
            let keep = Rc::clone(&last);
            let (index, work) = (
                context.index,
                worker.dataflow::<Cycle, _, _>(|scope| {
                    let reports = at(
                        mine.to_stream(scope),
                        |update: &ReportUpdate| update.1,
                        |u| u,
                    );
                    let ticks = at(ticks.to_stream(scope), |time: &Cycle| *time, |_| ());
                    let cycled = assimilate(reports, ticks, &settings, &screen, &model)
                        .expect("the layouts fit");
                    let first = cycled.bands.rows(context.index).start;
                    cycled.analyses.inspect_core(move |event| {
                        let Ok((time, batch)) = event else { return };
                        let batch: &Batch = batch;
                        for shard in &batch.shards {
                            let rows = shard.elements::<f64>().chunks_exact(COLUMNS * MEMBERS);
                            for (i, row) in rows.enumerate() {
                                let bits = row.iter().map(|x| x.to_bits()).collect();
                                let times =
                                    time.elements().iter().map(|t: &Cycle| (t.valid, t.known));
                                for (valid, known) in times {
                                    let at = keep.borrow_mut();
                                    let mut at: std::cell::RefMut<
                                        '_,
                                        BTreeMap<_, (u64, Vec<u64>)>,
                                    > = at;
                                    let slot = at.entry((valid, first + i)).or_default();
                                    if slot.1.is_empty() || slot.0 <= known {
                                        *slot = (known, Vec::clone(&bits));
                                    }
                                }
                            }
                        }
                    });
                    cycled.work
                }),
            );
            let _ = index;
            context.drive(worker, || false);
            while worker.has_dataflows() {
                worker.step_or_park(Some(std::time::Duration::from_millis(10)));
            }
            (last.take(), work.cells())
        })
        .expect("the run ends well");
    let mut whole = BTreeMap::new();
    let mut analysed = 0;
    for (rows, cells) in parts {
        for (at, (_, bits)) in rows {
            whole.insert(at, (0, bits));
        }
        analysed += cells;
    }
    (whole, analysed)
}

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
