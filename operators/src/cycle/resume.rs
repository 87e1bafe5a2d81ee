//! Going on from a snapshot: what a cycling assimilation keeps, and how it begins again from it.
//!
//! Everything that a cycle computes is a function of the background of the first open cycle and of
//! the reports that stand in the open cycles. The background is kept here, a row of the grid to a key,
//! so that any number of workers can take it up; the reports are read again from their source.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use advect_engine::snapshot::{Entry, Saved};
use advect_engine::{Batch, Cycle, EngineError, Result};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::{Stream, StreamVec};

use super::bands::Bands;
use super::settings::{Predictor, Settings};

/// The name under which rows are kept.
const BACKGROUND: &str = "background";

/// What a snapshot of epoch `known` needs: the background of the first cycle that is open then,
/// row by row, from the `forecasts` of [`assimilate`](super::assimilate).
///
/// # Panics
/// If a row cannot be serialized: rows are numbers, so this is a bug.
pub fn kept<'s>(
    forecasts: Stream<'s, Cycle, Batch>,
    settings: &Rc<Settings>,
    bands: &Bands,
) -> StreamVec<'s, Cycle, Entry<Cycle>> {
    let rows = bands.rows(forecasts.scope().worker().index());
    let settings = Rc::clone(settings);
    let width = settings.grid.columns() * settings.members;
    type Out = CapacityContainerBuilder<Vec<Entry<Cycle>>>;
    forecasts.unary::<Out, _, _, _>(Pipeline, "Keep background", move |_, _| {
        move |input, output| {
            input.for_each(|cap, batch| {
                for time in cap.stamp().elements() {
                    let first = settings.first_open(time.known + 1);
                    for shard in batch.shards.drain(..).filter(|s| s.key == first) {
                        let mut session = output.session(&cap);
                        let values = shard.elements::<f64>().chunks_exact(width);
                        for (row, values) in rows.clone().zip(values) {
                            let row = Entry::put(*time, BACKGROUND, &(row as u64), &values)
                                .unwrap_or_else(|e| panic!("Keep background: {e}"));
                            session.give(row);
                        }
                    }
                }
            });
        }
    })
}

/// A predictor whose first background is one that was [`kept`].
pub struct Resumed {
    predictor: Rc<dyn Predictor>,
    rows: BTreeMap<u64, Vec<f64>>,
}

impl Resumed {
    /// `predictor`, from the background in `saved` on.
    ///
    /// # Errors
    /// If rows are missing or have another size than `settings` say: the snapshot is of another job.
    pub fn try_new(
        predictor: Rc<dyn Predictor>,
        saved: &Saved,
        settings: &Settings,
    ) -> Result<Self> {
        let width = settings.grid.columns() * settings.members;
        let mut rows = BTreeMap::new();
        for row in saved.get_all::<u64, Vec<f64>>(BACKGROUND) {
            let (row, values) = row?;
            rows.insert(row, values);
        }
        let fits = rows.values().all(|values| values.len() == width);
        if rows.len() != settings.grid.rows() || !fits {
            return Err(EngineError::Snapshot {
                path: format!("state of {BACKGROUND}"),
                why: format!(
                    "has {} rows, and not one of {width} values for each of the {} rows of the \
                     grid; start anew without resuming",
                    rows.len(),
                    settings.grid.rows()
                ),
            });
        }
        Ok(Resumed { predictor, rows })
    }
}

impl Predictor for Resumed {
    fn start(&self, rows: Range<usize>) -> Vec<f64> {
        let rows = self.rows.range(rows.start as u64..rows.end as u64);
        rows.flat_map(|(_, values)| values.iter().copied())
            .collect()
    }

    fn next(&self, to: u64, rows: Range<usize>, analysis: &[f64]) -> Vec<f64> {
        self.predictor.next(to, rows, analysis)
    }
}
