//! Batches as streams: each worker cuts its own pieces from the text, and nothing is sent.

use std::collections::BTreeMap;
use std::rc::Rc;

use advect_engine::graph::{Spec, Streams};
use advect_engine::{EngineError, Graph, Shard, Tick};
use timely::dataflow::Scope;

use crate::training::batches::{self, Steps};

/// The inputs of a graph, by the names it has for them.
pub(crate) const TOKENS: &str = "tokens";
pub(crate) const TARGETS: &str = "targets";

/// Samples of one micro-batch: the first token of each window, `None` where there is no sample.
pub(crate) type Starts = Vec<Option<usize>>;

/// What a stream of batches is made of.
pub(crate) struct Loader<S> {
    /// The text.
    pub(crate) text: Rc<dyn AsRef<[u8]>>,
    /// Micro-batches of a step; empty if it has none.
    pub(crate) samples: S,
}

impl<S: FnMut(u64) -> Vec<Starts> + 'static> Loader<S> {
    /// The pieces of `tokens` and `targets` of `graph` on this worker, step after step.
    pub(crate) fn wire<'s>(
        mut self,
        scope: Scope<'s, Tick>,
        name: &str,
        graph: &Graph,
        steps: Steps,
    ) -> Result<Streams<'s, Tick>, EngineError> {
        let cuts = [TOKENS, TARGETS].map(|name| Cut::new(graph, name, scope.index()));
        let [tokens, targets] = cuts;
        let cuts = [(tokens?, 0), (targets?, 1)];
        let text = self.text;
        let names = [TOKENS, TARGETS];
        Ok(batches::wire(scope, name, &names, steps, move |step| {
            let pieces = |starts: &Starts| {
                let piece =
                    |(cut, shift): &(Cut, usize)| cut.piece((*text).as_ref(), starts, *shift);
                cuts.iter().map(piece).collect()
            };
            (self.samples)(step).iter().map(pieces).collect()
        }))
    }
}

/// Which samples and positions of `[samples, context]` this worker holds.
struct Cut {
    shape: Vec<usize>,
    rows: Vec<usize>,
    columns: Vec<usize>,
}

impl Cut {
    fn new(graph: &Graph, name: &str, worker: usize) -> Result<Self, EngineError> {
        let sources: BTreeMap<&str, _> = graph.sources().collect();
        let spec: &Spec = match sources.get(name) {
            Some(value) => graph.spec(*value),
            None => {
                return Err(EngineError::Operator {
                    operator: "Load".to_owned(),
                    why: format!("the graph has no input '{name}'"),
                });
            }
        };
        let mesh = graph.mesh();
        let mut indices = spec.layout.indices(mesh, &spec.shape, worker);
        let columns = indices.pop().unwrap_or_default();
        Ok(Cut {
            shape: spec.local_shape(mesh, worker),
            rows: indices.pop().unwrap_or_default(),
            columns,
        })
    }

    /// The piece of a micro-batch; `shift` is 0 for tokens and 1 for what follows each.
    fn piece(&self, text: &[u8], starts: &Starts, shift: usize) -> Shard {
        let mut numbers: Vec<i64> = Vec::with_capacity(self.rows.len() * self.columns.len());
        // no sample: some token without a target
        let none = if shift == 0 { 0 } else { -1 };
        for &row in &self.rows {
            let start = starts.get(row).copied().flatten();
            numbers.extend(self.columns.iter().map(|column| {
                match start {
                    Some(start) => text
                        .get(start + column + shift)
                        .map_or(none, |t| i64::from(*t)),
                    None => none,
                }
            }));
        }
        Shard::new(0, self.shape.clone(), numbers.into())
    }
}
