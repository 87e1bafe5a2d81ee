//! The part of a graph that a backward sweep passes through.

use crate::error::{EngineError, Result};
use crate::graph::build::{Kind, Node};
use crate::graph::{Graph, Value};

/// Which values have a cotangent, for given seeds and wanted derivatives.
#[derive(Debug, Clone)]
pub(crate) struct Sweep {
    active: Vec<bool>,
}

impl Sweep {
    /// Plans the sweep from `seeds` to `wrt`.
    ///
    /// # Errors
    /// [`EngineError::NoAdjoint`] if a wanted value does not reach any seed by differentiable
    /// operators, or a relayout on the way has no adjoint: a gradient is never cut in silence.
    pub(crate) fn plan(graph: &Graph, seeds: &[Value], wrt: &[Value]) -> Result<Self> {
        let n = graph.values.len();
        let (mut needed, mut reached) = (vec![false; n], vec![false; n]);
        for &v in wrt {
            needed[v.0] = graph.spec(v).is_real();
        }
        for node in &graph.nodes {
            if (0..node.inputs.len()).any(|i| needed[node.inputs[i].0] && passes(node, i)) {
                for &out in &node.outputs {
                    needed[out.0] |= graph.spec(out).is_real();
                }
            }
        }
        for &v in seeds {
            reached[v.0] = needed[v.0];
        }
        for node in graph.nodes.iter().rev() {
            if node.outputs.iter().any(|v| reached[v.0]) {
                for (i, &input) in node.inputs.iter().enumerate() {
                    if needed[input.0] && passes(node, i) {
                        reached[input.0] = true;
                        check(graph, node, input)?;
                    }
                }
            }
        }
        for &v in wrt {
            if !reached[v.0] {
                return Err(EngineError::NoAdjoint {
                    what: format!("'{}'", graph.values[v.0].name),
                    why: "no differentiable path leads from it to an output with a cotangent; \
                          connect it, or do not ask for its derivative"
                        .to_owned(),
                });
            }
        }
        Ok(Sweep { active: reached })
    }

    /// Whether `value` has a cotangent.
    pub(crate) fn has(&self, value: Value) -> bool {
        self.active[value.0]
    }

    /// Which inputs of `node` its adjoint answers.
    pub(crate) fn wanted(&self, node: &Node) -> Vec<bool> {
        let inputs = node.inputs.iter().enumerate();
        let comes = node.outputs.iter().any(|&v| self.has(v));
        inputs
            .map(|(i, &v)| comes && self.has(v) && passes(node, i))
            .collect()
    }
}

/// Whether derivatives pass through input `i` of a node.
fn passes(node: &Node, i: usize) -> bool {
    match &node.kind {
        Kind::Apply(operator) => operator.differentiable(i),
        // what says when it moves is not moved
        Kind::Relayout { .. } => i == 0,
        Kind::Source { .. } => false,
    }
}

/// An error if a cotangent on the way through `node` to `input` has no layout.
fn check(graph: &Graph, node: &Node, input: Value) -> Result<()> {
    let real = node.outputs.iter().filter(|&&v| graph.spec(v).is_real());
    for &v in real.chain([&input]) {
        graph.spec(v).dual().map_err(|e| EngineError::NoAdjoint {
            what: format!("'{}'", node.name),
            why: e.to_string(),
        })?;
    }
    Ok(())
}
