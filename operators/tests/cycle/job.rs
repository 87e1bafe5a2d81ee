//! A small cycling assimilation on any fabric.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use advect_engine::fabric::Context;
use advect_engine::fabric::sim::Trace;
use advect_engine::{Batch, Cycle, Fabric};
use advect_operators::assimilation::Inflation;
use advect_operators::cycle::{
    Hybrid, Predictor, ReportUpdate, Screen, Settings, Site, Taper, assimilate,
};
use advect_operators::observations::{Buddy, Field, Grid, Krige, Quality, Report};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::{Inspect, Probe, ToStream};
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

const MEMBERS: usize = 7;
pub(crate) const ROWS: usize = 14;
const COLUMNS: usize = 18;
pub(crate) const CYCLES: u64 = 3;
const WINDOW: u64 = 1;

/// An ensemble that forgets half of each increment.
struct Forgetful;

fn prior(cell: usize, member: usize) -> f64 {
    let (row, column) = (cell / COLUMNS, cell % COLUMNS);
    280.0
        + 3.0 * ((row * (member + 1)) as f64 * 0.31).sin()
        + 2.0 * (column as f64 * 0.2 + member as f64).cos()
}

impl Predictor for Forgetful {
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

pub(crate) fn settings(hybrid: f64, cycles: u64) -> Settings {
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
            without: None,
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
        begin: 0,
        cycles,
    }
}

pub(crate) fn report(k: u64, cycle: u64) -> Report {
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

pub(crate) fn arrives(report: Report, known: u64, diff: isize) -> ReportUpdate {
    let time = Cycle::new(report.cycle, known);
    (report, time, diff)
}

pub(crate) fn archive(cycles: u64) -> Vec<ReportUpdate> {
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

/// Last analysis of every cycle and row, in bits.
pub(crate) type Rows = BTreeMap<(u64, usize), Vec<u64>>;

/// The same, each with the `known` of its analysis.
type Dated = BTreeMap<(u64, usize), (u64, Vec<u64>)>;

/// What one worker saw.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Last analyses of its rows.
    pub(crate) rows: Rows,
    /// Points that it analysed.
    pub(crate) analysed: u64,
    /// What the simulated network did.
    pub(crate) trace: Option<Trace>,
}

/// Runs `updates`, all of them given by the first worker.
///
/// # Errors
/// What the fabric says.
pub(crate) fn run_on(
    fabric: &Fabric,
    hybrid: f64,
    cycles: u64,
    updates: Vec<ReportUpdate>,
) -> Result<Vec<Seen>, String> {
    let run = move |worker: &mut Worker, context: &Context| {
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
        let predictor: Rc<dyn Predictor> = Rc::new(Forgetful);
        let mine = if context.index == 0 {
            updates.clone()
        } else {
            Vec::new()
        };
        let ticks: Vec<Cycle> = (0..cycles + WINDOW)
            .map(|known| Cycle::new(known.saturating_sub(WINDOW), known))
            .collect();
        let last: Rc<RefCell<Dated>> = Rc::default();
        let keep = Rc::clone(&last);
        let probe = Handle::new();
        let work = worker.dataflow::<Cycle, _, _>(|scope| {
            let reports = at(
                mine.to_stream(scope),
                |update: &ReportUpdate| update.1,
                |u| u,
            );
            let ticks = at(ticks.to_stream(scope), |time: &Cycle| *time, |_| ());
            let cycled = assimilate(reports, ticks, &settings, &screen, &predictor)
                .expect("the layouts fit");
            let first = cycled.bands.rows(context.index).start;
            let seen = cycled.analyses.inspect_core(move |event| {
                let Ok((times, batch)) = event else { return };
                let batch: &Batch = batch;
                for (time, shard) in times
                    .elements()
                    .iter()
                    .flat_map(|t| batch.shards.iter().map(move |s| (t, s)))
                {
                    let rows = shard.elements::<f64>().chunks_exact(COLUMNS * MEMBERS);
                    for (i, row) in rows.enumerate() {
                        let mut held = keep.borrow_mut();
                        let slot = held.entry((time.valid, first + i)).or_default();
                        if slot.1.is_empty() || slot.0 <= time.known {
                            *slot = (time.known, row.iter().map(|x| x.to_bits()).collect());
                        }
                    }
                }
            });
            seen.probe_with(&probe);
            cycled.work
        });
        context.drive(worker, || !probe.done());
        Seen {
            rows: last.take().into_iter().map(|(k, (_, v))| (k, v)).collect(),
            analysed: work.cells(),
            trace: context.simulated(),
        }
    };
    fabric.run(run).map_err(|e| e.to_string())
}

/// All rows and the number of points analysed, on threads.
pub(crate) fn run(
    workers: usize,
    hybrid: f64,
    cycles: u64,
    updates: Vec<ReportUpdate>,
) -> (Rows, u64) {
    let seen = run_on(&Fabric::Threads(workers), hybrid, cycles, updates);
    together(&seen.expect("the run ends well"))
}

/// What all workers saw.
pub(crate) fn together(seen: &[Seen]) -> (Rows, u64) {
    let rows = seen.iter().flat_map(|s| s.rows.clone());
    (rows.collect(), seen.iter().map(|s| s.analysed).sum())
}
