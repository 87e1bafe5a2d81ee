//! Operators: a local function with its tangent and its adjoint.

use std::any::Any;
use std::cell::OnceCell;
use std::fmt::Debug;
use std::rc::Rc;

use crate::error::{EngineError, Result};
use crate::graph::Spec;
use crate::graph::kept::{Held, Kept};
use crate::graph::place::Places;
use crate::mesh::Mesh;
use crate::shard::Shard;

/// A differentiable function of tensors, as one worker computes it on its pieces.
///
/// An operator moves nothing between workers: [`infer`](Operator::infer) says which layouts it can
/// work on and which layouts come out, and relayouts stand beside it in the graph. Its adjoint
/// takes cotangents in the dual of its output layouts and gives cotangents in the dual of its
/// input layouts. That makes collectives follow from types: what is `Same` on the way in has a
/// cotangent that is `Partial(Sum)`, so the local contribution is the whole answer.
///
/// Every operator is registered with the harness in [`laws`](crate::laws).
pub trait Operator: Debug + Send + Sync {
    /// Shapes, types and layouts of the outputs.
    ///
    /// # Errors
    /// [`EngineError::Operator`] naming what does not fit and which relayout mends it.
    fn infer(&self, mesh: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>>;

    /// The outputs, and what [`tangent`](Operator::tangent) and [`adjoint`](Operator::adjoint)
    /// need to know of this point.
    ///
    /// # Errors
    /// [`EngineError::Operator`] if the inputs are outside the domain of the function.
    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)>;

    /// The derivative applied to one tangent per input, in the layouts of the inputs.
    ///
    /// # Errors
    /// As [`forward`](Operator::forward).
    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>>;

    /// The transposed derivative applied to one cotangent per output, in the dual layouts of the
    /// outputs. Input `i` is answered, in the dual of its layout, where `wanted[i]`; for the
    /// others `None` saves the work.
    ///
    /// # Errors
    /// As [`forward`](Operator::forward).
    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>>;

    /// The inputs, by number, that tangent and adjoint need as they are: the graph keeps them, and gives
    /// them by [`Saved::input`]. One that is made again ([`Graph::remake`](crate::Graph::remake)) is
    /// let go until then, which it is not if the operator keeps it by itself.
    fn keeps(&self) -> &[usize] {
        &[]
    }

    /// Whether to answer some inputs of the adjoint first and the others later costs no more than all at
    /// once: as in products, whose factors have cotangents that have nothing in common.
    fn separable(&self) -> bool {
        false
    }

    /// Whether input `input` has a derivative, if its numbers are floating-point. Masks and labels
    /// have none.
    fn differentiable(&self, input: usize) -> bool {
        let _ = input;
        true
    }
}

/// Where and when an operator works.
#[derive(Debug, Clone)]
pub struct Site {
    pub(crate) name: String,
    pub(crate) mesh: Mesh,
    pub(crate) worker: usize,
    /// Whether the operator is at another place: its inputs are, and it has nothing to do here.
    pub(crate) absent: bool,
    pub(crate) inputs: Vec<Spec>,
    pub(crate) outputs: Vec<Spec>,
    pub(crate) moment: [u64; 2],
    pub(crate) key: u64,
}

impl Site {
    /// Name of the operator in its graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Index of this worker.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Place of this worker on each mesh axis.
    pub fn coordinates(&self) -> Vec<usize> {
        self.mesh.coordinates(self.worker)
    }

    /// The logical tensors that come in.
    pub fn inputs(&self) -> &[Spec] {
        &self.inputs
    }

    /// The logical tensors that go out.
    pub fn outputs(&self) -> &[Spec] {
        &self.outputs
    }

    /// The time as two counters, outer first ([`Moment::coordinates`](crate::graph::Moment)).
    pub fn moment(&self) -> [u64; 2] {
        self.moment
    }

    /// Which of several tensors of one time this is.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Local extents of output `i`.
    pub fn output_shape(&self, i: usize) -> Vec<usize> {
        self.outputs[i].local_shape(&self.mesh, self.worker)
    }

    /// Local extents of input `i`.
    pub fn input_shape(&self, i: usize) -> Vec<usize> {
        self.inputs[i].local_shape(&self.mesh, self.worker)
    }

    /// Global index of each local index of input `i`, per dimension.
    pub fn input_indices(&self, i: usize) -> Vec<Vec<usize>> {
        self.inputs[i]
            .layout
            .indices(&self.mesh, &self.inputs[i].shape, self.worker)
    }

    /// The place of an operator that is a part of this one, here and now, with inputs of its own.
    ///
    /// # Errors
    /// [`EngineError::Operator`] if it does not take them.
    pub fn inside(&self, name: &str, part: &dyn Operator, inputs: Vec<Spec>) -> Result<Site> {
        Ok(Site {
            name: name.to_owned(),
            outputs: Places::infer(name, &self.mesh, part, &inputs)?,
            inputs,
            ..self.clone()
        })
    }

    /// What an operator gives where it is not.
    pub(crate) fn nothing(&self) -> Vec<Shard> {
        let zero = |spec: &Spec| spec.zero(&self.mesh, self.worker, self.key);
        self.outputs.iter().map(zero).collect()
    }

    /// An [`EngineError::Operator`] that names this operator, its worker and its time.
    pub fn error(&self, why: impl Into<String>) -> EngineError {
        let [outer, inner] = self.moment;
        EngineError::Operator {
            operator: format!(
                "{} on worker {} at ({outer}, {inner})",
                self.name, self.worker
            ),
            why: why.into(),
        }
    }
}

/// What the forward pass keeps for the derivative at its point.
///
/// In the dataflow it is a message from an operator to its own adjoint: it lives from the one to
/// the other, or until the frontier says that no cotangent will come, or not at all where no
/// adjoint is wired.
#[derive(Debug)]
pub struct Saved {
    value: Box<dyn Any>,
    bytes: usize,
    /// Inputs that the operator needs, by number, when they are there.
    inputs: Vec<(usize, OnceCell<Shard>)>,
    /// Counts it while it lives.
    held: Option<Held>,
}

impl Saved {
    /// Keeps `value`, which holds `bytes` bytes of tensors.
    pub fn new<V: 'static>(value: V, bytes: usize) -> Self {
        Saved {
            value: Box::new(value),
            bytes,
            inputs: Vec::new(),
            held: None,
        }
    }

    /// Keeps whole shards.
    pub fn shards(shards: Vec<Shard>) -> Self {
        let bytes = shards.iter().map(Shard::bytes_len).sum();
        Saved::new(shards, bytes)
    }

    /// Keeps nothing: the operator is linear.
    pub fn nothing() -> Self {
        Saved::new((), 0)
    }

    /// Bytes of tensors that are kept.
    pub fn bytes(&self) -> usize {
        let inputs = self.inputs.iter().filter_map(|(_, cell)| cell.get());
        self.bytes + inputs.map(Shard::bytes_len).sum::<usize>()
    }

    /// What was kept.
    ///
    /// # Errors
    /// [`EngineError::Operator`] if the forward pass kept something of another type.
    pub fn get<V: 'static>(&self, site: &Site) -> Result<&V> {
        self.value.downcast_ref().ok_or_else(|| {
            site.error(format!(
                "the forward pass kept no {}; keep and read the same type",
                std::any::type_name::<V>()
            ))
        })
    }

    /// An input that the operator needs ([`Operator::keeps`]).
    ///
    /// # Errors
    /// [`EngineError::Operator`] if the operator does not name it.
    pub fn input(&self, site: &Site, number: usize) -> Result<&Shard> {
        let found = self.inputs.iter().find(|(i, _)| *i == number);
        found.and_then(|(_, cell)| cell.get()).ok_or_else(|| {
            site.error(format!(
                "the graph kept no input {number}; name it in Operator::keeps"
            ))
        })
    }

    /// Keeps the inputs that the operator needs; those that are not there come later.
    pub(crate) fn hold(
        &mut self,
        needed: &[usize],
        inputs: &[Shard],
        there: impl Fn(usize) -> bool,
    ) {
        let cell = |&i: &usize| match there(i) {
            true => (i, OnceCell::from(inputs[i].clone())),
            false => (i, OnceCell::new()),
        };
        self.inputs = needed.iter().map(cell).collect();
    }

    /// The shards that were kept, if nothing but shards was.
    pub(crate) fn take_shards(&mut self) -> Option<Vec<Shard>> {
        self.value.downcast_mut().map(std::mem::take)
    }

    /// These inputs in place of those that were held.
    pub(crate) fn put(&mut self, inputs: Vec<(usize, Shard)>) {
        let cells = inputs
            .into_iter()
            .map(|(i, shard)| (i, OnceCell::from(shard)));
        self.inputs = cells.collect();
    }

    /// Takes an input that came later.
    pub(crate) fn take(&self, number: usize, shard: Shard) {
        if let Some((_, cell)) = self.inputs.iter().find(|(i, _)| *i == number) {
            cell.get_or_init(|| shard);
        }
    }

    /// Counts what is kept for as long as it lives.
    pub(crate) fn count(&mut self, kept: &Rc<Kept>) {
        self.held = Some(kept.hold(self.bytes()));
    }
}
