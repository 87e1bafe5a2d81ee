//! Building a transformer: parameters in the layouts of their strategy, and the steps between them.

use std::sync::Arc;

use advect_engine::graph::{Mixed, Rate, Value};
use advect_engine::{DType, Graph, Layout, Operator, Placement, Result, Spec};

use super::blocks::DEVIATION;
use super::on_device::{Forms, placed};
use super::{Context, Norm, Role, Strategy, Style, Zero};
use crate::attention::{Across, Attention, Pieces};
use crate::fused::on_tape;
use crate::network::rules::refuse;
use crate::network::{Add, Bias, Dropout, LayerNorm, Linear, Pointwise, Residual, RmsNorm};
use crate::training::{Initial, Parameter, Trainable};

const SAME: Placement = Placement::Same;

/// A dimension that is cut.
pub(crate) const fn split(dim: usize) -> Placement {
    Placement::Split { dim }
}

/// How a role has a parameter whose dimension `cut` is cut where weights are.
fn used(cut: Option<usize>, role: Role) -> Placement {
    match cut {
        Some(dim) if role.cuts_weights() => split(dim),
        _ => SAME,
    }
}

/// A graph in the making.
pub(crate) struct Build<'a> {
    pub(crate) graph: Graph,
    pub(crate) parameters: Vec<Parameter>,
    strategy: &'a Strategy,
    dtype: DType,
    style: Style,
    /// The stage that is built now.
    stage: usize,
    /// Operators that have a form on a tape, by name.
    forms: Forms,
}

impl<'a> Build<'a> {
    pub(crate) fn new(strategy: &'a Strategy, dtype: DType, style: Style) -> Self {
        Build {
            graph: Graph::new(strategy.mesh().clone()),
            parameters: Vec::new(),
            strategy,
            dtype,
            style,
            stage: 0,
            forms: Forms::new(),
        }
    }

    /// What was built.
    ///
    /// # Errors
    /// If there is no such device, or it does not take what flows.
    pub(crate) fn finish(self) -> Result<Trainable> {
        let graph = match self.strategy.device() {
            Some(name) => placed(&self.graph, name, self.dtype, &self.forms)?,
            None => self.graph,
        };
        Ok(Trainable {
            graph,
            parameters: self.parameters,
        })
    }

    /// What is built besides extents.
    pub(crate) fn style(&self) -> &Style {
        &self.style
    }

    /// The stage of each layer.
    pub(crate) fn places(&self, layers: usize) -> Result<Vec<usize>> {
        self.strategy.places(layers)
    }

    /// The last stage.
    pub(crate) fn last(&self) -> usize {
        self.strategy.stages() - 1
    }

    /// Goes on at another stage, where the residual stream is taken.
    pub(crate) fn go_on(&mut self, stage: usize, x: Value) -> Result<Value> {
        self.stand_at(stage);
        let layout = self.residual();
        self.graph.relayout(x, &layout)
    }

    /// Builds at another stage from here on.
    pub(crate) fn stand_at(&mut self, stage: usize) {
        self.stage = stage;
    }

    /// The layout with the placement that `of` gives each role, at the stage that is built now.
    ///
    /// Canonical sums are finished before anything else is done to them: what is `Same` between blocks has
    /// a cotangent that is not, so that positions are cut there in place of it.
    pub(crate) fn layout(&self, of: impl Fn(Role) -> Placement) -> Layout {
        let (at, canonical) = (self.stage, self.dtype == DType::Canonical);
        self.strategy.layout(|role| match role {
            Role::Stage => Placement::At { at },
            Role::Tensor if canonical => of(Role::Sequence),
            role => of(role),
        })
    }

    /// Layout of a tensor `[b, s, …]` between blocks.
    pub(crate) fn residual(&self) -> Layout {
        self.layout(|role| match role {
            Role::Data | Role::Sharded(_) => split(0),
            Role::Sequence | Role::Context(_) => split(1),
            _ => SAME,
        })
    }

    /// Layout of a tensor `[b, s, …]` at the entry of what is cut by heads, columns or vocabulary:
    /// `cut` is where these stand, if they do.
    pub(crate) fn inner(&self, cut: Option<usize>) -> Layout {
        self.layout(|role| match role {
            Role::Data | Role::Sharded(_) => split(0),
            Role::Context(_) => split(1),
            _ => cut.map_or(SAME, split),
        })
    }

    /// Layout of `[b, s]` where the loss is made: everything is cut.
    pub(crate) fn finished(&self) -> Layout {
        self.layout(|role| match role {
            Role::Data | Role::Sharded(_) => split(0),
            _ => split(1),
        })
    }

    /// Layout of queries (groups at 2) or keys (groups at 3) in attention.
    pub(crate) fn attended(&self, groups: usize) -> Layout {
        let pieces = self.pieces().is_some();
        self.layout(|role| match role {
            Role::Data | Role::Sharded(_) => split(0),
            Role::Context(Context::Heads) => split(groups),
            Role::Context(come) if groups == 3 && !(pieces && come.in_pieces()) => SAME,
            Role::Context(_) => split(1),
            _ => split(groups),
        })
    }

    /// Layout of what is said of queries `[b, s, …]` in attention.
    pub(crate) fn told(&self) -> Layout {
        self.layout(|role| match role {
            Role::Data | Role::Sharded(_) => split(0),
            Role::Context(Context::Heads) => SAME,
            Role::Context(_) => split(1),
            _ => SAME,
        })
    }

    /// How keys come in pieces, if they do: sums that have no order are not cut into turns.
    fn pieces(&self) -> Option<Pieces> {
        let pieces = self.strategy.pieces();
        pieces.filter(|_| self.dtype != DType::Canonical)
    }

    /// Attention, called `name`, between the maps of queries and keys and that of its output.
    pub(crate) fn across(&mut self, name: &str, attention: Attention) -> Across {
        // turns merge rows, for which there are kernels alone
        let whole = on_tape(&attention).filter(|_| self.style.flash && self.pieces().is_none());
        self.forms.extend(whole.map(|form| (name.to_owned(), form)));
        Across {
            attention,
            queries: self.attended(2),
            keys: self.attended(3),
            pieces: self.pieces(),
            regather: self
                .strategy
                .regathers(matches!(self.pieces(), Some(Pieces::Around(_)))),
            flash: self.style.flash,
        }
    }

    /// A tensor of whole numbers `[b, s, …]` that comes at every moment, in the layout of the ids.
    pub(crate) fn numbers(&mut self, name: &str, shape: &[usize]) -> Result<Value> {
        let spec = Spec::new(shape, DType::I64, self.inner(None));
        self.graph.input(name, spec)
    }

    /// A parameter as it is stored: as it is used, and in pieces where that is the role of an axis.
    /// `cut` is the dimension that is cut by the roles that cut weights.
    pub(crate) fn stored(
        &mut self,
        name: &str,
        shape: &[usize],
        cut: Option<usize>,
        initial: Initial,
    ) -> Result<Value> {
        let largest = (0..shape.len()).rev().max_by_key(|&dim| shape[dim]);
        let stored = self.layout(|role| match (role, largest) {
            (Role::Sharded(_), Some(dim)) => split(dim),
            _ => used(cut, role),
        });
        self.held(name, shape, stored, initial)
    }

    fn held(
        &mut self,
        name: &str,
        shape: &[usize],
        layout: Layout,
        initial: Initial,
    ) -> Result<Value> {
        self.parameters.push(Parameter {
            name: name.to_owned(),
            initial,
            decays: matches!(initial, Initial::Normal { .. }),
        });
        let spec = Spec::new(shape, super::stored(self.dtype), layout);
        self.graph.parameter(name, spec)
    }

    /// A parameter of any stage as it is used at this one beside `x`.
    pub(crate) fn used(&mut self, parameter: Value, cut: Option<usize>, x: Value) -> Result<Value> {
        let layout = self.layout(|role| used(cut, role));
        self.graph.relayout_at(parameter, &layout, self.rate(x))
    }

    /// How often a parameter that is used beside `x` travels.
    fn rate(&self, x: Value) -> Rate {
        match self.strategy.zero() {
            Some(Zero::Parameters) => Rate::Moment(x),
            Some(Zero::Gradients) => Rate::Back,
            Some(Zero::States) | None => Rate::Version,
        }
    }

    /// [`Build::stored`] and [`Build::used`].
    pub(crate) fn parameter(
        &mut self,
        name: &str,
        shape: &[usize],
        cut: Option<usize>,
        initial: Initial,
        x: Value,
    ) -> Result<Value> {
        let stored = self.stored(name, shape, cut, initial)?;
        self.used(stored, cut, x)
    }

    /// Applies an operator to x and parameters, and lets go of the parameters that were gathered for
    /// it until its cotangent comes.
    pub(crate) fn with(
        &mut self,
        name: &str,
        operator: impl Operator + 'static,
        x: Value,
        parameters: &[Value],
    ) -> Result<Value> {
        let inputs = [&[x], parameters].concat();
        let needed: Vec<Value> = operator.keeps().iter().map(|&i| inputs[i]).collect();
        let y = self.apply(name, operator, &inputs)?;
        if self.strategy.zero() == Some(Zero::Parameters) {
            let gathered = needed.iter().filter(|v| parameters.contains(v));
            self.graph
                .remake(&gathered.copied().collect::<Vec<_>>(), y)?;
        }
        Ok(y)
    }

    /// Makes what was made since there were `count` tensors again when the cotangent of `y` comes, if
    /// that is asked for.
    pub(crate) fn recompute(&mut self, count: usize, y: Value) -> Result<()> {
        self.recompute_all(count, &[y])
    }

    /// The same for what has several results: when the cotangent of the last comes.
    pub(crate) fn recompute_all(&mut self, count: usize, results: &[Value]) -> Result<()> {
        let (true, Some(&last)) = (self.strategy.recomputes(), results.last()) else {
            return Ok(());
        };
        let mut inside = self.graph.made_since(count);
        inside.retain(|v| !results.contains(v));
        self.graph.remake(&inside, last)
    }

    /// What samples say of their positions, `[samples, positions, 2]`, if they do.
    pub(crate) fn bounds(&mut self, samples: usize, positions: usize) -> Result<Option<Value>> {
        match self.style.bounded {
            true => Ok(Some(self.numbers("bounds", &[samples, positions, 2])?)),
            false => Ok(None),
        }
    }

    /// Puts away what the block from `x` to `y` keeps, of which there were `count` tensors before, if that is asked
    /// for.
    pub(crate) fn offload(&mut self, count: usize, [x, y]: [Value; 2]) -> Result<()> {
        self.offload_all(count, &[x], &[y])
    }

    /// The same for what begins with several tensors and has several results: until the cotangent of the last comes.
    pub(crate) fn offload_all(
        &mut self,
        count: usize,
        begin: &[Value],
        results: &[Value],
    ) -> Result<()> {
        let (Some(directory), Some(&last)) = (self.strategy.offloaded_to(), results.last()) else {
            return Ok(());
        };
        let mut kept = self.graph.kept_since(count);
        kept.retain(|value| !results.contains(value));
        let before = begin.iter().filter(|x| !self.graph.comes_again(**x));
        kept.extend(before);
        self.graph.offload(&kept, last, directory)
    }

    /// A vector `[s, h]` for every position added to a residual stream `[b, s, h]`. Each worker stores those of
    /// its positions, where these are contiguous, and their gradient is summed over samples alone.
    pub(crate) fn positions(
        &mut self,
        x: Value,
        shape: [usize; 2],
        initial: Initial,
    ) -> Result<Value> {
        let stored = self.layout(|role| match role {
            Role::Sharded(_) => split(usize::from(shape[1] > shape[0])),
            role if role.cuts_positions() => split(0),
            _ => SAME,
        });
        let beside = self.layout(|role| match role {
            Role::Sequence | Role::Context(_) => split(0),
            _ => SAME,
        });
        let positions = self.held("positions.weight", &shape, stored, initial)?;
        let rate = self.rate(x);
        let positions = self.graph.relayout_at(positions, &beside, rate)?;
        self.with("positions", Bias, x, &[positions])
    }

    pub(crate) fn apply(
        &mut self,
        name: &str,
        operator: impl Operator + 'static,
        inputs: &[Value],
    ) -> Result<Value> {
        if let Some(form) = on_tape(&operator) {
            self.forms.insert(name.to_owned(), form);
        }
        if self.dtype != DType::BF16 {
            return self.graph.apply(name, operator, inputs);
        }
        // weights enter products rounded; shifts and gains do not
        let weight = |i: &usize| {
            let spec = self.graph.spec(inputs[*i]);
            spec.dtype == DType::F32 && spec.shape.len() > 1
        };
        let weights: Vec<usize> = (0..inputs.len()).filter(weight).collect();
        let mixed = Mixed::of(operator).rounding(weights);
        self.graph.apply(name, mixed, inputs)
    }

    /// `f(x W + b)`; the shift is that of the columns, if the style has one.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        x: Value,
        shape: &[usize],
        cut: usize,
        deviation: f64,
        then: Option<Pointwise>,
    ) -> Result<Value> {
        let weight = Initial::Normal { deviation };
        let w = self.parameter(&format!("{name}.weight"), shape, Some(cut), weight, x)?;
        let (mut linear, mut parameters) = (Linear::LAST, vec![w]);
        if self.style.biases {
            let shift = (&shape[1..], Some(cut - 1));
            let bias = format!("{name}.bias");
            parameters.push(self.parameter(&bias, shift.0, shift.1, ZEROS, x)?);
            linear = linear.shifted();
        }
        let linear = then.map_or(linear, |function| linear.then(function));
        self.with(name, linear, x, &parameters)
    }

    /// `x W + b` with whole weights on every worker, where the residual stream is; the shift if the style has one.
    pub(crate) fn whole(&mut self, name: &str, x: Value, shape: &[usize; 2]) -> Result<Value> {
        let weight = Initial::Normal {
            deviation: DEVIATION,
        };
        let w = self.parameter(&format!("{name}.weight"), shape, None, weight, x)?;
        if !self.style.biases {
            return self.with(name, Linear::LAST, x, &[w]);
        }
        let b = self.parameter(&format!("{name}.bias"), &shape[1..], None, ZEROS, x)?;
        self.with(name, Linear::LAST.shifted(), x, &[w, b])
    }

    /// The two outputs of a loss, which are not rounded.
    pub(crate) fn measured(
        &mut self,
        name: &str,
        loss: impl Operator + 'static,
        inputs: &[Value],
    ) -> Result<[Value; 2]> {
        let loss: Arc<dyn Operator> = match self.dtype {
            DType::BF16 => Arc::new(Mixed::of(loss).whole()),
            _ => Arc::new(loss),
        };
        match self.graph.apply_all(name, loss, inputs)?.as_slice() {
            [a, b] => Ok([*a, *b]),
            _ => refuse(name, "a loss has two outputs"),
        }
    }

    /// `x + y W + b` over the last dimensions of y, the first of which is cut, in the residual stream; the
    /// shift if the style has one.
    pub(crate) fn back(
        &mut self,
        name: &str,
        [x, y]: [Value; 2],
        shape: &[usize],
        deviation: f64,
    ) -> Result<Value> {
        let residual = self.residual();
        self.back_to(name, [x, y], shape, deviation, &residual)
    }

    /// The same in a stream that is elsewhere.
    pub(crate) fn back_to(
        &mut self,
        name: &str,
        [x, y]: [Value; 2],
        shape: &[usize],
        deviation: f64,
        stream: &Layout,
    ) -> Result<Value> {
        let weight = Initial::Normal { deviation };
        let w = self.parameter(&format!("{name}.weight"), shape, Some(0), weight, y)?;
        let over = shape.len() - 1;
        let part = self.with(&format!("{name}.product"), Linear::over(over), y, &[w])?;
        let whole = self.graph.relayout(part, stream)?;
        let (end, dropout) = (format!("{name}.residual"), format!("{name}.dropout"));
        if !self.style.biases {
            let whole = self.dropped(&dropout, whole)?;
            return self.apply(&end, Add, &[x, whole]);
        }
        let b = self.parameter(&format!("{name}.bias"), &shape[over..], None, ZEROS, whole)?;
        if self.style.dropout.rate == 0.0 {
            return self.apply(&end, Residual, &[x, whole, b]);
        }
        let branch = self.apply(&format!("{name}.shifted"), Bias, &[whole, b])?;
        let branch = self.dropped(&dropout, branch)?;
        self.apply(&end, Add, &[x, branch])
    }

    /// `x` with a part of it left out, if that is asked for.
    pub(crate) fn dropped(&mut self, name: &str, x: Value) -> Result<Value> {
        match self.style.dropout {
            Dropout { rate: 0.0, .. } => Ok(x),
            dropout => self.apply(name, dropout, &[x]),
        }
    }

    /// Normalization of the residual stream.
    pub(crate) fn norm(&mut self, name: &str, x: Value, width: usize) -> Result<Value> {
        let ones = Initial::Constant(1.0);
        let gain = self.parameter(&format!("{name}.gain"), &[width], None, ones, x)?;
        let epsilon = self.style.epsilon;
        if self.style.norm == Norm::Rms {
            return self.with(name, RmsNorm { epsilon }, x, &[gain]);
        }
        let shift = self.parameter(&format!("{name}.shift"), &[width], None, ZEROS, x)?;
        self.with(name, LayerNorm { epsilon }, x, &[gain, shift])
    }
}

const ZEROS: Initial = Initial::Constant(0.0);
