//! The dataflow of `assimilate` on one worker.

use std::rc::Rc;
use std::sync::Arc;

use advect_engine::fabric::Context;
use advect_engine::snapshot::Store;
use advect_engine::{Batch, Cycle, DType, Layout, Mesh, Placement, Relayout, Shard, relayout};
use advect_operators::cycle::sites::mean_and_spread;
use advect_operators::cycle::{
    self, Predictor, ReportUpdate, Resumed, Screen, Settings, Site, Work,
};
use advect_operators::observations::Quality;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline as Local;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Concat, Probe};
use timely::worker::Worker;

use super::feed::{self, Pace};
use super::inputs::Loaded;
use super::ledger::{CYCLES, Closed, Closing};
use super::settings::AssimilateConfig;
use crate::error::Result;
use crate::pipeline::Stop;

/// How many `known` may be under way at once.
const AHEAD: u64 = 2;

/// What every worker of a process shares.
pub(crate) struct Shared {
    pub(crate) store: Store,
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
    pub(crate) fn settings(&self) -> Result<Settings> {
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
            begin: 0,
            cycles: config.period.cycles,
        })
    }

    /// Tells of the cycles that were closed before the snapshot.
    fn replay(&self, closed: &mut impl FnMut(Result<&Closed>)) {
        let records = self
            .store
            .outputs()
            .and_then(|o| o.records::<Closed>(CYCLES));
        match records {
            Ok(records) => records.for_each(|record| match record {
                Ok(sealed) => closed(Ok(&sealed.body)),
                Err(e) => closed(Err(e.into())),
            }),
            Err(e) => closed(Err(e.into())),
        }
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

/// Runs the dataflow to its end, from the last snapshot if `resume` says so. On worker 0 `closed` is
/// called for every cycle, those before the snapshot included, as it closes, or with what went wrong.
///
/// # Errors
/// If the snapshots cannot be read or written, or are of another job.
pub(crate) fn run(
    worker: &mut Worker,
    context: &Context,
    shared: &Arc<Shared>,
    resume: bool,
    mut closed: impl FnMut(Result<&Closed>) + 'static,
) -> Result<Done> {
    let session = shared.store.begin(worker, context, resume)?;
    let mut settings = shared.settings()?;
    let (cycles, window) = (settings.cycles, settings.window);
    let (begin, known) = (session.epoch(), cycles + window);
    settings.begin = settings.first_open(begin);
    let first = worker.index() == 0;
    let mut predictor: Rc<dyn Predictor> = Rc::new(shared.loaded.prior.clone());
    if settings.begin > 0 {
        predictor = Rc::new(Resumed::try_new(predictor, session.saved(), &settings)?);
    }
    if first && begin > 0 {
        shared.replay(&mut closed);
    }
    let settings = Rc::new(settings);
    let screen = shared.screen(&settings);
    let pace = Pace::default();
    let probe = Handle::new();
    let work = worker.dataflow::<Cycle, _, _>(|scope| -> Result<Work> {
        let ticks = feed::ticks(&scope, begin..known, window, &pace);
        let reports = feed::reports(ticks.clone(), &shared.arrivals, (begin, settings.begin));
        let cycled = cycle::assimilate(reports, ticks.clone(), &settings, &screen, &predictor)?;
        let closing = Closing {
            ticks,
            fields: gathered(cycled.analyses, &settings)?,
            sites: cycled.sites,
            verdicts: cycled.verdicts,
        };
        let records = closing.close(window, settings.begin, move |cycle| closed(Ok(cycle)));
        let kept = cycle::kept(cycled.forecasts, &settings, &cycled.bands);
        session.keep(records.probe_with(&probe).concat(kept), |time| time.known);
        Ok(cycled.work)
    })?;
    let mut complete = begin;
    context.drive(worker, || {
        while complete < known && !probe.less_equal(&Cycle::new(u64::MAX, complete)) {
            complete += 1;
        }
        if first {
            match shared.stop.is_set() {
                true => pace.end(),
                false => pace.allow((complete + AHEAD).min(known)),
            }
        }
        complete < known
    });
    Ok(Done {
        analysed: work.cells(),
    })
}

/// Mean and spread of every cell on every worker: `Split` → `Same`.
fn gathered<'s>(
    analyses: Stream<'s, Cycle, Batch>,
    settings: &Settings,
) -> Result<Stream<'s, Cycle, Batch>> {
    let (worker, workers) = (
        analyses.scope().worker().index(),
        analyses.scope().worker().peers(),
    );
    let mesh = Mesh::line("space", workers);
    let split = Layout::new([Placement::Split { dim: 0 }]);
    let same = Layout::new([Placement::Same]);
    let shape = [settings.grid.rows(), settings.grid.columns(), 2];
    let plan = Relayout::plan(&mesh, &shape, DType::F64, &split, &same)?;
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
    Ok(relayout(described, &plan))
}
