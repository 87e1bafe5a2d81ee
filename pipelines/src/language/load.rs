//! Batches as streams: each worker cuts its own pieces from the text, and nothing is sent.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use advect_engine::graph::{Spec, Streams};
use advect_engine::source::Pace;
use advect_engine::{Batch, EngineError, Graph, Shard, Tick};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

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
    /// The first step.
    pub(crate) begin: u64,
    /// No step from this one on.
    pub(crate) end: Rc<Cell<u64>>,
}

impl<S: FnMut(u64) -> Vec<Starts> + 'static> Loader<S> {
    /// The pieces of `tokens` and `targets` of `graph` on this worker, step after step as `pace` allows.
    pub(crate) fn wire<'s>(
        mut self,
        scope: Scope<'s, Tick>,
        name: &str,
        graph: &Graph,
        pace: &Pace<Tick>,
    ) -> Result<Streams<'s, Tick>, EngineError> {
        let cuts = [TOKENS, TARGETS].map(|name| Cut::new(graph, name, scope.index()));
        let [tokens, targets] = cuts;
        let cuts = [(tokens?, 0), (targets?, 1)];
        let mut builder = OperatorBuilder::new(name.to_owned(), scope);
        let wake = scope.activator_for(builder.operator_info().address);
        let (mut outputs, mut streams) = (Vec::new(), Streams::new());
        for name in [TOKENS, TARGETS] {
            let (output, stream) = builder.new_output::<Batch>();
            outputs.push(OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(
                output,
            ));
            streams.insert(name.to_owned(), stream);
        }
        let pace = pace.clone();
        builder.build(move |capabilities| {
            wake.activate();
            let mut now = Some(capabilities);
            let mut step = self.begin;
            for cap in now.iter_mut().flatten() {
                cap.downgrade(&Tick::new(step, 0));
            }
            move |_| {
                while let Some(capabilities) = &mut now {
                    if step >= self.end.get() {
                        now = None;
                        break;
                    }
                    if !pace.ready(&Tick::new(step, 0), &wake) {
                        break;
                    }
                    for (micro, starts) in (0..).zip((self.samples)(step)) {
                        let time = Tick::new(step, micro);
                        for ((cut, shift), (output, cap)) in
                            cuts.iter().zip(outputs.iter_mut().zip(capabilities.iter()))
                        {
                            let piece = cut.piece((*self.text).as_ref(), &starts, *shift);
                            output.activate().session(&cap.delayed(&time)).give(piece);
                        }
                    }
                    step += 1;
                    for cap in capabilities.iter_mut() {
                        cap.downgrade(&Tick::new(step, 0));
                    }
                }
            }
        });
        Ok(streams)
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
