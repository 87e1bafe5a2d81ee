//! What is made a second time, on the way back.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::Stream;

use crate::graph::build::Kind;
use crate::graph::forward::{Keeps, Port, Work};
use crate::graph::gate::gate;
use crate::graph::wire::Wired;
use crate::graph::{Graph, Moment, Value};
use crate::relayout::relayout;
use crate::shard::Batch;

/// What has been made again: values, and by node what their makers kept.
pub(crate) struct Remade<'s, T: Moment> {
    pub(crate) values: BTreeMap<Value, Stream<'s, T, Batch>>,
    pub(crate) keeps: BTreeMap<usize, Keeps<'s, T>>,
}

impl<T: Moment> Default for Remade<'_, T> {
    fn default() -> Self {
        Remade {
            values: BTreeMap::new(),
            keeps: BTreeMap::new(),
        }
    }
}

impl Graph {
    /// Wires again, in the order of the graph, what is made again at the cotangent of `when`: the first
    /// of it waits with its inputs for that.
    pub(crate) fn wire_again<'s, T: Moment>(
        &self,
        wired: &Wired<'s, T>,
        when: Value,
        cotangent: &Stream<'s, T, Batch>,
        remade: &mut Remade<'s, T>,
    ) {
        for (at, node) in self.nodes.iter().enumerate() {
            if node.remade != Some(when) {
                continue;
            }
            let port = |i: usize, v: Value| match remade.values.get(&v) {
                Some(stream) => (
                    Port {
                        stream: stream.clone(),
                        held: false,
                    },
                    true,
                ),
                None => {
                    let stream = wired.edge(v, 1 << 24 | at, i);
                    (
                        Port {
                            stream,
                            held: self.values[v.0].held,
                        },
                        false,
                    )
                }
            };
            match &node.kind {
                Kind::Source { .. } => {}
                Kind::Relayout { there, .. } => {
                    let stream = match port(0, node.inputs[0]) {
                        (again, true) => again.stream,
                        (first, false) => gate(&node.name, first, cotangent.clone(), wired.kept()),
                    };
                    let moved = relayout(stream, there);
                    remade.values.insert(node.outputs[0], moved);
                }
                Kind::Apply(operator) => {
                    let inputs = node.inputs.iter().enumerate();
                    let ports: Vec<_> = inputs.map(|(i, &v)| port(i, v).0).collect();
                    let site = self.site(node, cotangent.scope().index());
                    let work = Work {
                        operator: Arc::clone(operator),
                        site,
                        held: false,
                        admission: None,
                        gives: Some(vec![true; ports.len()]),
                        kept: wired.kept(),
                    };
                    let (outputs, keeps) = work.wire(ports, Some(cotangent.clone()));
                    remade
                        .values
                        .extend(node.outputs.iter().copied().zip(outputs));
                    remade.keeps.insert(at, keeps);
                }
            }
        }
    }
}
