//! The dataflow of `assimilate` on one worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use advect_engine::fabric::Context;
use advect_engine::{Batch, Cycle, DType, Layout, Mesh, Placement, Relayout, Shard, relayout};
use advect_operators::cycle::sites::mean_and_spread;
use advect_operators::cycle::{self, Model, ReportUpdate, Screen, Settings, Site, Verdict};
use advect_operators::observations::Quality;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline as Local;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Inspect, Probe};
use timely::worker::Worker;

use super::feed::{self, Pace};
use super::inputs::Loaded;
use super::ledger::{Closed, Ledger};
use super::settings::AssimilateConfig;
use crate::pipeline::Stop;

/// How many `known` may be under way at once.
const AHEAD: u64 = 2;

/// What every worker of a process shares.
pub(crate) struct Shared {
    pub(crate) config: AssimilateConfig,
    pub(crate) loaded: Loaded,
    pub(crate) sites: Vec<Site>,
    pub(crate) arrivals: Vec<Vec<ReportUpdate>>,
    pub(crate) stop: Stop,
}

/// What a worker gives back.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Points that this worker analysed.
    pub(crate) analysed: u64,
}

impl Shared {
    /// The settings of the cycle; the same on every worker.
    pub(crate) fn settings(&self) -> crate::error::Result<Settings> {
        let config = &self.config;
        Ok(Settings {
            grid: config.grid()?,
            heights: Rc::new(self.loaded.heights.clone()),
            land: self.loaded.land.clone(),
            sites: Rc::new(self.sites.clone()),
            members: config.members(),
            taper: config.filter.taper,
            inflation: config.filter.inflation,
            hybrid: config.hybrid,
            observation_error: config.filter.observation_error,
            lapse_rate: config.filter.lapse_rate,
            gross_limit: config.quality.gross_limit,
            buddy: config.quality.buddy,
            window: config.period.window,
            cycles: config.period.cycles,
        })
    }

    fn screen(&self, settings: &Settings) -> Screen {
        let (grid, q) = (&settings.grid, &self.config.quality);
        let north = grid.latitude(grid.rows() - 1);
        let east = grid.longitude(grid.columns() - 1);
        Screen {
            quality: Quality {
                range: q.range,
                domain: (grid.latitude(0), north, grid.longitude(0), east),
                heights: q.heights,
                block_list: q.block_list.iter().cloned().collect(),
            },
            withheld: Rc::new(self.loaded.withheld.clone()),
        }
    }
}

/// Runs the dataflow to its end; on worker 0 `closed` is called for every cycle as it closes.
pub(crate) fn run(
    worker: &mut Worker,
    context: &Context,
    shared: &Arc<Shared>,
    mut closed: impl FnMut(Closed),
) -> Done {
    // all of this was built once before the workers started
    let settings = Rc::new(
        shared
            .settings()
            .unwrap_or_else(|e| panic!("assimilate: {e}")),
    );
    let screen = shared.screen(&settings);
    let model: Rc<dyn Model> = Rc::new(shared.loaded.prior.clone());
    let (cycles, window) = (settings.cycles, settings.window);
    let known = cycles + window;
    let pace = Pace::default();
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let probe = Handle::new();
    let first = worker.index() == 0;
    let work = worker.dataflow::<Cycle, _, _>(|scope| {
        let ticks = feed::ticks(&scope, known, window, &pace);
        let reports = feed::reports(ticks.clone(), &shared.arrivals);
        let cycled = cycle::assimilate(reports, ticks, &settings, &screen, &model)
            .unwrap_or_else(|e| panic!("assimilate: {e}"));
        let fields = gathered(cycled.analyses, &settings);
        let (a, b, c) = (Rc::clone(&ledger), Rc::clone(&ledger), Rc::clone(&ledger));
        fields
            .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Local, "Fields", move |_, _| {
                move |input, _| {
                    input.for_each(|cap, batch: &mut Batch| {
                        for time in cap.stamp().elements() {
                            for shard in batch.shards.drain(..).filter(|_| first) {
                                a.borrow_mut().field(*time, shard.elements());
                            }
                        }
                    });
                }
            })
            .probe_with(&probe);
        feed::to_first(cycled.sites)
            .inspect(move |(_, site)| b.borrow_mut().site(site.clone()))
            .probe_with(&probe);
        feed::to_first(cycled.verdicts)
            .inspect(move |(time, verdict): &(Cycle, Verdict)| {
                c.borrow_mut().verdict(*time, verdict.clone());
            })
            .probe_with(&probe);
        cycled.work
    });
    let (mut complete, mut asked) = (0, 0);
    context.drive(worker, || {
        while complete < known && !probe.less_equal(&Cycle::new(u64::MAX, complete)) {
            complete += 1;
        }
        if first {
            if shared.stop.is_set() {
                pace.end();
            } else {
                asked = (complete + AHEAD).min(known);
                pace.allow(asked);
            }
            // behind what was asked for nothing is closed, though the stream has ended
            let closes = complete.min(asked).saturating_sub(window);
            for cycle in ledger.borrow_mut().close(closes) {
                closed(cycle);
            }
        }
        complete < known
    });
    Done {
        analysed: work.cells(),
    }
}

/// Mean and spread of every cell on every worker: `Split` → `Same`.
fn gathered<'s>(
    analyses: Stream<'s, Cycle, Batch>,
    settings: &Settings,
) -> Stream<'s, Cycle, Batch> {
    let (worker, workers) = (
        analyses.scope().worker().index(),
        analyses.scope().worker().peers(),
    );
    let mesh = Mesh::line("space", workers);
    let split = Layout::new([Placement::Split { dim: 0 }]);
    let same = Layout::new([Placement::Same]);
    let shape = [settings.grid.rows(), settings.grid.columns(), 2];
    let plan = Relayout::plan(&mesh, &shape, DType::F64, &split, &same)
        .unwrap_or_else(|e| panic!("assimilate: {e}"));
    let n = settings.members;
    let described = analyses.unary::<CapacityContainerBuilder<Batch>, _, _, _>(
        Local,
        "Describe",
        move |_, _| {
            move |input, output| {
                input.for_each(|cap, batch| {
                    let mut session = output.session(&cap);
                    for shard in batch.shards.drain(..) {
                        let cells = shard.elements::<f64>().chunks_exact(n).map(mean_and_spread);
                        let data: Vec<f64> = cells.flat_map(|(m, s)| [m, s]).collect();
                        let shape = vec![shard.shape[0], shard.shape[1], 2];
                        let shard = Shard::new(shard.key, shape, data.into());
                        session.give(shard.addressed(worker, worker));
                    }
                });
            }
        },
    );
    relayout(described, &plan)
}
