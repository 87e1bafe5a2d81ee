//! The graph of a pipeline before it runs, as a table and as Graphviz.

use std::fmt::Write;

/// An operator of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique in the plan.
    pub name: String,
    /// What it does, in a few words.
    pub about: String,
    /// Bytes it holds on the worker that holds most.
    pub memory: u64,
}

/// What flows from one operator to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Name of the node it leaves.
    pub from: String,
    /// Name of the node it enters.
    pub to: String,
    /// What flows: records, tensor, layout.
    pub what: String,
    /// How it is routed: "pipeline", "by station", "to all".
    pub route: String,
    /// Bytes that leave the busiest worker in one cycle or step.
    pub bytes: u64,
}

/// The graph, and what it costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// One line: the pipeline, the fabric, the size of the problem.
    pub title: String,
    /// Operators in the order of the flow.
    pub nodes: Vec<Node>,
    /// Edges in the order of the flow.
    pub edges: Vec<Edge>,
    /// Lines of free text below the tables.
    pub notes: Vec<String>,
}

impl Plan {
    /// A plan without nodes.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    /// Adds an operator.
    #[must_use]
    pub fn node(mut self, name: &str, about: &str, memory: u64) -> Self {
        self.nodes.push(Node {
            name: name.to_owned(),
            about: about.to_owned(),
            memory,
        });
        self
    }

    /// Adds an edge between two operators.
    #[must_use]
    pub fn edge(mut self, from: &str, to: &str, what: &str, route: &str, bytes: u64) -> Self {
        self.edges.push(Edge {
            from: from.to_owned(),
            to: to.to_owned(),
            what: what.to_owned(),
            route: route.to_owned(),
            bytes,
        });
        self
    }

    /// Adds a line below the tables.
    #[must_use]
    pub fn note(mut self, line: impl Into<String>) -> Self {
        self.notes.push(line.into());
        self
    }

    /// The plan as tables of text.
    pub fn to_table(&self) -> String {
        let mut out = format!("{}\n\noperators\n", self.title);
        let width = self.nodes.iter().map(|n| n.name.len()).max().unwrap_or(0);
        for n in &self.nodes {
            let _ = writeln!(
                out,
                "  {:width$}  {:>10}  {}",
                n.name,
                bytes(n.memory),
                n.about
            );
        }
        let ends = |e: &Edge| format!("{} -> {}", e.from, e.to);
        let width = self.edges.iter().map(|e| ends(e).len()).max().unwrap_or(0);
        let route = self.edges.iter().map(|e| e.route.len()).max().unwrap_or(0);
        out.push_str("\nedges, bytes per worker\n");
        for e in &self.edges {
            let (size, name) = (bytes(e.bytes), ends(e));
            let _ = writeln!(
                out,
                "  {name:width$}  {size:>10}  {:route$}  {}",
                e.route, e.what
            );
        }
        let memory: u64 = self.nodes.iter().map(|n| n.memory).sum();
        let _ = writeln!(out, "\nmemory per worker at most {}", bytes(memory));
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    /// The plan as a Graphviz digraph.
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box];\n");
        let _ = writeln!(out, "  label={};", quoted(&self.title));
        for n in &self.nodes {
            let label = format!("{}\n{}\n{}", n.name, n.about, bytes(n.memory));
            let _ = writeln!(out, "  {} [label={}];", quoted(&n.name), quoted(&label));
        }
        for e in &self.edges {
            let label = format!("{}\n{}, {}", e.what, e.route, bytes(e.bytes));
            let (from, to) = (quoted(&e.from), quoted(&e.to));
            let _ = writeln!(out, "  {from} -> {to} [label={}];", quoted(&label));
        }
        out.push_str("}\n");
        out
    }
}

fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// A count of bytes as a person reads it: `1.50 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let power = (n.ilog2() / 10).min(4);
    format!(
        "{:.2} {}",
        n as f64 / 1024f64.powi(power as i32),
        UNITS[power as usize]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new("a \"small\" plan")
            .node("source", "reads", 10)
            .node("sink", "writes", 3 << 20)
            .edge("source", "sink", "records", "by cell", 2048)
    }

    #[test]
    fn the_table_names_every_node_and_edge_and_adds_the_memory_up() {
        let table = plan().to_table();
        assert!(
            table.contains("source -> sink    2.00 KiB  by cell  records"),
            "{table}"
        );
        assert!(
            table.contains("memory per worker at most 3.00 MiB"),
            "{table}"
        );
    }

    #[test]
    fn dot_escapes_quotes() {
        let dot = plan().to_dot();
        assert!(dot.contains("label=\"a \\\"small\\\" plan\""), "{dot}");
        assert!(dot.contains("\"source\" -> \"sink\""), "{dot}");
    }
}
