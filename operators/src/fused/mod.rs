//! Operators that follow each other as one function on a device.
//!
//! The operators of a network have a kernel by hand for processors, and most of them the same mathematics on a
//! [`Tape`] ([`OnTape`]). [`Fused`] records those of a [`Chain`](advect_engine::graph::Chain) one after the
//! other, so that a branch of a block, say, is one operator of the graph. Its stream stays on the device
//! for the next one, unless a relayout or an operator of processors reads it. What such a chain makes of layouts is what its operators make of them.
//!
//! In mixed precision the casts are inside: weights enter products rounded to `bf16`, norms, softmax, shifts and
//! functions of each element are worked in `f32`, and gradients of parameters come out in `f32`.

mod attention;
mod chain;
mod linear;
mod norm;
mod residual;

#[cfg(test)]
mod half;
#[cfg(test)]
mod tests;

pub(crate) mod laws;

pub(crate) use attention::by_blocks;
pub(crate) use chain::Fused;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use advect_engine::graph::{Fit, Site};

use crate::OperatorError;
use crate::attention::{Attention, Rotary};
use crate::gpu::{Known, kernel};
use crate::local::{Handle, Tape, wide};
use crate::network::{Add, Bias, Gated, LayerNorm, Linear, Residual, RmsNorm};

type Result<T> = std::result::Result<T, OperatorError>;

/// An operator whose mathematics can be recorded on a tape, too.
pub(crate) trait OnTape: Debug + Send + Sync {
    /// The output, in the type of the first input, from the pieces of the worker at `site`, which is that of the
    /// operator.
    ///
    /// # Errors
    /// [`OperatorError`] if an operation does not fit its operands.
    fn record(&self, site: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle>;

    /// Whether a chain ends with it: that of a branch, whose gradients go to their reduction while other branches
    /// are worked on.
    fn ends(&self) -> bool {
        false
    }
}

/// The form on a tape of an operator, if it has one.
pub(crate) fn on_tape(operator: &dyn Any) -> Option<Arc<dyn OnTape>> {
    fn form<O: OnTape + Clone + 'static>(operator: &dyn Any) -> Option<Arc<dyn OnTape>> {
        let known: &O = operator.downcast_ref()?;
        Some(Arc::new(known.clone()))
    }
    let forms = [
        form::<LayerNorm>,
        form::<RmsNorm>,
        form::<Linear>,
        form::<Gated>,
        form::<Rotary>,
        form::<Attention>,
        form::<Bias>,
        form::<Add>,
        form::<Residual>,
    ];
    forms.into_iter().find_map(|form| form(operator))
}

/// What an operator with this form, or none, has to do with the chain before it.
pub(crate) fn fit(form: Option<Arc<dyn OnTape>>) -> Fit {
    match form {
        None => Fit::Apart,
        Some(form) if form.ends() => Fit::Ends,
        Some(_) => Fit::Joins,
    }
}

/// x in the type in which sums and functions are worked.
fn widened(tape: &mut Tape, x: Handle) -> Result<Handle> {
    let to = wide(tape.dtype(x)?);
    tape.cast(x, to)
}

/// The inputs, if there are as many.
fn exactly<const N: usize>(operation: &'static str, inputs: &[Handle]) -> Result<[Handle; N]> {
    inputs.try_into().map_err(|_| {
        let why = format!("it takes {N} inputs, not {}", inputs.len());
        OperatorError::tensor(operation, why)
    })
}

/// One result of a function whose inner values are made again when a sweep comes to it, or that a GPU has a kernel for.
fn remade(
    tape: &mut Tape,
    inputs: &[Handle],
    known: Option<Known>,
    make: impl Fn(&mut Tape, &[Handle]) -> Result<Handle> + 'static,
) -> Result<Handle> {
    let make = move |tape: &mut Tape, inputs: &[Handle]| Ok(vec![make(tape, inputs)?]);
    let made = match tape.taken(inputs, known.and_then(kernel))? {
        Some(kernel) => tape.remake_by(inputs, kernel, make)?,
        None => tape.remake(inputs, make)?,
    };
    let [only] = exactly("remake", &made)?;
    Ok(only)
}
