//! Sites: the background at places off the grid, and what their analyses say.

use std::rc::Rc;

use advect_engine::{Batch, Cycle, Shard};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::{Stream, StreamVec};

use super::records::SiteAnalysis;
use super::settings::Settings;

/// The background ensemble `[sites][N]` at `sites` (points behind the last cell), from backgrounds
/// `[rows][columns][N]` whose first row is `first_row`: the observation operator at each place.
pub fn at_sites<'s>(
    backgrounds: Stream<'s, Cycle, Batch>,
    settings: &Rc<Settings>,
    sites: &Rc<Vec<u64>>,
    first_row: usize,
) -> Stream<'s, Cycle, Batch> {
    let worker = backgrounds.scope().worker().index();
    let n = settings.members;
    let before = first_row * settings.grid.columns();
    let operators: Vec<_> = sites
        .iter()
        .map(|&point| {
            let place = settings.place(point as usize);
            settings.operator_at(place.latitude, place.longitude, Some(place.height))
        })
        .collect();
    backgrounds.unary::<CapacityContainerBuilder<Batch>, _, _, _>(
        Pipeline,
        "AtSites",
        move |_, _| {
            move |input, output| {
                input.for_each(|cap, batch| {
                    let mut session = output.session(&cap);
                    for shard in batch.shards.drain(..) {
                        let field = shard.elements::<f64>();
                        let mut ensemble = vec![0.0; operators.len() * n];
                        for (operator, members) in
                            operators.iter().zip(ensemble.chunks_exact_mut(n))
                        {
                            for (m, slot) in members.iter_mut().enumerate() {
                                // a site off the grid has no background and gets none
                                *slot = operator.map_or(0.0, |h| {
                                    h.apply(|cell| field[(cell - before) * n + m])
                                });
                            }
                        }
                        let shape = vec![operators.len(), n];
                        session.give(
                            Shard::new(shard.key, shape, ensemble.into()).addressed(worker, worker),
                        );
                    }
                });
            }
        },
    )
}

/// Mean and spread at each site, beside the background mean, from analyses `[sites][N + 1]` as
/// [`hybrid`](super::hybrid) gives them with the background mean behind the members.
pub fn summarize<'s>(
    analyses: Stream<'s, Cycle, Batch>,
    sites: &Rc<Vec<u64>>,
    cells: usize,
) -> StreamVec<'s, Cycle, SiteAnalysis> {
    let sites = Rc::clone(sites);
    analyses.unary::<CapacityContainerBuilder<Vec<SiteAnalysis>>, _, _, _>(
        Pipeline,
        "Summarize",
        move |_, _| {
            move |input, output| {
                input.for_each(|cap, batch| {
                    for time in cap.stamp().elements() {
                        let mut session = output.session(&cap);
                        for shard in batch.shards.drain(..) {
                            let width = shard.shape[1];
                            let rows = shard.elements::<f64>().chunks_exact(width);
                            for (&point, row) in sites.iter().zip(rows) {
                                let (members, background) = row.split_at(width - 1);
                                let (mean, spread) = mean_and_spread(members);
                                session.give(SiteAnalysis {
                                    time: *time,
                                    site: point - cells as u64,
                                    background: background[0],
                                    mean,
                                    spread,
                                });
                            }
                        }
                    }
                });
            }
        },
    )
}

/// Mean and standard deviation (over N − 1) of an ensemble.
pub fn mean_and_spread(members: &[f64]) -> (f64, f64) {
    let n = members.len() as f64;
    let mean = members.iter().sum::<f64>() / n;
    let square = members.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, (square / (n - 1.0)).sqrt())
}
