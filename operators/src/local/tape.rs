//! The tape: a flat list of operations and their values.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};

use super::ledger::Ledger;
use super::operation::Operation;
use crate::OperatorError;

/// A value on a tape: its place in the list. On another tape it means another value, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub(super) usize);

/// One operation and what it gave.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) operation: Operation,
    pub(super) inputs: Box<[Handle]>,
    pub(super) shape: Box<[usize]>,
    pub(super) dtype: DType,
    pub(super) device: Device,
    /// `None` when it was let go.
    value: Option<Tensor>,
}

/// Operations on tensors, in the order in which they were done, with the values that derivatives need.
///
/// ```
/// use advect_operators::local::{Device, Tape, Tensor};
///
/// let mut tape = Tape::new();
/// let x = tape.input("x", &Tensor::new(&[1.0, 2.0, 3.0], &Device::Cpu)?);
/// let cube = tape.powf(x, 3.0)?;
/// let energy = tape.sum_all(cube)?;
/// let one = tape.ones_like(energy)?;
/// let slope = tape.gradients(&[energy], &[one], &[x])?[0]; // 3 x², on the tape again
/// let weight = tape.value(slope)?.ones_like()?;
/// let curvature = tape.sweep(&[slope], &[weight], &[x])?;
/// assert_eq!(curvature[0].to_vec1::<f64>()?, [6.0, 12.0, 18.0]);
/// # Ok::<(), advect_operators::OperatorError>(())
/// ```
#[derive(Debug, Default)]
pub struct Tape {
    nodes: Vec<Node>,
    ledger: Ledger,
}

impl Tape {
    /// A tape with nothing on it.
    pub fn new() -> Self {
        Tape::default()
    }

    /// A tensor from outside; `name` is what errors call it.
    pub fn input(&mut self, name: impl Into<Cow<'static, str>>, tensor: &Tensor) -> Handle {
        // whatever another library tracks of the tensor ends here
        let tensor = tensor.detach();
        self.push(Operation::Leaf(name.into()), &[], tensor)
    }

    /// A tensor that no gradient is asked for.
    pub fn constant(&mut self, tensor: &Tensor) -> Handle {
        self.input("a constant", tensor)
    }

    /// The value of a node.
    ///
    /// # Errors
    /// [`OperatorError::Tensor`] if it was let go ([`Tape::trim`]), or there is no such place on this tape.
    pub fn value(&self, of: Handle) -> Result<&Tensor, OperatorError> {
        let node = self.node(of)?;
        node.value.as_ref().ok_or_else(|| {
            let why = format!("the value of {} was let go", self.name(of));
            OperatorError::tensor("tape", why)
        })
    }

    /// The values of nodes.
    pub(super) fn values(&self, of: &[Handle]) -> Result<Vec<&Tensor>, OperatorError> {
        of.iter().map(|h| self.value(*h)).collect()
    }

    /// Extents of a value, outermost first.
    ///
    /// # Errors
    /// [`OperatorError::Tensor`] if there is no such place on this tape.
    pub fn shape(&self, of: Handle) -> Result<&[usize], OperatorError> {
        Ok(&self.node(of)?.shape)
    }

    /// Element type of a value.
    ///
    /// # Errors
    /// [`OperatorError::Tensor`] if there is no such place on this tape.
    pub fn dtype(&self, of: Handle) -> Result<DType, OperatorError> {
        Ok(self.node(of)?.dtype)
    }

    /// The device that a value is on.
    ///
    /// # Errors
    /// [`OperatorError::Tensor`] if there is no such place on this tape.
    pub fn device(&self, of: Handle) -> Result<&Device, OperatorError> {
        Ok(&self.node(of)?.device)
    }

    /// Bytes of the values that are kept. Views of the same memory count once.
    pub fn bytes(&self) -> usize {
        self.ledger.bytes()
    }

    /// Number of operations, inputs included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Lets go all values that no derivative, of any order, needs. Inputs stay.
    pub fn trim(&mut self) {
        let mut needed: Vec<bool> = self
            .nodes
            .iter()
            .map(|n| n.operation.needs_itself())
            .collect();
        for node in &self.nodes {
            for (i, input) in node.inputs.iter().enumerate() {
                needed[input.0] |= node.operation.needs_input(i);
            }
        }
        for (at, _) in needed.iter().enumerate().filter(|(_, needed)| !**needed) {
            self.release(at);
        }
    }

    /// What an error calls a node.
    pub(super) fn name(&self, of: Handle) -> String {
        match self.nodes.get(of.0).map(|n| &n.operation) {
            Some(Operation::Leaf(name)) => name.to_string(),
            Some(other) => format!("the result of {} (operation {})", other.name(), of.0),
            None => format!("operation {}", of.0),
        }
    }

    pub(super) fn node(&self, of: Handle) -> Result<&Node, OperatorError> {
        self.nodes.get(of.0).ok_or_else(|| {
            let why = format!(
                "{} is not on this tape; it is of another one",
                self.name(of)
            );
            OperatorError::tensor("tape", why)
        })
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Does an operation and writes it down.
    pub(super) fn apply(
        &mut self,
        operation: Operation,
        inputs: &[Handle],
    ) -> Result<Handle, OperatorError> {
        let value = {
            let of = self.values(inputs)?;
            operation
                .compute(&of)
                .map_err(|e| OperatorError::tensor(operation.name(), e.to_string()))?
        };
        Ok(self.push(operation, inputs, value))
    }

    pub(super) fn push(
        &mut self,
        operation: Operation,
        inputs: &[Handle],
        value: Tensor,
    ) -> Handle {
        self.ledger.hold(&value);
        self.nodes.push(Node {
            operation,
            inputs: inputs.into(),
            shape: value.dims().into(),
            dtype: value.dtype(),
            device: value.device().clone(),
            value: Some(value),
        });
        Handle(self.nodes.len() - 1)
    }

    /// Lets the value of a node go.
    pub(super) fn release(&mut self, at: usize) {
        if let Some(value) = self.nodes[at].value.take() {
            self.ledger.release(&value);
        }
    }

    /// Takes back all operations from number `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        for at in len..self.nodes.len() {
            self.release(at);
        }
        self.nodes.truncate(len);
    }
}
