//! Segments whose inner values are made again when a sweep comes to them.

use std::fmt;
use std::rc::Rc;

use candle_core::Tensor;

use super::kernel::Kernel;
use super::operation::Operation;
use super::plan::Plan;
use super::tape::{Handle, Tape};
use crate::OperatorError;

type Result<T> = std::result::Result<T, OperatorError>;

/// A function on a tape.
type Make = dyn Fn(&mut Tape, &[Handle]) -> Result<Vec<Handle>>;

/// A function whose values are not kept.
pub(super) struct Segment {
    make: Box<Make>,
    /// What takes its place, except where derivatives are recorded, and what that keeps.
    kernel: Option<(Rc<dyn Kernel>, Vec<Tensor>)>,
    /// By result and input, whether there is a path.
    depends: Vec<Vec<bool>>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("depends", &self.depends)
            .finish_non_exhaustive()
    }
}

/// A segment on a tape of its own.
pub(super) struct Again {
    pub(super) tape: Tape,
    pub(super) inputs: Vec<Handle>,
    pub(super) outputs: Vec<Handle>,
}

impl Segment {
    /// A function of one result that a kernel has the value and the cotangents of.
    pub(super) fn by(
        kernel: (Rc<dyn Kernel>, Vec<Tensor>),
        make: impl Fn(&mut Tape, &[Handle]) -> Result<Vec<Handle>> + 'static,
        depends: Vec<bool>,
    ) -> Self {
        Segment {
            make: Box::new(make),
            kernel: Some(kernel),
            depends: vec![depends],
        }
    }

    pub(super) fn kernel(&self) -> Option<(&dyn Kernel, &[Tensor])> {
        let (kernel, kept) = self.kernel.as_ref()?;
        Some((&**kernel, kept))
    }

    /// Number of results.
    pub(super) fn parts(&self) -> usize {
        self.depends.len()
    }

    pub(super) fn depends(&self, part: usize, input: usize) -> bool {
        self.depends[part][input]
    }

    /// Records the segment on the given tape.
    pub(super) fn record(&self, tape: &mut Tape, inputs: &[Handle]) -> Result<Vec<Handle>> {
        (self.make)(tape, inputs)
    }

    /// Makes the values again from those of the inputs on `tape`.
    pub(super) fn again(&self, tape: &Tape, inputs: &[Handle]) -> Result<Again> {
        again(&*self.make, tape, inputs)
    }
}

fn again(make: &Make, from: &Tape, inputs: &[Handle]) -> Result<Again> {
    let mut tape = Tape::new();
    let mut own = Vec::new();
    for &h in inputs {
        own.push(tape.input(from.name(h), from.value(h)?));
    }
    let outputs = make(&mut tape, &own)?;
    Ok(Again {
        tape,
        inputs: own,
        outputs,
    })
}

impl Tape {
    /// The results of `make`, of which the tape keeps neither the inner values nor the operations: a sweep
    /// makes them again when it comes there. Values and gradients have the bits that they would have
    /// without; second derivatives add the same terms in another order. `make` uses the inputs that it is
    /// given, and gives the same for the same; segments may stand in segments.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn remake(
        &mut self,
        inputs: &[Handle],
        make: impl Fn(&mut Tape, &[Handle]) -> Result<Vec<Handle>> + 'static,
    ) -> Result<Vec<Handle>> {
        let first = again(&make, self, inputs)?;
        let mut depends = Vec::new();
        let mut values = Vec::new();
        for &output in &first.outputs {
            values.push(first.tape.value(output)?.clone());
            let plan = Plan::new(first.tape.nodes(), &[output], &first.inputs);
            depends.push(first.inputs.iter().map(|h| plan.passes(h.0)).collect());
        }
        let segment = Segment {
            make: Box::new(make),
            kernel: None,
            depends,
        };
        Ok(self.segment(segment, inputs, values))
    }

    /// The results of a segment.
    pub(super) fn segment(
        &mut self,
        segment: Segment,
        inputs: &[Handle],
        values: Vec<Tensor>,
    ) -> Vec<Handle> {
        let of = Rc::new(segment);
        let parts = values.into_iter().enumerate().map(|(part, value)| {
            let of = Rc::clone(&of);
            self.push(Operation::Segment { of, part }, inputs, value)
        });
        parts.collect()
    }
}
