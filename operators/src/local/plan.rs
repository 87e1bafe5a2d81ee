//! What a sweep has to pass: what lies between its seeds and the wanted nodes.

use super::operation::Operation;
use super::tape::{Handle, Node};

/// A sweep before it runs.
#[derive(Debug)]
pub(super) struct Plan {
    /// Nodes with a path from a wanted one.
    leads: Vec<bool>,
    /// Nodes with a path to a seed.
    reached: Vec<bool>,
    /// Wanted nodes, by their places in the list of wanted ones, at the node whose adjoint completes them.
    due: Vec<Vec<usize>>,
    /// Wanted nodes that are complete from the beginning.
    pub(super) at_once: Vec<usize>,
}

/// Where the adjoint of a node is worked: the results of a segment are worked together, at the first.
fn works_at(nodes: &[Node], at: usize) -> usize {
    match &nodes[at].operation {
        Operation::Segment { part, .. } => at - part,
        _ => at,
    }
}

impl Plan {
    /// Nodes after the last seed have no part in it.
    pub(super) fn new(nodes: &[Node], seeds: &[Handle], wanted: &[Handle]) -> Self {
        let end = seeds.iter().map(|h| h.0 + 1).max().unwrap_or(0);
        let mut plan = Plan {
            leads: vec![false; nodes.len()],
            reached: vec![false; nodes.len()],
            due: vec![Vec::new(); nodes.len()],
            at_once: Vec::new(),
        };
        for h in wanted {
            plan.leads[h.0] = nodes[h.0].dtype.is_float();
        }
        for (at, node) in nodes.iter().enumerate().take(end) {
            plan.leads[at] |= (0..node.inputs.len()).any(|i| plan.follows(node, i));
        }
        for h in seeds {
            plan.reached[h.0] = true;
        }
        let mut completes: Vec<Option<usize>> = vec![None; nodes.len()];
        for (at, node) in nodes.iter().enumerate().take(end).rev() {
            if !plan.passes(at) {
                continue;
            }
            for (i, input) in node.inputs.iter().enumerate() {
                if plan.follows(node, i) {
                    plan.reached[input.0] = true;
                    let at = works_at(nodes, at);
                    completes[input.0] = Some(completes[input.0].map_or(at, |c| c.min(at)));
                }
            }
        }
        for (place, h) in wanted.iter().enumerate() {
            match completes[h.0] {
                _ if !plan.passes(h.0) => {}
                Some(at) => plan.due[at].push(place),
                None => plan.at_once.push(place),
            }
        }
        plan
    }

    /// Whether the derivative goes on through input `i` of a node.
    pub(super) fn follows(&self, node: &Node, i: usize) -> bool {
        self.leads[node.inputs[i].0] && node.dtype.is_float() && node.operation.differentiable(i)
    }

    /// Whether a cotangent comes to the node, and is wanted there or below.
    pub(super) fn passes(&self, at: usize) -> bool {
        self.leads[at] && self.reached[at]
    }

    /// The wanted nodes that are complete when the adjoint of node `at` was worked.
    pub(super) fn due(&self, at: usize) -> &[usize] {
        &self.due[at]
    }
}
