//! Building a graph: sources, operators, relayouts and outputs, in the order of the data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::error::{EngineError, Result};
use crate::graph::place::Places;
use crate::graph::{Operator, Site, Spec};
use crate::layout::Layout;
use crate::mesh::Mesh;
use crate::relayout::Relayout;

/// A tensor of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(crate) usize);

/// What makes values.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A stream from outside.
    Source { held: bool },
    /// A local function.
    Apply(Arc<dyn Operator>),
    /// A move between layouts, and the move of the cotangent where there is one.
    Relayout {
        there: Box<Relayout>,
        back: Option<Box<Relayout>>,
        rate: Rate,
    },
}

/// When a relayout moves what it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rate {
    /// Once a version, there and back: what comes back is the sum over the moments.
    #[default]
    Version,
    /// Once a version there; back at every moment, so that no whole sum is held.
    Back,
    /// There and back at every moment, when the value comes: what comes once a version, and what comes at
    /// the moments but is to wait before it travels.
    Moment(Value),
}

/// One step of a graph.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<Value>,
    pub(crate) outputs: Vec<Value>,
    /// The value at whose cotangent it works again, so that nothing of it is kept until then.
    pub(crate) remade: Option<Value>,
}

/// One tensor of a graph: what it is and which node makes it.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) spec: Spec,
    /// The node that makes it.
    pub(crate) maker: usize,
    /// Whether it depends on parameters alone, and so is made once a version.
    pub(crate) held: bool,
}

/// Operators and relayouts on a mesh.
///
/// ```
/// use advect_engine::{DType, Layout, Mesh, Placement, graph::{Graph, Spec}};
/// let mesh = Mesh::line("data", 4);
/// let mut graph = Graph::new(mesh.clone());
/// let split = Layout::new([Placement::Split { dim: 0 }]);
/// let x = graph.input("x", Spec::new([8, 3], DType::F64, split))?;
/// let whole = graph.relayout(x, &Layout::same(&mesh))?;
/// graph.output("whole", whole)?;
/// // gathering 8 x 3 numbers sends a quarter of them to three others
/// assert_eq!(graph.bytes_sent(0), 3 * 2 * 3 * 8);
/// // and the way back is the reduce-scatter of the cotangent
/// assert_eq!(graph.bytes_sent_back(0), 3 * 2 * 3 * 8);
/// # Ok::<(), advect_engine::EngineError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Graph {
    pub(crate) mesh: Mesh,
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<Tensor>,
    pub(crate) outputs: BTreeMap<String, Value>,
    pub(crate) away: BTreeMap<Value, Away>,
}

/// Until which cotangent a value is put away, and where.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    pub(crate) when: Value,
    pub(crate) directory: Arc<Path>,
}

impl Graph {
    /// A graph with nothing in it.
    pub fn new(mesh: Mesh) -> Self {
        Graph {
            mesh,
            nodes: Vec::new(),
            values: Vec::new(),
            outputs: BTreeMap::new(),
            away: BTreeMap::new(),
        }
    }

    /// The mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// A tensor that comes at every moment.
    ///
    /// # Errors
    /// If the layout does not fit ([`Spec::check`]) or the name is taken.
    pub fn input(&mut self, name: &str, spec: Spec) -> Result<Value> {
        self.source(name, spec, false)
    }

    /// A tensor that comes once a version and serves all its moments.
    ///
    /// # Errors
    /// As [`Graph::input`].
    pub fn parameter(&mut self, name: &str, spec: Spec) -> Result<Value> {
        self.source(name, spec, true)
    }

    pub(crate) fn source(&mut self, name: &str, spec: Spec, held: bool) -> Result<Value> {
        spec.check(&self.mesh)?;
        let made = self.node(name, Kind::Source { held }, &[], vec![spec])?;
        Ok(made[0])
    }

    /// The output of an operator that has one.
    ///
    /// # Errors
    /// If the operator refuses the inputs, has not one output, or the name is taken.
    pub fn apply<O: Operator + 'static>(
        &mut self,
        name: &str,
        operator: O,
        inputs: &[Value],
    ) -> Result<Value> {
        match self.apply_all(name, Arc::new(operator), inputs)?.as_slice() {
            [only] => Ok(*only),
            more => Err(EngineError::Operator {
                operator: name.to_owned(),
                why: format!("it has {} outputs; use Graph::apply_all", more.len()),
            }),
        }
    }

    /// The outputs of an operator.
    ///
    /// # Errors
    /// If the operator refuses the inputs or the name is taken.
    pub fn apply_all(
        &mut self,
        name: &str,
        operator: Arc<dyn Operator>,
        inputs: &[Value],
    ) -> Result<Vec<Value>> {
        let specs: Vec<Spec> = inputs.iter().map(|&v| self.spec(v).clone()).collect();
        let outputs = Places::infer(name, &self.mesh, &*operator, &specs)?;
        for spec in &outputs {
            spec.check(&self.mesh)?;
        }
        self.node(name, Kind::Apply(operator), inputs, outputs)
    }

    /// The same tensor in another layout; itself, if it is there already.
    ///
    /// # Errors
    /// If the tensor cannot have that layout.
    pub fn relayout(&mut self, value: Value, layout: &Layout) -> Result<Value> {
        self.relayout_at(value, layout, Rate::Version)
    }

    /// [`Graph::relayout`] at another rate.
    ///
    /// # Errors
    /// As [`Graph::relayout`].
    pub fn relayout_at(&mut self, value: Value, layout: &Layout, rate: Rate) -> Result<Value> {
        let spec = self.spec(value).clone();
        if spec.layout == *layout {
            return Ok(value);
        }
        let there = Box::new(spec.relayout(&self.mesh, layout)?);
        let end = spec.with_layout(layout.clone());
        let back = match (end.dual(), spec.dual()) {
            (Ok(from), Ok(to)) => Some(Box::new(from.relayout(&self.mesh, &to.layout)?)),
            _ => None,
        };
        let times = self
            .nodes
            .iter()
            .filter(|n| matches!(n.kind, Kind::Relayout { .. }))
            .count();
        let name = format!("relayout {times} of {}", self.values[value.0].name);
        let mut inputs = vec![value];
        inputs.extend(match rate {
            Rate::Moment(when) => Some(when),
            Rate::Version | Rate::Back => None,
        });
        let kind = Kind::Relayout { there, back, rate };
        Ok(self.node(&name, kind, &inputs, vec![end])?[0])
    }

    /// Number of tensors that have been made, for [`Graph::made_since`].
    pub fn made(&self) -> usize {
        self.values.len()
    }

    /// Tensors that operators and relayouts have made at the moments since there were `count`.
    pub fn made_since(&self, count: usize) -> Vec<Value> {
        let since = (count..self.values.len()).map(Value);
        since.filter(|v| self.moves(*v)).collect()
    }

    /// Those of [`Graph::made_since`] that wait for the adjoint of an operator, and do not come again.
    pub fn kept_since(&self, count: usize) -> Vec<Value> {
        // nothing that was made before uses them
        let first = self.values.get(count).map_or(self.nodes.len(), |t| t.maker);
        let kept = self.kept_by(first);
        let mut since = self.made_since(count);
        since.retain(|value| kept.contains(value) && !self.comes_again(*value));
        since
    }

    /// Values that the adjoints of operators from node `first` on need as they are, those apart that are made again
    /// themselves.
    pub(crate) fn kept_by(&self, first: usize) -> BTreeSet<Value> {
        let made = self.nodes[first..]
            .iter()
            .filter(|node| node.remade.is_none());
        let of = |node: &Node| match &node.kind {
            Kind::Apply(operator) => operator.keeps().iter().map(|&i| node.inputs[i]).collect(),
            _ => Vec::new(),
        };
        made.flat_map(of).collect()
    }

    /// Whether a value is made at the moments, by an operator or a relayout.
    fn moves(&self, value: Value) -> bool {
        let tensor = &self.values[value.0];
        !tensor.held && !matches!(self.nodes[tensor.maker].kind, Kind::Source { .. })
    }

    /// Lets `values` go when they have been used, and makes them again when the cotangent of `when`
    /// comes: recomputation of activations, and the second gather of parameters that are stored cut.
    /// The inputs of what makes them are kept instead, unless these are made again themselves; a tensor
    /// that was moved from place to place is moved straight. A value that is named twice is made again for
    /// the later of both.
    ///
    /// # Errors
    /// [`EngineError::Operator`] if one of them is a source, comes once a version, or is `when`.
    pub fn remake(&mut self, values: &[Value], when: Value) -> Result<()> {
        for &value in values {
            let (moves, maker) = (self.moves(value), self.values[value.0].maker);
            let node = &mut self.nodes[maker];
            if !moves || node.outputs.contains(&when) {
                return Err(EngineError::Operator {
                    operator: node.name.clone(),
                    why:
                        "it cannot be made again there; name what operators and relayouts make at \
                          the moments, and a value after them"
                            .to_owned(),
                });
            }
            node.remade = node.remade.max(Some(when));
        }
        Ok(())
    }

    /// Puts `values` away when they have been used, into files in `directory`, and takes them back when the
    /// cotangent of `when` comes: activations of long sequences, which then take no memory in between. The
    /// files, one of each worker, have no names, so that nothing is left of them however the job ends.
    ///
    /// # Errors
    /// [`EngineError::Operator`] if one of them comes once a version, is made again, or is `when`.
    pub fn offload(&mut self, values: &[Value], when: Value, directory: &Path) -> Result<()> {
        for &value in values {
            let again = self.nodes[self.values[value.0].maker].remade.is_some();
            if self.values[value.0].held || again || value >= when {
                let why = "it cannot be put away until then; name what comes at the moments and is not made \
                           again, and a value after it";
                return Err(EngineError::Operator {
                    operator: self.values[value.0].name.clone(),
                    why: why.to_owned(),
                });
            }
            let directory = Arc::from(directory);
            self.away.insert(value, Away { when, directory });
        }
        Ok(())
    }

    /// Whether a value is a parameter, on its way or where it is used.
    pub(crate) fn of_parameters(&self, value: Value) -> bool {
        let tensor = &self.values[value.0];
        let node = &self.nodes[tensor.maker];
        tensor.held
            || (matches!(node.kind, Kind::Relayout { .. }) && self.of_parameters(node.inputs[0]))
    }

    /// Whether a value is let go, and comes again on the way back: made again, or from where it was put away.
    pub fn comes_again(&self, value: Value) -> bool {
        self.returns(value).is_some()
    }

    /// The value at whose cotangent one that is let go comes again.
    pub(crate) fn returns(&self, value: Value) -> Option<Value> {
        let maker = &self.nodes[self.values[value.0].maker];
        maker.remade.or(self.away.get(&value).map(|away| away.when))
    }

    /// Names a result of the graph.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn output(&mut self, name: &str, value: Value) -> Result<()> {
        if self.outputs.insert(name.to_owned(), value).is_some() {
            return Err(taken(name));
        }
        Ok(())
    }

    /// What is known of a value.
    pub fn spec(&self, value: Value) -> &Spec {
        &self.values[value.0].spec
    }

    /// Names of the sources with their values: inputs and parameters, in the order of their making.
    pub fn sources(&self) -> impl Iterator<Item = (&str, Value)> {
        let sources = self
            .nodes
            .iter()
            .filter(|n| matches!(n.kind, Kind::Source { .. }));
        sources.map(|n| (n.name.as_str(), n.outputs[0]))
    }

    /// Names of the parameters with their values, in the order of their making.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Value)> {
        let held = |n: &&Node| matches!(n.kind, Kind::Source { held: true });
        self.nodes
            .iter()
            .filter(held)
            .map(|n| (n.name.as_str(), n.outputs[0]))
    }

    /// Names of the outputs with their values, in the order of the names.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, Value)> {
        self.outputs.iter().map(|(name, v)| (name.as_str(), *v))
    }

    pub(crate) fn node(
        &mut self,
        name: &str,
        kind: Kind,
        inputs: &[Value],
        specs: Vec<Spec>,
    ) -> Result<Vec<Value>> {
        if self.nodes.iter().any(|n| n.name == name) {
            return Err(taken(name));
        }
        let held = match &kind {
            Kind::Source { held } => *held,
            _ => !inputs.is_empty() && inputs.iter().all(|v| self.values[v.0].held),
        };
        let several = specs.len() > 1;
        let mut outputs = Vec::new();
        for (i, spec) in specs.into_iter().enumerate() {
            outputs.push(Value(self.values.len()));
            let name = if several {
                format!("{name}.{i}")
            } else {
                name.to_owned()
            };
            self.values.push(Tensor {
                name,
                spec,
                maker: self.nodes.len(),
                held,
            });
        }
        let made = outputs.clone();
        self.nodes.push(Node {
            name: name.to_owned(),
            kind,
            inputs: inputs.to_vec(),
            outputs,
            remade: None,
        });
        Ok(made)
    }

    /// Whether a node works once a version.
    pub(crate) fn held(&self, node: &Node) -> bool {
        node.outputs.first().is_some_and(|v| self.values[v.0].held)
    }

    /// The place of `node` on `worker`, before any moment.
    pub(crate) fn site(&self, node: &Node, worker: usize) -> Site {
        let specs = |values: &[Value]| -> Vec<Spec> {
            values.iter().map(|&v| self.spec(v).clone()).collect()
        };
        let (inputs, outputs) = (specs(&node.inputs), specs(&node.outputs));
        Site {
            name: node.name.clone(),
            absent: inputs
                .iter()
                .any(|spec| spec.layout.absent(&self.mesh, worker)),
            mesh: self.mesh.clone(),
            worker,
            inputs,
            outputs,
            moment: [0, 0],
            key: 0,
        }
    }
}

fn taken(name: &str) -> EngineError {
    EngineError::Operator {
        operator: name.to_owned(),
        why: "the name is taken; every source, operator and output has its own".to_owned(),
    }
}
