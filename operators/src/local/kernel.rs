//! Segments that a device has a kernel for.

use std::fmt::Debug;
use std::rc::Rc;

use candle_core::{Result, Tensor};

use super::remake::Segment;
use super::tape::{Handle, Tape};
use crate::OperatorError;

/// The value and the cotangents of a function of one result, without a tape. What it computes is what the segment
/// records that it stands for.
pub(crate) trait Kernel: Debug {
    /// Whether it takes tensors of these shapes and types on their device.
    fn takes(&self, inputs: &[&Tensor]) -> bool;

    /// The value, and what the cotangents need beside it and the inputs: little, or what the tape keeps anyway.
    ///
    /// # Errors
    /// If the device refuses.
    fn value(&self, inputs: &[&Tensor]) -> Result<(Tensor, Vec<Tensor>)>;

    /// The cotangents of all inputs from that of the value, with what was kept.
    ///
    /// # Errors
    /// If the device refuses.
    fn cotangents(&self, inputs: &[&Tensor], kept: &[Tensor], back: &Tensor)
    -> Result<Vec<Tensor>>;
}

impl Tape {
    /// As [`Tape::remake`] of a function with one result, by a kernel, if there is one that takes the inputs; derivatives
    /// of higher order are those of `make`.
    ///
    /// # Errors
    /// Those of `make`, and of the device.
    pub(crate) fn remake_by(
        &mut self,
        inputs: &[Handle],
        kernel: Option<Rc<dyn Kernel>>,
        make: impl Fn(&mut Tape, &[Handle]) -> std::result::Result<Vec<Handle>, OperatorError> + 'static,
    ) -> std::result::Result<Vec<Handle>, OperatorError> {
        let given = inputs.iter().map(|h| self.value(*h));
        let given = given.collect::<std::result::Result<Vec<_>, _>>()?;
        let Some(kernel) = kernel.filter(|kernel| kernel.takes(&given)) else {
            return self.remake(inputs, make);
        };
        let (value, kept) = kernel.value(&given)?;
        let depends = given.iter().map(|x| x.dtype().is_float()).collect();
        let segment = Segment::by((kernel, kept), make, depends);
        Ok(self.segment(segment, inputs, vec![value]))
    }
}
