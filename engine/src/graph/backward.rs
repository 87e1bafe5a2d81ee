//! The mirrored dataflow: adjoints in the place of operators, from the outputs to the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Stream;

use crate::error::{EngineError, Result};
use crate::graph::adjoint::Work;
use crate::graph::build::{Kind, Node, Rate};
use crate::graph::collect::sum;
use crate::graph::remake::Remade;
use crate::graph::sweep::Sweep;
use crate::graph::wire::{Streams, Wired, unknown};
use crate::graph::{Graph, Moment, Value};
use crate::relayout::relayout_watched;
use crate::shard::Batch;

/// Cotangents of one value, by the use they come from: node and input, seeds last.
type Uses<'s, T> = BTreeMap<(usize, usize), (Stream<'s, T, Batch>, bool)>;

impl Graph {
    /// Wires the adjoint of the graph: from cotangents of outputs (`seeds`, in the dual layouts of
    /// the outputs) to cotangents of the sources named in `wrt`, in the dual of their layouts.
    ///
    /// A cotangent of an input comes at the moment and key of the input. That of a parameter comes
    /// once a version, at its last moment, when the frontier of the seeds has passed the version:
    /// the source of the data advances its time before it waits for a gradient.
    ///
    /// What an operator kept is freed when its adjoint has worked, or when the frontier has passed
    /// and no cotangent has come.
    ///
    /// # Errors
    /// [`EngineError::NoAdjoint`] if a derivative is cut on its way, [`EngineError::Operator`] if
    /// a name is unknown.
    pub fn backward<'s, T: Moment>(
        &self,
        wired: &Wired<'s, T>,
        seeds: Streams<'s, T>,
        wrt: &[&str],
    ) -> Result<Streams<'s, T>> {
        let ends: BTreeMap<&str, Value> = self.outputs().collect();
        let sources: BTreeMap<&str, Value> = self.sources().collect();
        let find = |among: &BTreeMap<&str, Value>, name: &str| {
            let names: BTreeSet<&str> = among.keys().copied().collect();
            among
                .get(name)
                .copied()
                .ok_or_else(|| unknown(name, &names))
        };
        let mut uses: Vec<Uses<'s, T>> = (0..self.values.len()).map(|_| Uses::new()).collect();
        let mut from = Vec::new();
        for (port, (name, stream)) in seeds.into_iter().enumerate() {
            let value = find(&ends, &name)?;
            from.push(value);
            uses[value.0].insert((usize::MAX, port), (stream, false));
        }
        let asked: BTreeSet<&str> = wrt.iter().copied().collect();
        let to: Vec<Value> = asked
            .iter()
            .map(|name| find(&sources, name))
            .collect::<Result<_>>()?;
        let sweep = Sweep::plan(self, &from, &to)?;
        let reduced = self.reduced(&sweep);
        let mut mirror = Mirror {
            graph: self,
            wired,
            sweep,
            reduced,
            uses,
            remade: Remade::default(),
        };
        for (at, node) in self.nodes.iter().enumerate().rev() {
            mirror.node(at, node)?;
        }
        let named = asked.iter().zip(&to);
        named
            .map(|(name, &value)| Ok(((*name).to_owned(), mirror.collected(value, true)?)))
            .collect()
    }
}

/// A backward sweep that is being wired.
struct Mirror<'a, 's, T: Moment> {
    graph: &'a Graph,
    wired: &'a Wired<'s, T>,
    sweep: Sweep,
    /// Relayouts that reduce at every moment, by the last node that gives them something.
    reduced: BTreeMap<usize, usize>,
    uses: Vec<Uses<'s, T>>,
    remade: Remade<'s, T>,
}

impl<'s, T: Moment> Mirror<'_, 's, T> {
    /// Wires the adjoint of one node.
    fn node(&mut self, at: usize, node: &Node) -> Result<()> {
        let graph = self.graph;
        let wanted = self.sweep.wanted(node);
        if !wanted.contains(&true) {
            return Ok(());
        }
        let held = graph.held(node);
        match &node.kind {
            Kind::Source { .. } => {}
            Kind::Relayout { back, rate, .. } => {
                let back = back.as_ref().ok_or_else(|| EngineError::NoAdjoint {
                    what: format!("'{}'", node.name),
                    why: "its layouts have no dual".to_owned(),
                })?;
                let once = *rate != Rate::Back;
                let whole = self.cotangent(node.outputs[0], once)?;
                let stream = self.edge(whole, at, 0);
                let watch = self
                    .reduced
                    .get(&at)
                    .map(|&node| self.wired.reducing.arrivals(node));
                let home = (relayout_watched(stream, back, watch), held && once);
                self.uses[node.inputs[0].0].insert((at, 0), home);
            }
            Kind::Apply(operator) => {
                let mut ports = Vec::new();
                for (i, &v) in node.outputs.iter().enumerate() {
                    if self.sweep.has(v) {
                        let whole = self.cotangent(v, true)?;
                        ports.push((i, self.edge(whole, at, i)));
                    }
                }
                let (first, again) = match node.remade {
                    Some(_) => (self.remade.keeps.remove(&at), Vec::new()),
                    None => (
                        self.wired.keeps[at].clone(),
                        self.again(node, operator.keeps())?,
                    ),
                };
                let keeps = first.ok_or_else(|| late(&node.name))?;
                let site = graph.site(node, keeps.scope().index());
                let admission = self.wired.admission.of(&site, held, at);
                let defers = admission.as_ref().is_some_and(|a| a.defers());
                let late = match defers && operator.separable() {
                    true => node
                        .inputs
                        .iter()
                        .map(|v| graph.of_parameters(*v))
                        .collect(),
                    false => vec![false; node.inputs.len()],
                };
                let reduces = node.inputs.iter().zip(&wanted).enumerate();
                let reduces = reduces.map(|(i, (v, wanted))| {
                    let last = self.reduced.get(&graph.values[v.0].maker) == Some(&at);
                    *wanted && last && !node.inputs[..i].contains(v)
                });
                let reduces = reduces.collect();
                let work = Work {
                    operator: Arc::clone(operator),
                    at,
                    reduces,
                    reducing: Rc::clone(&self.wired.reducing),
                    wanted,
                    late,
                    held,
                    admission,
                    site,
                };
                let made = work.wire(keeps, ports, again).into_iter().enumerate();
                for (i, stream) in made.filter_map(|(i, stream)| Some((i, stream?))) {
                    self.uses[node.inputs[i].0].insert((at, i), (stream, held));
                }
            }
        }
        Ok(())
    }

    /// A stream on its way to the adjoint of node `at`.
    fn edge(&self, stream: Stream<'s, T, Batch>, at: usize, port: usize) -> Stream<'s, T, Batch> {
        let way = 1 << 40 | (at as u64) << 8 | port as u64;
        self.wired.delivery.deliver(stream, way)
    }

    /// What is made again of the inputs that an adjoint needs.
    fn again(&self, node: &Node, needs: &[usize]) -> Result<Vec<(usize, Stream<'s, T, Batch>)>> {
        let inputs = needs.iter().map(|&i| (i, node.inputs[i]));
        let remade = inputs.filter(|(_, v)| self.graph.comes_again(*v));
        remade
            .map(|(i, v)| match self.remade.values.get(&v) {
                Some(stream) => Ok((i, stream.clone())),
                None => Err(late(&node.name)),
            })
            .collect()
    }

    /// The whole cotangent of a value, at which others are made again.
    fn cotangent(&mut self, value: Value, once: bool) -> Result<Stream<'s, T, Batch>> {
        let whole = self.collected(value, once)?;
        let (graph, wired) = (self.graph, self.wired);
        graph.wire_again(wired, value, &whole, &mut self.remade)?;
        Ok(whole)
    }

    /// The whole cotangent of a value; of one that is held, once a version if `once`.
    fn collected(&mut self, value: Value, once: bool) -> Result<Stream<'s, T, Batch>> {
        let parts = std::mem::take(&mut self.uses[value.0]);
        let tensor = &self.graph.values[value.0];
        let held = tensor.held && once;
        let by_version = held && parts.values().any(|(_, held)| !held);
        // the last use comes first on the way back
        let streams = parts.into_values().rev().map(|(stream, _)| stream);
        let mut streams: Vec<_> = streams.collect();
        match (streams.pop(), streams.is_empty()) {
            (Some(only), true) if !by_version => Ok(only),
            (Some(first), _) => {
                streams.push(first);
                Ok(sum(&tensor.name, streams, tensor.spec.dual()?, held))
            }
            (None, _) => Err(EngineError::NoAdjoint {
                what: format!("'{}'", tensor.name),
                why: "no cotangent reaches it".to_owned(),
            }),
        }
    }
}

/// What an adjoint needs is made again after it.
fn late(name: &str) -> EngineError {
    EngineError::NoAdjoint {
        what: format!("'{name}'"),
        why:
            "what it needs is made again at a cotangent that comes later, or never; name one that \
              comes before"
                .to_owned(),
    }
}
