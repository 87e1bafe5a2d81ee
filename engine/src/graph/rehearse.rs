//! A graph on all workers in one thread: the reference of the dataflow, with tangents.

use std::collections::BTreeMap;

use crate::error::{EngineError, Result};
use crate::graph::adjoint::transposed;
use crate::graph::build::{Kind, Node};
use crate::graph::forward::{checked, expect};
use crate::graph::sweep::Sweep;
use crate::graph::{Graph, Saved, Site, Value};
use crate::shard::Shard;

/// The pieces of one tensor, by worker.
type Pieces = Vec<Shard>;

/// A graph at one point: the values of all its tensors on all workers.
#[derive(Debug)]
pub struct Rehearsal<'g> {
    graph: &'g Graph,
    values: Vec<Pieces>,
    /// What each node kept on each worker.
    saved: Vec<Vec<Saved>>,
    moment: [u64; 2],
    key: u64,
}

/// Cotangents of values, by value.
pub type Transposed = BTreeMap<Value, Vec<Shard>>;

impl Graph {
    /// Computes the graph on all workers at the given moment and key; `sources` holds the pieces of every
    /// source.
    ///
    /// # Errors
    /// If a source is missing or an operator fails.
    pub fn rehearse(
        &self,
        sources: &BTreeMap<String, Vec<Shard>>,
        moment: [u64; 2],
        key: u64,
    ) -> Result<Rehearsal<'_>> {
        let mut now = Rehearsal {
            graph: self,
            values: Vec::new(),
            saved: Vec::new(),
            moment,
            key,
        };
        for node in &self.nodes {
            let mut saved = Vec::new();
            match &node.kind {
                Kind::Source { .. } => {
                    let pieces = sources
                        .get(&node.name)
                        .ok_or_else(|| EngineError::Operator {
                            operator: node.name.clone(),
                            why: "the source has no pieces; give one per worker".to_owned(),
                        })?;
                    now.values.push(pieces.clone());
                }
                Kind::Relayout { there, .. } => {
                    now.values.push(there.apply(&now.values[node.inputs[0].0])?);
                }
                Kind::Apply(operator) => {
                    let mut made = vec![Vec::new(); node.outputs.len()];
                    for worker in 0..self.mesh.workers() {
                        let site = now.site(node, worker);
                        let inputs = now.on(worker, &node.inputs);
                        let (outputs, mut kept) = checked(&**operator, &site, &inputs)?;
                        kept.hold(operator.keeps(), &inputs, |_| true);
                        saved.push(kept);
                        for (pieces, shard) in made.iter_mut().zip(outputs) {
                            pieces.push(shard);
                        }
                    }
                    now.values.extend(made);
                }
            }
            now.saved.push(saved);
        }
        Ok(now)
    }
}

impl Rehearsal<'_> {
    /// The pieces of a value, by worker.
    pub fn value(&self, value: Value) -> &[Shard] {
        &self.values[value.0]
    }

    fn site(&self, node: &Node, worker: usize) -> Site {
        let mut site = self.graph.site(node, worker);
        (site.moment, site.key) = (self.moment, self.key);
        site
    }

    fn on(&self, worker: usize, values: &[Value]) -> Vec<Shard> {
        values
            .iter()
            .map(|v| self.values[v.0][worker].clone())
            .collect()
    }

    fn zeros(&self, value: Value) -> Pieces {
        let workers = 0..self.graph.mesh.workers();
        workers
            .map(|w| self.graph.spec(value).zero(&self.graph.mesh, w, 0))
            .collect()
    }

    /// The derivative of all values along a change of the sources; sources that are not named do
    /// not change.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn tangent(&self, changes: &BTreeMap<String, Vec<Shard>>) -> Result<Vec<Vec<Shard>>> {
        let mut tangents: Vec<Pieces> = Vec::new();
        for (at, node) in self.graph.nodes.iter().enumerate() {
            match &node.kind {
                Kind::Source { .. } => {
                    let change = changes.get(&node.name).cloned();
                    tangents.push(change.unwrap_or_else(|| self.zeros(node.outputs[0])));
                }
                Kind::Relayout { there, .. } => {
                    tangents.push(there.apply(&tangents[node.inputs[0].0])?);
                }
                Kind::Apply(operator) => {
                    let mut made = vec![Vec::new(); node.outputs.len()];
                    for (worker, saved) in self.saved[at].iter().enumerate() {
                        let site = self.site(node, worker);
                        let changes: Vec<Shard> = node
                            .inputs
                            .iter()
                            .map(|v| tangents[v.0][worker].clone())
                            .collect();
                        let outputs = match site.absent {
                            true => site.nothing(),
                            false => operator.tangent(&site, saved, &changes)?,
                        };
                        expect(&site, &site.outputs, &outputs, "tangent of output")?;
                        for (pieces, shard) in made.iter_mut().zip(outputs) {
                            pieces.push(shard);
                        }
                    }
                    tangents.extend(made);
                }
            }
        }
        Ok(tangents)
    }

    /// Cotangents of the values `wrt` from cotangents of other values, in their dual layouts. What
    /// meets is added from the last use to the first, as in the dataflow.
    ///
    /// # Errors
    /// [`EngineError::NoAdjoint`] if a derivative is cut on its way, or if an operator fails.
    pub fn adjoint(&self, seeds: &Transposed, wrt: &[Value]) -> Result<Transposed> {
        let from: Vec<Value> = seeds.keys().copied().collect();
        let sweep = Sweep::plan(self.graph, &from, wrt)?;
        let mut uses: Vec<BTreeMap<(usize, usize), Pieces>> =
            vec![BTreeMap::new(); self.graph.values.len()];
        for (value, pieces) in seeds {
            uses[value.0].insert((usize::MAX, 0), pieces.clone());
        }
        let mut found = Transposed::new();
        for (at, node) in self.graph.nodes.iter().enumerate().rev() {
            let mut cotangents = Vec::new();
            for &v in &node.outputs {
                let whole = self.collected(v, std::mem::take(&mut uses[v.0]))?;
                if let (Some(whole), true) = (&whole, wrt.contains(&v)) {
                    found.insert(v, whole.clone());
                }
                cotangents.push(whole.filter(|_| sweep.has(v)));
            }
            let wanted = sweep.wanted(node);
            if !wanted.contains(&true) {
                continue;
            }
            match (&node.kind, cotangents.as_slice()) {
                (
                    Kind::Relayout {
                        back: Some(back), ..
                    },
                    [Some(whole)],
                ) => {
                    uses[node.inputs[0].0].insert((at, 0), back.apply(whole)?);
                }
                (Kind::Apply(operator), _) => {
                    for worker in 0..self.graph.mesh.workers() {
                        let site = self.site(node, worker);
                        let part = |c: &Option<Pieces>| c.as_ref().map(|p| p[worker].clone());
                        let parts = cotangents.iter().map(part).collect();
                        let saved = &self.saved[at][worker];
                        let answers = transposed(&**operator, &site, saved, parts, &wanted)?;
                        for (i, answer) in answers.into_iter().enumerate() {
                            if let Some(answer) = answer {
                                uses[node.inputs[i].0]
                                    .entry((at, i))
                                    .or_default()
                                    .push(answer);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn collected(
        &self,
        value: Value,
        uses: BTreeMap<(usize, usize), Pieces>,
    ) -> Result<Option<Pieces>> {
        let mut parts = uses.into_values().rev();
        let Some(mut whole) = parts.next() else {
            return Ok(None);
        };
        let spec = self.graph.spec(value).dual()?;
        for part in parts {
            let pairs = whole.into_iter().zip(part);
            whole = pairs.map(|(sum, more)| spec.add(sum, more)).collect();
        }
        Ok(Some(whole))
    }
}
