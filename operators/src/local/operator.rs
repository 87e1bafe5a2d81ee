//! Functions on a tape as operators.

use std::cell::Cell;
use std::fmt::{self, Debug};
use std::sync::Arc;

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{EngineError, Mesh, Operator, Result, Shard, Spec};
use candle_core::{Device, Tensor};

use super::resident::Resident;
use super::shards::{known, piece, tensor};
use super::tape::{Handle, Tape};
use crate::OperatorError;

/// What one worker computes on its pieces, with the verbs of a [`Tape`].
pub trait Function: Debug + Send + Sync {
    /// Number of inputs.
    fn inputs(&self) -> usize;

    /// Shapes, types and layouts of the outputs. [`RowLayouts`](super::RowLayouts) is the usual rule.
    ///
    /// # Errors
    /// [`EngineError::Operator`] naming what does not fit and which relayout mends it.
    fn infer(&self, mesh: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>>;

    /// The outputs, from the pieces of this worker. It gives the same for the same inputs.
    ///
    /// # Errors
    /// [`OperatorError`] if an operation does not fit its operands.
    fn record(
        &self,
        site: &Site,
        tape: &mut Tape,
        inputs: &[Handle],
    ) -> std::result::Result<Vec<Handle>, OperatorError>;

    /// Whether input `input` has a derivative, if its numbers are floating-point.
    fn differentiable(&self, input: usize) -> bool {
        let _ = input;
        true
    }
}

/// An operator from a [`Function`]: its adjoint is a sweep of the tape, its tangent a sweep of that sweep.
///
/// It takes plain tensors of `f32`, `f64`, `bf16` and, without derivative, `i64`, and works on one device.
/// Like every operator it moves nothing between workers: a cotangent is in the dual layout of its tensor.
/// A gradient that is asked for and that no output depends on is an error, not a zero.
///
/// For outputs $y$, any $u$ and the sweep $g(u) = (\partial y/\partial x)^\top u$, the tangent is
/// $(\partial g/\partial u)^\top \dot x = (\partial y/\partial x)\,\dot x$.
#[derive(Clone)]
pub struct Local<F> {
    function: F,
    device: Device,
    /// The inputs that the graph keeps: all, or none where the tape is kept.
    again: Vec<usize>,
    /// The inputs whose tensors stay on the device while the same pieces come.
    held: Vec<usize>,
    resident: Arc<Resident>,
}

/// A graph shows the function.
impl<F: Function> Debug for Local<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.function, f)
    }
}

/// A function at one point.
struct Recording {
    tape: Tape,
    inputs: Vec<Handle>,
    outputs: Vec<Handle>,
}

/// What is kept of a point. The first that asks gets the recording; it is made again for others.
struct Point {
    inputs: Vec<Tensor>,
    recording: Cell<Option<Recording>>,
}

impl<F: Function> Local<F> {
    /// On the processor, keeping what the derivative needs.
    pub fn new(function: F) -> Self {
        Local {
            function,
            device: Device::Cpu,
            again: Vec::new(),
            held: Vec::new(),
            resident: Arc::default(),
        }
    }

    /// On another device; [`device`](super::device()) gives it by its name.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Local { device, ..self }
    }

    /// Keeping the inputs only: the adjoint computes the function again, and gives the same bits.
    #[must_use]
    pub fn remade(self) -> Self {
        Local {
            again: (0..self.function.inputs()).collect(),
            ..self
        }
    }

    /// With the tensors of these inputs on the device for as long as the same pieces come, on each worker the last
    /// of each: parameters, which come once a version and are used at all its moments. What is written to in
    /// place is another piece.
    #[must_use]
    pub fn holding(self, inputs: impl Into<Vec<usize>>) -> Self {
        Local {
            held: inputs.into(),
            ..self
        }
    }

    /// Number of tensors of held inputs that were brought to the device, on all workers of this process.
    pub fn brought(&self) -> usize {
        self.resident.made()
    }

    /// The type of the function, for errors.
    fn called(&self) -> String {
        let full = format!("{:?}", self.function);
        let end = full.find([' ', '(', '{']).unwrap_or(full.len());
        full[..end].to_owned()
    }

    fn record(&self, site: &Site, inputs: &[Tensor]) -> Result<Recording> {
        let mut tape = Tape::new();
        let named = inputs.iter().enumerate();
        let inputs: Vec<Handle> = named
            .map(|(i, tensor)| tape.input(format!("input {i}"), tensor))
            .collect();
        let outputs = self
            .function
            .record(site, &mut tape, &inputs)
            .map_err(|e| site.error(e.to_string()))?;
        if outputs.len() != site.outputs().len() {
            let why = format!(
                "{} gave {} outputs and announced {}",
                self.called(),
                outputs.len(),
                site.outputs().len()
            );
            return Err(site.error(why));
        }
        Ok(Recording {
            tape,
            inputs,
            outputs,
        })
    }

    /// The recording at the point that was kept.
    fn recorded(&self, site: &Site, saved: &Saved) -> Result<Recording> {
        if self.again.is_empty() {
            let point: &Point = saved.get(site)?;
            return match point.recording.take() {
                Some(recording) => Ok(recording),
                None => self.record(site, &point.inputs),
            };
        }
        let inputs = self.again.iter().map(|&i| saved.input(site, i));
        let inputs = (inputs.enumerate()).map(|(i, piece)| self.input(site, i, piece?));
        self.record(site, &inputs.collect::<Result<Vec<_>>>()?)
    }

    /// (∂y/∂x) ẋ for each output; `None` for one that depends on no input.
    fn along(
        &self,
        site: &Site,
        recording: Recording,
        tangents: Vec<Tensor>,
    ) -> std::result::Result<Vec<Option<Tensor>>, OperatorError> {
        let Recording {
            mut tape,
            inputs,
            outputs,
        } = recording;
        let numbered = (0..inputs.len()).zip(inputs).zip(tangents);
        let smooth = numbered
            .filter(|((i, _), _)| site.inputs()[*i].is_real() && self.function.differentiable(*i));
        let (inputs, tangents): (Vec<Handle>, Vec<Tensor>) =
            smooth.map(|((_, h), tangent)| (h, tangent)).unzip();
        let real = (0..outputs.len()).filter(|&i| site.outputs()[i].is_real());
        let places: Vec<usize> = real.collect();
        let (mut from, mut weights) = (Vec::new(), Vec::new());
        for &place in &places {
            from.push(outputs[place]);
            weights.push(tape.zeros_like(outputs[place])?);
        }
        let swept = tape.gradients_if_any(&from, &weights, &inputs)?;
        let pairs = swept.into_iter().zip(tangents);
        let pairs = pairs.filter_map(|(g, tangent)| Some((g?, tangent)));
        let (swept, tangents): (Vec<Handle>, Vec<Tensor>) = pairs.unzip();
        let mut found = vec![None; outputs.len()];
        tape.sweep_if_any(&swept, &tangents, &weights, |ready| {
            found[places[ready.input]] = Some(ready.gradient);
            Ok(())
        })?;
        Ok(found)
    }

    /// An input on the device.
    fn input(&self, site: &Site, number: usize, piece: &Shard) -> Result<Tensor> {
        let bring = || tensor(site, piece, &self.device);
        match self.held.contains(&number) {
            true => self.resident.tensor(site.worker(), number, piece, bring),
            false => bring(),
        }
    }

    fn tensors(&self, site: &Site, pieces: &[Shard]) -> Result<Vec<Tensor>> {
        let made = pieces.iter().map(|p| tensor(site, p, &self.device));
        made.collect()
    }
}

/// The floating-point outputs, with what is given for them.
fn real(site: &Site, outputs: &[Handle], given: Vec<Tensor>) -> (Vec<Handle>, Vec<Tensor>) {
    let pairs = outputs.iter().copied().zip(given).zip(site.outputs());
    let real = pairs.filter(|(_, spec)| spec.is_real());
    real.map(|(pair, _)| pair).unzip()
}

impl<F: Function> Operator for Local<F> {
    fn infer(&self, mesh: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let refuse = |why: String| {
            Err(EngineError::Operator {
                operator: self.called(),
                why,
            })
        };
        if inputs.len() != self.function.inputs() {
            let (takes, got) = (self.function.inputs(), inputs.len());
            return refuse(format!("it takes {takes} inputs, not {got}"));
        }
        for spec in inputs {
            if !known(spec.dtype) || spec.rows != Rows::Plain {
                let why = format!("{spec}: give plain tensors of F32, F64, BF16 or I64");
                return refuse(why);
            }
        }
        self.function.infer(mesh, inputs)
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let inputs = inputs.iter().enumerate();
        let inputs = inputs.map(|(i, piece)| self.input(site, i, piece));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let mut recording = self.record(site, &inputs)?;
        let mut pieces = Vec::new();
        for &output in &recording.outputs {
            let value = recording.tape.value(output);
            let value = value.map_err(|e| site.error(e.to_string()))?;
            pieces.push(piece(site, value)?);
        }
        if !self.again.is_empty() {
            return Ok((pieces, Saved::nothing()));
        }
        recording.tape.trim();
        let bytes = recording.tape.bytes();
        let point = Point {
            inputs,
            recording: Cell::new(Some(recording)),
        };
        Ok((pieces, Saved::new(point, bytes)))
    }

    fn keeps(&self) -> &[usize] {
        &self.again
    }

    fn differentiable(&self, input: usize) -> bool {
        self.function.differentiable(input)
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let recording = self.recorded(site, saved)?;
        let refused = |e: OperatorError| site.error(e.to_string());
        let tangents = self.tensors(site, tangents)?;
        let along = self.along(site, recording, tangents).map_err(refused)?;
        let changes = along.into_iter().zip(site.outputs());
        changes
            .map(|(change, spec)| match change {
                Some(change) => piece(site, &change),
                None => Ok(spec.zero(site.mesh(), site.worker(), site.key())),
            })
            .collect()
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let Recording {
            tape,
            inputs,
            outputs,
        } = self.recorded(site, saved)?;
        let given = self.tensors(site, cotangents)?;
        let (from, seeds) = real(site, &outputs, given);
        let places: Vec<usize> = (0..inputs.len()).filter(|&i| wanted[i]).collect();
        let to: Vec<Handle> = places.iter().map(|&i| inputs[i]).collect();
        let mut answers: Vec<Option<Result<Shard>>> = inputs.iter().map(|_| None).collect();
        tape.sweep_with(&from, &seeds, &to, |ready| {
            answers[places[ready.input]] = Some(piece(site, &ready.gradient));
            Ok(())
        })
        .map_err(|e| site.error(e.to_string()))?;
        answers.into_iter().map(Option::transpose).collect()
    }
}
