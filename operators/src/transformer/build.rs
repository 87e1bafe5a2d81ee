//! Building a transformer: parameters in the layouts of their strategy, and the steps between them.

use advect_engine::graph::Value;
use advect_engine::{DType, Graph, Layout, Operator, Placement, Result, Spec};

use super::{Context, Role, Strategy};
use crate::network::{LayerNorm, Linear, Pointwise, Residual};
use crate::training::{Initial, Parameter};

const SAME: Placement = Placement::Same;

/// A dimension that is cut.
pub(super) fn split(dim: usize) -> Placement {
    Placement::Split { dim }
}

/// A graph in the making.
pub(super) struct Build<'a> {
    pub(super) graph: Graph,
    pub(super) parameters: Vec<Parameter>,
    strategy: &'a Strategy,
    dtype: DType,
}

impl<'a> Build<'a> {
    pub(super) fn new(strategy: &'a Strategy, dtype: DType) -> Self {
        Build {
            graph: Graph::new(strategy.mesh().clone()),
            parameters: Vec::new(),
            strategy,
            dtype,
        }
    }

    /// Layout of a tensor `[b, s, …]` between blocks.
    pub(super) fn residual(&self) -> Layout {
        self.strategy.layout(|role| match role {
            Role::Data | Role::Sharded => split(0),
            Role::Tensor => SAME,
            Role::Sequence | Role::Context(_) => split(1),
        })
    }

    /// Layout of a tensor `[b, s, …]` at the entry of what is cut by heads, columns or vocabulary:
    /// `cut` is where these stand, if they do.
    pub(super) fn inner(&self, cut: Option<usize>) -> Layout {
        self.strategy.layout(|role| match role {
            Role::Data | Role::Sharded => split(0),
            Role::Tensor | Role::Sequence => cut.map_or(SAME, split),
            Role::Context(_) => split(1),
        })
    }

    /// Layout of `[b, s]` where the loss is made: everything is cut.
    pub(super) fn finished(&self) -> Layout {
        self.strategy.layout(|role| match role {
            Role::Data | Role::Sharded => split(0),
            _ => split(1),
        })
    }

    /// Layout of queries (groups at 2) or keys (groups at 3) in attention.
    pub(super) fn attended(&self, groups: usize) -> Layout {
        self.strategy.layout(|role| match role {
            Role::Data | Role::Sharded => split(0),
            Role::Tensor | Role::Sequence | Role::Context(Context::Heads) => split(groups),
            Role::Context(Context::Gather) if groups == 3 => SAME,
            Role::Context(Context::Gather) => split(1),
        })
    }

    /// A tensor of whole numbers `[b, s]` that comes at every moment, in the layout of the ids.
    pub(super) fn numbers(&mut self, name: &str, shape: [usize; 2]) -> Result<Value> {
        let spec = Spec::new(shape, DType::I64, self.inner(None));
        self.graph.input(name, spec)
    }

    /// A parameter as it is used: whole, or cut in dimension `cut` by the roles that cut weights.
    pub(super) fn parameter(
        &mut self,
        name: &str,
        shape: &[usize],
        cut: Option<usize>,
        initial: Initial,
    ) -> Result<Value> {
        let used = |role: Role| match cut {
            Some(dim) if role.cuts_weights() => split(dim),
            _ => SAME,
        };
        let largest = (0..shape.len()).rev().max_by_key(|&dim| shape[dim]);
        let stored = self.strategy.layout(|role| match (role, largest) {
            (Role::Sharded, Some(dim)) => split(dim),
            _ => used(role),
        });
        self.parameters.push(Parameter {
            name: name.to_owned(),
            initial,
            decays: matches!(initial, Initial::Normal { .. }),
        });
        let spec = Spec::new(shape, self.dtype, stored);
        let value = self.graph.parameter(name, spec)?;
        self.graph.relayout(value, &self.strategy.layout(used))
    }

    /// Positions `[s, h]` beside a residual stream `[b, s, h]`: cut where its positions are.
    pub(super) fn beside(&mut self, positions: Value) -> Result<Value> {
        let layout = self.strategy.layout(|role| match role {
            Role::Sequence | Role::Context(_) => split(0),
            _ => SAME,
        });
        self.graph.relayout(positions, &layout)
    }

    pub(super) fn apply(
        &mut self,
        name: &str,
        operator: impl Operator + 'static,
        inputs: &[Value],
    ) -> Result<Value> {
        self.graph.apply(name, operator, inputs)
    }

    /// `f(x W + b)`; the shift is that of the columns.
    pub(super) fn linear(
        &mut self,
        name: &str,
        x: Value,
        shape: &[usize],
        cut: usize,
        deviation: f64,
        then: Option<Pointwise>,
    ) -> Result<Value> {
        let weight = Initial::Normal { deviation };
        let w = self.parameter(&format!("{name}.weight"), shape, Some(cut), weight)?;
        let b = self.parameter(&format!("{name}.bias"), &shape[1..], Some(cut - 1), ZEROS)?;
        let plain = Linear::LAST.shifted();
        let linear = then.map_or(plain, |function| plain.then(function));
        self.apply(name, linear, &[x, w, b])
    }

    /// `x + y W + b` over the last dimensions of y, the first of which is cut, in the residual stream.
    pub(super) fn back(
        &mut self,
        name: &str,
        [x, y]: [Value; 2],
        shape: &[usize],
        deviation: f64,
    ) -> Result<Value> {
        let weight = Initial::Normal { deviation };
        let w = self.parameter(&format!("{name}.weight"), shape, Some(0), weight)?;
        let over = shape.len() - 1;
        let b = self.parameter(&format!("{name}.bias"), &shape[over..], None, ZEROS)?;
        let part = self.apply(&format!("{name}.product"), Linear::over(over), &[y, w])?;
        let whole = self.graph.relayout(part, &self.residual())?;
        self.apply(&format!("{name}.residual"), Residual, &[x, whole, b])
    }

    /// Layer normalization of the residual stream.
    pub(super) fn norm(&mut self, name: &str, x: Value, width: usize) -> Result<Value> {
        let gain = self.parameter(
            &format!("{name}.gain"),
            &[width],
            None,
            Initial::Constant(1.0),
        )?;
        let shift = self.parameter(&format!("{name}.shift"), &[width], None, ZEROS)?;
        self.apply(name, LayerNorm { epsilon: 1e-5 }, &[x, gain, shift])
    }
}

const ZEROS: Initial = Initial::Constant(0.0);
