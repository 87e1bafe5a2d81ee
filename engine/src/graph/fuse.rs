//! Operators that follow each other as one operator: of a device, where only what goes in and what comes out
//! crosses its edge.

use std::sync::Arc;

use crate::error::Result;
use crate::graph::build::{Kind, Node, Rate};
use crate::graph::{Graph, Operator, Value};

/// Where an input of a link comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An input of the chain.
    Input(usize),
    /// The output of an earlier link.
    Link(usize),
}

/// An operator of a chain; it has one output.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its name in the graph.
    pub name: String,
    /// The operator.
    pub operator: Arc<dyn Operator>,
    /// Where its inputs come from.
    pub inputs: Vec<End>,
}

/// What an operator has to do with the chain before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It stays as it is.
    Apart,
    /// It joins.
    Joins,
    /// It joins as the last, if it is not the first: gradients of parameters leave when those of their chain are
    /// made.
    Ends,
}

/// Operators that follow each other, in their order, with nothing between that moves.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// The operators.
    pub links: Vec<Link>,
    /// By input, whether it comes once a version.
    pub held: Vec<bool>,
    /// By input, whether the graph lets it go and makes it again for the way back of the chain, which then keeps
    /// it only if it is named in [`Operator::keeps`].
    pub again: Vec<bool>,
    /// The links whose outputs go out, in their order.
    pub outputs: Vec<usize>,
}

impl Graph {
    /// The same graph with operators that follow each other replaced by one. What fits, by name, and has one
    /// output joins the operators before it if it works on what they make, or on an input of theirs; relayouts,
    /// other operators and [`Fit::Ends`] end a chain, and `make` gives the operator for it. A chain may be of one.
    /// It has the name of its last link, and one output for each of its values that is used after it.
    ///
    /// What is made again stays so: a chain at the cotangent of its links, and what was made again at the
    /// cotangent of a value inside of a chain, at that of an output of the chain.
    ///
    /// # Errors
    /// Those of `make`, and if what it makes does not take the inputs.
    pub fn fused(
        &self,
        fit: impl Fn(&str) -> Fit,
        make: impl Fn(Chain) -> Result<Arc<dyn Operator>>,
    ) -> Result<Graph> {
        let mut fusion = Fusion {
            old: self,
            new: Graph::new(self.mesh.clone()),
            now: vec![Now::Unmade; self.values.len()],
            last: self.last_uses(),
            open: Open::default(),
            remade: Vec::new(),
            make: &make,
        };
        for (at, node) in self.nodes.iter().enumerate() {
            let fit = match node.outputs.len() == 1 && !self.held(node) {
                true => fit(&node.name),
                false => Fit::Apart,
            };
            match &node.kind {
                Kind::Apply(operator) if fit != Fit::Apart => {
                    fusion.join(at, node, operator)?;
                    if fit == Fit::Ends && fusion.open.values.len() > 1 {
                        fusion.close(at + 1)?;
                    }
                }
                _ => fusion.copy(at, node)?,
            }
        }
        fusion.close(self.nodes.len())?;
        fusion.finish()
    }

    /// By value the last node that uses it, or their number if it is an output; 0 if there is none.
    fn last_uses(&self) -> Vec<usize> {
        let mut last = vec![0; self.values.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            for input in used(node) {
                last[input.0] = at;
            }
        }
        for output in self.outputs.values() {
            last[output.0] = self.nodes.len();
        }
        last
    }
}

/// The inputs that a node works on: the moment of a relayout is no use of the value that says it.
fn used(node: &Node) -> &[Value] {
    match &node.kind {
        Kind::Relayout { .. } => &node.inputs[..1],
        _ => &node.inputs,
    }
}

/// What has become of a value of the old graph.
#[derive(Debug, Clone, Copy)]
enum Now {
    Unmade,
    Made(Value),
    /// The output of a link of the open chain.
    Open(usize),
    /// Inside of a chain, one output of which is this.
    Inside(Value),
}

/// A chain that may grow.
#[derive(Default)]
struct Open {
    chain: Chain,
    /// Inputs, in the new graph.
    inputs: Vec<Value>,
    /// By link its value in the old graph.
    values: Vec<Value>,
    /// The value of the old graph at whose cotangent it works again.
    remade: Option<Value>,
}

type Make<'a> = &'a dyn Fn(Chain) -> Result<Arc<dyn Operator>>;

struct Fusion<'a> {
    old: &'a Graph,
    new: Graph,
    now: Vec<Now>,
    /// By value of the old graph the last node that uses it.
    last: Vec<usize>,
    open: Open,
    /// Nodes of the new graph with the values of the old one at whose cotangents they work again.
    remade: Vec<(usize, Value)>,
    make: Make<'a>,
}

impl Fusion<'_> {
    fn held(&self, value: Value) -> bool {
        self.old.values[value.0].held
    }

    /// Whether an operator works on what the open chain makes, or at the moments on one of its inputs.
    fn follows(&self, node: &Node) -> bool {
        let shared = |v: &Value| match self.now[v.0] {
            Now::Open(_) => true,
            Now::Made(made) => !self.held(*v) && self.open.inputs.contains(&made),
            Now::Unmade | Now::Inside(_) => false,
        };
        self.open.remade == node.remade && node.inputs.iter().any(shared)
    }

    /// Adds an operator to the open chain, or begins another.
    fn join(&mut self, at: usize, node: &Node, operator: &Arc<dyn Operator>) -> Result<()> {
        if !self.follows(node) {
            self.close(at)?;
            self.open.remade = node.remade;
        }
        let mut inputs = Vec::new();
        for &v in &node.inputs {
            inputs.push(match self.now[v.0] {
                Now::Open(link) => End::Link(link),
                _ => End::Input(self.input(v)?),
            });
        }
        let open = &mut self.open;
        self.now[node.outputs[0].0] = Now::Open(open.values.len());
        open.values.push(node.outputs[0]);
        open.chain.links.push(Link {
            name: node.name.clone(),
            operator: Arc::clone(operator),
            inputs,
        });
        Ok(())
    }

    /// The number of an input of the open chain.
    fn input(&mut self, value: Value) -> Result<usize> {
        let (made, held) = (self.made(value), self.held(value));
        let open = &mut self.open;
        if let Some(known) = open.inputs.iter().position(|v| *v == made) {
            return Ok(known);
        }
        open.inputs.push(made);
        open.chain.held.push(held);
        // what is made again with the chain is there when it is needed
        let apart = open.remade.is_none() && self.old.comes_again(value);
        open.chain.again.push(apart);
        Ok(open.inputs.len() - 1)
    }

    /// A value in the new graph, or what comes with it at its moment.
    fn made(&self, value: Value) -> Value {
        match self.now[value.0] {
            Now::Made(made) | Now::Inside(made) => made,
            Now::Open(_) | Now::Unmade => {
                let inputs = self.open.inputs.iter().zip(&self.open.chain.held);
                let mut moving = inputs.filter(|(_, held)| !**held);
                moving.next().map_or(value, |(made, _)| *made)
            }
        }
    }

    /// Ends the open chain before node `at` of the old graph.
    fn close(&mut self, at: usize) -> Result<()> {
        let Open {
            mut chain,
            inputs,
            values,
            remade,
        } = std::mem::take(&mut self.open);
        let Some(last) = chain.links.last() else {
            return Ok(());
        };
        let name = last.name.clone();
        let used_later = |v: &Value| self.last[v.0] >= at;
        let links = 0..values.len();
        chain.outputs = links.filter(|&link| used_later(&values[link])).collect();
        if chain.outputs.is_empty() {
            chain.outputs.push(values.len() - 1);
        }
        let outputs = chain.outputs.clone();
        let operator = (self.make)(chain)?;
        let made = self.new.apply_all(&name, operator, &inputs)?;
        if let Some(when) = remade {
            self.remade.push((self.new.nodes.len() - 1, when));
        }
        for (link, value) in values.into_iter().enumerate() {
            self.now[value.0] = match outputs.iter().position(|output| *output == link) {
                Some(output) => Now::Made(made[output]),
                None => Now::Inside(made[made.len() - 1]),
            };
        }
        Ok(())
    }

    /// Takes over a node as it is.
    fn copy(&mut self, at: usize, node: &Node) -> Result<()> {
        let open = |v: &Value| matches!(self.now[v.0], Now::Open(_));
        if used(node).iter().any(open) {
            self.close(at)?;
        }
        let inputs: Vec<Value> = node.inputs.iter().map(|v| self.made(*v)).collect();
        let made = match &node.kind {
            Kind::Source { held } => {
                let spec = self.old.spec(node.outputs[0]).clone();
                vec![self.new.source(&node.name, spec, *held)?]
            }
            kind => {
                let mut kind = kind.clone();
                if let Kind::Relayout {
                    rate: Rate::Moment(when),
                    ..
                } = &mut kind
                {
                    *when = inputs[1];
                }
                let specs = node.outputs.iter().map(|v| self.old.spec(*v).clone());
                let specs = specs.collect();
                self.new.node(&node.name, kind, &inputs, specs)?
            }
        };
        if let Some(when) = node.remade {
            self.remade.push((self.new.nodes.len() - 1, when));
        }
        for (old, new) in node.outputs.iter().zip(made) {
            self.now[old.0] = Now::Made(new);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Graph> {
        for (at, when) in std::mem::take(&mut self.remade) {
            let when = self.made(when);
            let node = &mut self.new.nodes[at];
            node.remade = Some(when).filter(|when| !node.outputs.contains(when));
        }
        for (name, value) in &self.old.outputs {
            let made = self.made(*value);
            self.new.output(name, made)?;
        }
        for (value, away) in &self.old.away {
            let (now, when) = (self.now[value.0], self.made(away.when));
            // what is inside of a chain is kept by its operator, if at all
            if let Now::Made(made) = now {
                self.new.offload(&[made], when, &away.directory)?;
            }
        }
        Ok(self.new)
    }
}
