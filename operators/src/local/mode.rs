//! The two ways of a sweep: recorded, or letting go what it passes.

use std::rc::Rc;

use candle_core::Tensor;

use super::remake::Segment;
use super::tape::{Handle, Tape};
use crate::OperatorError;

type Result<T> = std::result::Result<T, OperatorError>;

/// How a sweep holds cotangents.
pub(super) trait Mode {
    type Cotangent: Clone;
    /// The cotangent as a value of the tape.
    fn enter(tape: &mut Tape, cotangent: Self::Cotangent) -> Handle;
    /// A value of the tape as a cotangent.
    fn leave(tape: &Tape, of: Handle) -> Result<Self::Cotangent>;
    /// Two cotangents that meet.
    fn add(tape: &mut Tape, a: Self::Cotangent, b: &Self::Cotangent) -> Result<Self::Cotangent>;
    /// The adjoint of a segment. Each input that is wanted begins with the sum that it has already, so that
    /// additions have the order that they have without segments.
    fn segment(
        tape: &mut Tape,
        segment: &Rc<Segment>,
        inputs: &[Handle],
        cotangents: &[Option<Self::Cotangent>],
        wanted: Vec<(usize, Option<Self::Cotangent>)>,
    ) -> Result<Vec<Self::Cotangent>>;
    /// The sweep has passed node `at`; operations from `mark` on were its adjoint.
    fn passed(tape: &mut Tape, at: usize, mark: usize);
}

/// Operations of the sweep stay on the tape.
pub(super) enum Recorded {}

/// Operations of the sweep go, and so does every value that it has passed.
pub(super) enum Released {}

impl Mode for Recorded {
    type Cotangent = Handle;

    fn enter(_: &mut Tape, cotangent: Handle) -> Handle {
        cotangent
    }

    fn leave(_: &Tape, of: Handle) -> Result<Handle> {
        Ok(of)
    }

    fn add(tape: &mut Tape, a: Handle, b: &Handle) -> Result<Handle> {
        tape.add(a, *b)
    }

    /// It is a segment again, so that second derivatives keep as little.
    fn segment(
        tape: &mut Tape,
        segment: &Rc<Segment>,
        inputs: &[Handle],
        cotangents: &[Option<Handle>],
        wanted: Vec<(usize, Option<Handle>)>,
    ) -> Result<Vec<Handle>> {
        let (segment, count) = (Rc::clone(segment), inputs.len());
        let (from, to, seeds) = ends(cotangents, wanted);
        let all = [inputs, &seeds].concat();
        tape.remake(&all, move |tape, all| {
            let (inputs, seeds) = all.split_at(count);
            let parts = segment.record(tape, inputs)?;
            let from: Vec<Handle> = from.iter().map(|end| end.of(&parts, inputs)).collect();
            let to: Vec<Handle> = to.iter().map(|&i| inputs[i]).collect();
            tape.gradients(&from, seeds, &to)
        })
    }

    fn passed(_: &mut Tape, _: usize, _: usize) {}
}

impl Mode for Released {
    type Cotangent = Tensor;

    fn enter(tape: &mut Tape, cotangent: Tensor) -> Handle {
        tape.constant(&cotangent)
    }

    fn leave(tape: &Tape, of: Handle) -> Result<Tensor> {
        tape.value(of).cloned()
    }

    fn add(_: &mut Tape, a: Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(a.add(b)?)
    }

    fn segment(
        tape: &mut Tape,
        segment: &Rc<Segment>,
        inputs: &[Handle],
        cotangents: &[Option<Tensor>],
        wanted: Vec<(usize, Option<Tensor>)>,
    ) -> Result<Vec<Tensor>> {
        if let (Some((kernel, kept)), [Some(back)]) = (segment.kernel(), cotangents) {
            let made = kernel.cotangents(&tape.values(inputs)?, kept, back)?;
            let wanted = wanted.into_iter().map(|(input, sum)| match sum {
                Some(sum) => Ok(sum.add(&made[input])?),
                None => Ok(made[input].clone()),
            });
            return wanted.collect();
        }
        let (from, to, seeds) = ends(cotangents, wanted);
        let again = segment.again(tape, inputs)?;
        let from = from.iter().map(|end| end.of(&again.outputs, &again.inputs));
        let (from, to): (Vec<_>, Vec<_>) = (
            from.collect(),
            to.iter().map(|&i| again.inputs[i]).collect(),
        );
        again.tape.sweep(&from, &seeds, &to)
    }

    fn passed(tape: &mut Tape, at: usize, mark: usize) {
        tape.truncate(mark);
        tape.release(at);
    }
}

/// Where a cotangent enters a segment.
enum End {
    Part(usize),
    Input(usize),
}

impl End {
    fn of(&self, parts: &[Handle], inputs: &[Handle]) -> Handle {
        match *self {
            End::Part(part) => parts[part],
            End::Input(input) => inputs[input],
        }
    }
}

/// Where cotangents enter a segment, which inputs are wanted, and the cotangents.
fn ends<C: Clone>(
    cotangents: &[Option<C>],
    wanted: Vec<(usize, Option<C>)>,
) -> (Vec<End>, Vec<usize>, Vec<C>) {
    let (mut from, mut to, mut seeds) = (Vec::new(), Vec::new(), Vec::new());
    for (part, cotangent) in cotangents.iter().enumerate() {
        if let Some(cotangent) = cotangent {
            from.push(End::Part(part));
            seeds.push(cotangent.clone());
        }
    }
    for (input, sum) in wanted {
        to.push(input);
        if let Some(sum) = sum {
            from.push(End::Input(input));
            seeds.push(sum);
        }
    }
    (from, to, seeds)
}
