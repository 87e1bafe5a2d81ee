//! A graph before it runs: tensors, layouts, bytes per worker and per edge, as text and for dot.

use std::fmt::{self, Write};

use crate::graph::build::{Kind, Node};
use crate::graph::{Graph, Value};
use crate::relayout::Relayout;

impl Graph {
    /// Bytes that `worker` sends to others in the relayouts of one forward pass.
    pub fn bytes_sent(&self, worker: usize) -> usize {
        self.relayouts()
            .map(|(there, _)| there.bytes_sent(worker))
            .sum()
    }

    /// Bytes that `worker` sends to others in the adjoints of all relayouts, and in those that are made
    /// again for them.
    pub fn bytes_sent_back(&self, worker: usize) -> usize {
        let back = self.relayouts().filter_map(|(_, back)| back);
        let back: usize = back.map(|plan| plan.bytes_sent(worker)).sum();
        let again = self.moves_again().map(|(_, plan)| plan.bytes_sent(worker));
        back + again.sum::<usize>()
    }

    /// Collectives that `worker` takes part in at one moment, on the way forward and on the way back: relayouts
    /// of what comes at the moments in which it sends or receives. Those of parameters are not counted.
    pub fn collectives(&self, worker: usize) -> [usize; 2] {
        let moves = |plan: &Relayout| plan.bytes_sent(worker) + plan.bytes_received(worker) > 0;
        let moments = self
            .nodes
            .iter()
            .filter(|n| !self.of_parameters(n.outputs[0]));
        let mut count = [0, 0];
        for node in moments {
            if let Kind::Relayout { there, back, .. } = &node.kind {
                count[0] += usize::from(moves(there));
                count[1] += usize::from(back.as_deref().is_some_and(moves));
            }
        }
        let again = self.moves_again();
        let of_moments = again.filter(|(value, _)| !self.of_parameters(*value));
        count[1] += of_moments.filter(|(_, plan)| moves(plan)).count();
        count
    }

    /// Bytes of the pieces of all parameters on `worker`.
    pub fn parameter_bytes(&self, worker: usize) -> usize {
        self.parameters()
            .map(|(_, v)| self.spec(v).bytes(&self.mesh, worker))
            .sum()
    }

    /// Bytes that `worker` keeps for the adjoint of one moment, at least: of what operators name in
    /// [`Operator::keeps`](crate::Operator::keeps), without parameters and what is made again.
    pub fn bytes_kept(&self, worker: usize) -> usize {
        let kept = self.kept_by(0);
        let values = kept.into_iter().map(|value| (value, &self.values[value.0]));
        let values = values.filter(|(value, known)| !known.held && !self.comes_again(*value));
        values
            .map(|(_, known)| known.spec.bytes(&self.mesh, worker))
            .sum()
    }

    fn relayouts(&self) -> impl Iterator<Item = (&Relayout, Option<&Relayout>)> {
        self.nodes.iter().filter_map(|n| match &n.kind {
            Kind::Relayout { there, back, .. } => Some((&**there, back.as_deref())),
            _ => None,
        })
    }

    /// The most that a worker has of something.
    fn most(&self, of: impl Fn(usize) -> usize) -> usize {
        (0..self.mesh.workers()).map(of).max().unwrap_or(0)
    }

    fn bytes_of(&self, value: Value) -> String {
        bytes(self.most(|w| self.spec(value).bytes(&self.mesh, w)))
    }

    /// What a node does, in a word or two.
    fn doing(&self, node: &Node) -> String {
        match &node.kind {
            Kind::Source { held: true } => "parameter".to_owned(),
            Kind::Source { held: false } => "input".to_owned(),
            Kind::Apply(operator) => {
                let full = format!("{operator:?}");
                let end = full.find([' ', '(', '{']).unwrap_or(full.len());
                full[..end].to_owned()
            }
            Kind::Relayout { there, back, .. } => {
                let sent = bytes(self.most(|w| there.bytes_sent(w)));
                match back {
                    Some(back) => {
                        let home = bytes(self.most(|w| back.bytes_sent(w)));
                        format!("sends {sent}, back {home}")
                    }
                    None => format!("sends {sent}, no way back"),
                }
            }
        }
    }

    /// The graph in the dot language of Graphviz: boxes work, edges carry tensors with their
    /// layouts and bytes per worker.
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph advect {\n  rankdir=LR;\n  node [shape=box];\n");
        let quoted = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"");
        for (at, node) in self.nodes.iter().enumerate() {
            let style = match &node.kind {
                Kind::Source { .. } => ", shape=ellipse",
                Kind::Relayout { .. } => ", style=dashed",
                Kind::Apply(_) => "",
            };
            let label = format!("{}\\n{}", quoted(&node.name), quoted(&self.doing(node)));
            // writing to a string does not fail
            let _ = writeln!(text, "  n{at} [label=\"{label}\"{style}];");
        }
        let maker = |v: &Value| self.nodes.iter().position(|n| n.outputs.contains(v));
        let mut edge = |from: &Value, to: String| {
            if let Some(maker) = maker(from) {
                let label = quoted(&format!("{} {}", self.spec(*from), self.bytes_of(*from)));
                let _ = writeln!(text, "  n{maker} -> {to} [label=\"{label}\"];");
            }
        };
        for (at, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                edge(input, format!("n{at}"));
            }
        }
        for (name, value) in &self.outputs {
            edge(value, format!("\"{}\"", quoted(name)));
        }
        text.push_str("}\n");
        text
    }
}

impl fmt::Display for Graph {
    /// One line a tensor; bytes are those of the worker that has most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self
            .mesh
            .names()
            .iter()
            .zip(self.mesh.sizes())
            .map(|(name, size)| format!("{name} {size}"))
            .collect();
        writeln!(f, "mesh: {}", axes.join(" x "))?;
        for node in &self.nodes {
            for &out in &node.outputs {
                let tensor = &self.values[out.0];
                let from: Vec<&str> = node
                    .inputs
                    .iter()
                    .map(|v| self.values[v.0].name.as_str())
                    .collect();
                let ends = self.outputs.iter().filter(|(_, v)| **v == out);
                let ends: Vec<String> = ends.map(|(name, _)| format!(" => {name}")).collect();
                writeln!(
                    f,
                    "{}{}: {} {} [{}]{}",
                    tensor.name,
                    if from.is_empty() {
                        String::new()
                    } else {
                        format!(" ({})", from.join(", "))
                    },
                    tensor.spec,
                    self.bytes_of(out),
                    self.doing(node),
                    ends.concat(),
                )?;
            }
        }
        let workers = |of: &dyn Fn(usize) -> usize| bytes(self.most(of));
        writeln!(
            f,
            "per worker at most: parameters {}, sent forward {}, sent back {}",
            workers(&|w| self.parameter_bytes(w)),
            workers(&|w| self.bytes_sent(w)),
            workers(&|w| self.bytes_sent_back(w)),
        )
    }
}

/// A number of bytes in the unit that suits it, powers of 1024.
fn bytes(n: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}
