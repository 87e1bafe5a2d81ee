//! The graph of any pipeline as timely runs it: operators in their scopes, channels, bytes.
//!
//! It is read off the log that timely writes while a dataflow is wired, so that a pipeline needs
//! to do nothing to be shown. Relayouts note their bytes when they are wired ([`super::planned`]).

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use timely::worker::Worker;

use super::meter;
use super::options::Options;
use super::page::Page;
use crate::error::{EngineError, Result};
use crate::fabric::{Captured, Context, Fabric};

/// An operator, or a scope of operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanNode {
    /// Indices from the dataflow down to the operator.
    pub address: Vec<usize>,
    /// Its name.
    pub name: String,
    /// Whether it is a scope (a dataflow is one).
    pub scope: bool,
    /// Bytes it sends to other workers per time and tensor, by worker; empty where that is not
    /// known before the run.
    pub bytes: Vec<u64>,
}

/// A channel between two operators; scopes that it enters or leaves are passed through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlanEdge {
    /// Address and output of the sender.
    pub from: (Vec<usize>, usize),
    /// Address and input of the receiver.
    pub to: (Vec<usize>, usize),
    /// Type of the messages, without paths.
    pub carries: String,
}

/// The graph of a pipeline as timely runs it.
///
/// ```
/// use advect_engine::observe::Plan;
/// use timely::dataflow::operators::{Inspect, ToStream};
/// let plan = Plan::capture(2, |worker, _| {
///     worker.dataflow_named::<u64, _, _>("Count", |scope| {
///         (0..9u64).to_stream(scope).container::<Vec<u64>>().inspect(|_| ());
///     });
/// })?;
/// assert!(plan.to_text().contains("Count\n  1 ToStreamBuilder\n    -> 2 Inspect: Vec<u64>"));
/// # Ok::<(), advect_engine::EngineError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Workers of the job.
    pub workers: usize,
    /// Operators and scopes, by address.
    pub nodes: Vec<PlanNode>,
    /// Channels, by sender.
    pub edges: Vec<PlanEdge>,
}

impl Plan {
    /// The graph of `pipeline` on this many workers, without a record moved: each worker wires
    /// the pipeline up to the first [`Context::drive`] (or its end), and what is wired is dropped.
    ///
    /// # Errors
    /// If the pipeline fails while it is wired, or the workers wire different graphs.
    pub fn capture<R, P>(workers: usize, pipeline: P) -> Result<Plan>
    where
        P: Fn(&mut Worker, &Context) -> R + Send + Sync + 'static,
    {
        let plans =
            Fabric::Threads(workers).run_with(&Options::wiring(), move |worker, context| {
                let wired = catch_unwind(AssertUnwindSafe(|| drop(pipeline(worker, context))));
                if let Err(panic) = wired
                    && !(*panic).is::<Captured>()
                {
                    resume_unwind(panic);
                }
                let plan = Plan::of(worker);
                for dataflow in worker.installed_dataflows() {
                    worker.drop_dataflow(dataflow);
                }
                plan
            })?;
        Plan::merge(plans)
    }

    /// The graph of all dataflows that an observed worker has wired so far; empty for a worker
    /// that is not observed. The bytes are this worker's alone.
    pub fn of(worker: &Worker) -> Plan {
        if let Some(mut register) = worker.log_register() {
            register.flush();
        }
        let mut plan = meter::page(read).unwrap_or_default();
        plan.workers = worker.peers();
        plan
    }

    /// One plan from those of all workers, in their order.
    ///
    /// # Errors
    /// If the workers have wired different graphs: timely would mix their messages up.
    pub fn merge(plans: Vec<Plan>) -> Result<Plan> {
        let mut plans = plans.into_iter();
        let mut all = plans.next().unwrap_or_default();
        for (other, plan) in plans.enumerate() {
            let shape = |p: &Plan| -> Vec<(Vec<usize>, String)> {
                let nodes = p.nodes.iter();
                nodes.map(|n| (n.address.clone(), n.name.clone())).collect()
            };
            if shape(&all) != shape(&plan) || all.edges != plan.edges {
                return Err(EngineError::Worker {
                    worker: other + 1,
                    why: "it wires another graph than worker 0; wire the same operators in the \
                          same order on every worker"
                        .to_owned(),
                });
            }
            for (node, its) in all.nodes.iter_mut().zip(plan.nodes) {
                node.bytes.extend(its.bytes);
            }
        }
        Ok(all)
    }

    /// The node at an address.
    pub fn node(&self, address: &[usize]) -> Option<&PlanNode> {
        let at = self
            .nodes
            .binary_search_by(|n| n.address.as_slice().cmp(address));
        self.nodes.get(at.ok()?)
    }

    /// Bytes over an edge per time and tensor, by worker; empty where not known.
    pub fn bytes(&self, edge: &PlanEdge) -> &[u64] {
        self.node(&edge.from.0).map_or(&[], |n| &n.bytes)
    }
}

/// Channels by the scope and end that they leave, with the end that they enter.
type Ends<'a> = BTreeMap<(&'a [usize], (usize, usize)), Vec<((usize, usize), &'a str)>>;

fn read(page: &Page) -> Plan {
    let mut nodes: Vec<PlanNode> = page
        .operators
        .iter()
        .flatten()
        .filter(|o| !o.addr.is_empty())
        .map(|o| PlanNode {
            address: o.addr.clone(),
            name: o.name.clone(),
            scope: o.addr.len() == 1 || page.scopes.contains(&o.addr),
            bytes: o.planned.into_iter().collect(),
        })
        .collect();
    nodes.sort_by(|a, b| a.address.cmp(&b.address));
    let mut ends: Ends<'_> = BTreeMap::new();
    for c in page.channels.iter().flatten() {
        let from = ends.entry((&c.scope, c.source)).or_default();
        from.push((c.target, &c.typ));
    }
    let mut edges = BTreeSet::new();
    for &(scope, source) in ends.keys() {
        // edges begin at operators, not at scopes or their borders
        if source.0 != 0 && !page.is_scope(scope, source.0) {
            let mut from = scope.to_vec();
            from.push(source.0);
            let mut reached = BTreeSet::new();
            follow(page, &ends, scope, source, &mut reached);
            for (to, typ) in reached {
                edges.insert(PlanEdge {
                    from: (from.clone(), source.1),
                    to,
                    carries: short(&typ),
                });
            }
        }
    }
    Plan {
        workers: 1,
        nodes,
        edges: edges.into_iter().collect(),
    }
}

/// The inputs of operators that a stream reaches, through borders of scopes.
fn follow(
    page: &Page,
    ends: &Ends<'_>,
    scope: &[usize],
    source: (usize, usize),
    reached: &mut BTreeSet<((Vec<usize>, usize), String)>,
) {
    for &((node, port), typ) in ends.get(&(scope, source)).into_iter().flatten() {
        let mut child = scope.to_vec();
        child.push(node);
        if node == 0 {
            if let Some((&own, outer)) = scope.split_last() {
                follow(page, ends, outer, (own, port), reached);
            }
        } else if page.is_scope(scope, node) {
            follow(page, ends, &child, (0, port), reached);
        } else {
            reached.insert(((child, port), typ.to_owned()));
        }
    }
}

/// A type's name without paths: `alloc::vec::Vec<u64>` is `Vec<u64>`.
fn short(typ: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in typ.chars() {
        match c {
            ':' => word.clear(),
            c if c.is_alphanumeric() || c == '_' => word.push(c),
            c => {
                out.push_str(&word);
                word.clear();
                out.push(c);
            }
        }
    }
    out + &word
}
