//! Plans as text and as Graphviz.

use std::fmt::Write;

use super::page::dotted;
use super::plan::{Plan, PlanEdge, PlanNode};

impl Plan {
    /// The graph as indented text: each operator with its index, below it where its output goes,
    /// what that carries and, where known, the bytes that leave the busiest worker and all of them
    /// per time and tensor.
    pub fn to_text(&self) -> String {
        let mut out = format!("{} workers\n", self.workers);
        for node in &self.nodes {
            let depth = node.address.len() - 1;
            let pad = "  ".repeat(depth);
            // writing to a string does not fail
            let _ = match node.address.split_last() {
                Some((index, scope)) if !scope.is_empty() => {
                    writeln!(out, "{pad}{index} {}", node.name)
                }
                _ => writeln!(out, "{}", node.name),
            };
            for edge in self.edges.iter().filter(|e| e.from.0 == node.address) {
                let to = self.node(&edge.to.0).map_or("", |n| n.name.as_str());
                let at = match (edge.from.0.split_last(), edge.to.0.split_last()) {
                    (Some((_, a)), Some((index, b))) if a == b => index.to_string(),
                    _ => dotted(&edge.to.0),
                };
                let _ = writeln!(out, "{pad}  -> {at} {to}: {}", self.label(edge));
            }
        }
        out
    }

    /// The graph in Graphviz' language, scopes as boxes around their operators.
    pub fn to_dot(&self) -> String {
        let mut out = String::from(
            "digraph plan {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans\"];\n  \
             edge [fontname=\"sans\", fontsize=10];\n",
        );
        for root in self.nodes.iter().filter(|n| n.address.len() == 1) {
            self.cluster(&mut out, root);
        }
        for edge in &self.edges {
            let heavy = self.bytes(edge).iter().any(|&b| b > 0);
            let _ = writeln!(
                out,
                "  {} -> {} [label={}{}];",
                id(&edge.from.0),
                id(&edge.to.0),
                quoted(&self.label(edge)),
                if heavy { ", penwidth=2" } else { "" }
            );
        }
        out.push_str("}\n");
        out
    }

    fn cluster(&self, out: &mut String, scope: &PlanNode) {
        let depth = scope.address.len();
        let pad = "  ".repeat(depth);
        let _ = writeln!(
            out,
            "{pad}subgraph cluster_{} {{\n{pad}  label={};",
            id(&scope.address),
            quoted(&scope.name)
        );
        let inside = self
            .nodes
            .iter()
            .filter(|n| n.address.len() == depth + 1 && n.address.starts_with(&scope.address));
        for node in inside {
            if node.scope {
                self.cluster(out, node);
            } else {
                let _ = writeln!(
                    out,
                    "{pad}  {} [label={}];",
                    id(&node.address),
                    quoted(&node.name)
                );
            }
        }
        let _ = writeln!(out, "{pad}}}");
    }

    fn label(&self, edge: &PlanEdge) -> String {
        let bytes = self.bytes(edge);
        match bytes.iter().max() {
            Some(&most) => format!(
                "{}, {} a worker, {} in all",
                edge.carries,
                size(most),
                size(bytes.iter().sum())
            ),
            None => edge.carries.clone(),
        }
    }
}

fn id(address: &[usize]) -> String {
    format!("n{}", dotted(address).replace('.', "_"))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Bytes with a binary unit: `1.5 MiB`.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = "B";
    while let (true, Some(next)) = (value >= 1024.0, units.clone().next()) {
        units.next();
        (value, unit) = (value / 1024.0, next);
    }
    let digits = usize::from(unit != "B" && value < 100.0);
    format!("{value:.digits$} {unit}")
}
