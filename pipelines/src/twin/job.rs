//! The dataflow of `twin` on one worker: runs give blocks of scores, worker 0 gathers them.
//!
//! The timestamp is the experiment: once the frontier has passed it, all its seeds are in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use advect_engine::fabric::Context;
use advect_operators::twin::{Block, Experiment, Report, SeedReport, SeedRun};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::operator::{Operator, source};
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::{Scope, StreamVec};
use timely::worker::Worker;

use crate::pipeline::Stop;

/// What flows: a block of one seed, or why the seed has no more.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    experiment: usize,
    /// Place of the seed in the configuration.
    seed: usize,
    outcome: Result<Block, String>,
}

/// What every worker of a process shares.
pub(crate) struct Shared {
    pub(crate) experiments: Vec<Experiment>,
    pub(crate) stop: Stop,
}

/// What worker 0 is told.
pub(crate) enum Event {
    /// One more block is in.
    Block,
    /// All that will come of an experiment is in: its report, or why there is none.
    Closed(usize, Box<Result<Report, String>>),
}

/// The blocks of one experiment by seed and index, and the seeds that failed.
#[derive(Default)]
struct Gathered {
    blocks: BTreeMap<usize, BTreeMap<u64, Block>>,
    failed: BTreeMap<usize, String>,
}

impl Gathered {
    fn take(&mut self, record: Record) {
        match record.outcome {
            Ok(block) => {
                self.blocks
                    .entry(record.seed)
                    .or_default()
                    .insert(block.index, block);
            }
            Err(why) => {
                self.failed.insert(record.seed, why);
            }
        }
    }

    /// The report of all seeds; `None` if the run was stopped before all were in.
    fn report(self, experiment: &Experiment) -> Option<Result<Report, String>> {
        if let Some((_, why)) = self.failed.into_iter().next() {
            return Some(Err(why));
        }
        let mut seeds = Vec::new();
        for (place, seed) in experiment.run.seeds.iter().enumerate() {
            let blocks: Vec<Block> = self.blocks.get(&place)?.values().cloned().collect();
            if blocks.len() as u64 != SeedRun::blocks(experiment) {
                return None;
            }
            seeds.push(SeedReport::from_blocks(experiment, *seed, &blocks));
        }
        Some(Ok(Report::from_seeds(experiment, seeds)))
    }
}

/// Runs the dataflow to its end, or until it is stopped; on worker 0 `tell` hears of every block
/// and of every experiment as it closes.
pub(crate) fn run(
    worker: &mut Worker,
    context: &Context,
    shared: &Arc<Shared>,
    tell: impl FnMut(Event) + 'static,
) {
    let probe = Handle::new();
    worker.dataflow::<u64, _, _>(|scope| {
        let records = runs(&scope, shared);
        gather(records, shared, tell).probe_with(&probe);
    });
    context.drive(worker, || !probe.done());
}

/// The seeds of this worker, a block at each activation, so that other operators have their turn.
fn runs<'s>(scope: &Scope<'s, u64>, shared: &Arc<Shared>) -> StreamVec<'s, u64, Record> {
    type Out = CapacityContainerBuilder<Vec<Record>>;
    let (worker, workers) = (scope.worker().index(), scope.worker().peers());
    let shared = Arc::clone(shared);
    source::<_, Out, _, _>(*scope, "Runs", move |capability, info| {
        let activator = scope.activator_for(info.address);
        let mut capability = Some(capability);
        let each = shared.experiments.iter().enumerate();
        let each = each.flat_map(|(e, x)| (0..x.run.seeds.len()).map(move |seed| (e, seed)));
        // dealt out in turn, so that the seeds of one experiment run beside each other
        let mut left: VecDeque<(usize, usize)> = each.skip(worker).step_by(workers).collect();
        let mut under_way: Option<SeedRun> = None;
        move |output| {
            let next = if shared.stop.is_set() {
                None
            } else {
                left.front().copied()
            };
            let (Some((experiment, seed)), Some(cap)) = (next, capability.as_mut()) else {
                capability = None;
                return;
            };
            cap.downgrade(&(experiment as u64));
            let outcome = block(&shared.experiments[experiment], seed, &mut under_way);
            if let Some(outcome) = outcome {
                let record = Record {
                    experiment,
                    seed,
                    outcome,
                };
                output.session(&cap).give(record);
            }
            if under_way.is_none() {
                left.pop_front();
            }
            activator.activate();
        }
    })
}

/// The next block of a seed; `under_way` is empty when it was the last.
fn block(
    experiment: &Experiment,
    seed: usize,
    under_way: &mut Option<SeedRun>,
) -> Option<Result<Block, String>> {
    let run = match under_way.take() {
        Some(run) => Ok(run),
        None => SeedRun::start(experiment, experiment.run.seeds[seed]),
    };
    let outcome = run.and_then(|mut run| {
        let block = run.next_block()?;
        if block.is_some() {
            *under_way = Some(run);
        }
        Ok(block)
    });
    outcome.map_err(|e| e.to_string()).transpose()
}

/// Brings all records to worker 0, which closes each experiment as the frontier passes it.
fn gather<'s>(
    records: StreamVec<'s, u64, Record>,
    shared: &Arc<Shared>,
    mut tell: impl FnMut(Event) + 'static,
) -> StreamVec<'s, u64, ()> {
    type Out = CapacityContainerBuilder<Vec<()>>;
    let first = records.scope().worker().index() == 0;
    let shared = Arc::clone(shared);
    let route = Exchange::new(|_: &Record| 0);
    let mut open: BTreeMap<usize, Gathered> = BTreeMap::new();
    records.unary_frontier::<Out, _, _, _>(route, "Gather", move |_, _| {
        move |(input, frontier), _| {
            input.for_each(|_, data| {
                for record in data.drain(..) {
                    tell(Event::Block);
                    open.entry(record.experiment).or_default().take(record);
                }
            });
            while let Some(entry) = open
                .first_entry()
                .filter(|entry| first && !frontier.frontier().less_equal(&(*entry.key() as u64)))
            {
                let (index, gathered) = entry.remove_entry();
                if let Some(report) = gathered.report(&shared.experiments[index]) {
                    tell(Event::Closed(index, Box::new(report)));
                }
            }
        }
    })
}
