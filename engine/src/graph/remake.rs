//! What comes a second time, on the way back.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::Stream;

use crate::error::Result;
use crate::graph::build::{Kind, Node};
use crate::graph::forward::{Keeps, Port, Work};
use crate::graph::gate::gate;
use crate::graph::offload::put_away;
use crate::graph::wire::Wired;
use crate::graph::{Graph, Moment, Value};
use crate::relayout::{Relayout, relayout};
use crate::shard::Batch;

/// What has come again: values, and by node what their makers kept.
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
    /// Wires again, in the order of the graph, what is made again at the cotangent of `when`, after what was put
    /// away until then: the first of it waits with its inputs for that.
    pub(crate) fn wire_again<'s, T: Moment>(
        &self,
        wired: &Wired<'s, T>,
        when: Value,
        cotangent: &Stream<'s, T, Batch>,
        remade: &mut Remade<'s, T>,
    ) -> Result<()> {
        for (&value, away) in self.away.iter().filter(|(_, away)| away.when == when) {
            let tensor = &self.values[value.0];
            let stream = wired.edge(value, 1 << 24 | tensor.maker, 0);
            let back = put_away(
                &tensor.name,
                stream,
                cotangent.clone(),
                wired.room(&away.directory),
            );
            remade.values.insert(value, back);
        }
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
                    let from = self.origin(node);
                    let stream = match port(0, from) {
                        (again, true) if self.returns(from) == Some(when) => again.stream,
                        (early, _) => gate(&node.name, early, cotangent.clone(), wired.kept()),
                    };
                    let moved = match from == node.inputs[0] {
                        true => relayout(stream, there),
                        false => relayout(stream, &self.straight(from, there)?),
                    };
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
                        yields: wired.yields(node),
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
        Ok(())
    }

    /// What a relayout that is made again moves: its input, or, where that is itself a move of something
    /// that will be made again later, what was moved there. All are one tensor.
    fn origin(&self, node: &Node) -> Value {
        let mut from = node.inputs[0];
        loop {
            let maker = &self.nodes[self.values[from.0].maker];
            let later = maker.remade.is_some_and(|when| Some(when) < node.remade);
            match &maker.kind {
                Kind::Relayout { .. } if later => from = maker.inputs[0],
                _ => return from,
            }
        }
    }

    /// The move of `from` to where `there` ends.
    fn straight(&self, from: Value, there: &Relayout) -> Result<Relayout> {
        self.spec(from).relayout(&self.mesh, there.to())
    }

    /// The moves that are made again, and what they give.
    pub(crate) fn moves_again(&self) -> impl Iterator<Item = (Value, Relayout)> {
        self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Relayout { there, .. } if node.remade.is_some() => {
                let again = self.straight(self.origin(node), there).ok()?;
                Some((node.outputs[0], again))
            }
            _ => None,
        })
    }
}
