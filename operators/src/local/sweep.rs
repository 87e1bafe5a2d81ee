//! Sweeps: from cotangents of some nodes to the gradients of others.

use std::rc::Rc;

use candle_core::Tensor;

use super::mode::{Mode, Recorded, Released};
use super::operation::Operation;
use super::plan::Plan;
use super::remake::Segment;
use super::tape::{Handle, Tape};
use crate::OperatorError;

type Result<T> = std::result::Result<T, OperatorError>;

/// A gradient at the moment when it is complete.
#[derive(Debug)]
pub struct Ready {
    /// Which of the wanted inputs it belongs to, by its place in their list.
    pub input: usize,
    /// The gradient, in the shape of the input.
    pub gradient: Tensor,
    /// Bytes that the tape still keeps.
    pub kept: usize,
}

impl Tape {
    /// Gradients of `inputs` from the cotangents of `outputs`, as values of this tape: they can be computed
    /// with, and swept again. Of $\bar y$ it is $(\partial y/\partial x)^\top \bar y$, summed over the outputs.
    ///
    /// # Errors
    /// [`OperatorError::NoPath`] naming an input that no output depends on; [`OperatorError::Tensor`] if a
    /// cotangent has not the shape and type of its output.
    pub fn gradients(
        &mut self,
        outputs: &[Handle],
        cotangents: &[Handle],
        inputs: &[Handle],
    ) -> Result<Vec<Handle>> {
        let found = self.gradients_if_any(outputs, cotangents, inputs)?;
        let named = found.into_iter().zip(inputs);
        named
            .map(|(found, &h)| found.ok_or_else(|| self.no_path(h)))
            .collect()
    }

    /// As [`Tape::gradients`], with `None` for an input that no output depends on.
    ///
    /// # Errors
    /// As [`Tape::gradients`], but for that.
    pub fn gradients_if_any(
        &mut self,
        outputs: &[Handle],
        cotangents: &[Handle],
        inputs: &[Handle],
    ) -> Result<Vec<Option<Handle>>> {
        self.check_count(outputs.len(), cotangents.len())?;
        let plan = self.plan(outputs, inputs)?;
        for (&y, &g) in outputs.iter().zip(cotangents) {
            let (of_g, of_y) = (self.node(g)?, self.node(y)?);
            if (&of_g.shape, of_g.dtype) != (&of_y.shape, of_y.dtype) {
                let got = format!("{:?}{:?}", of_g.dtype, of_g.shape);
                return Err(self.unfit(y, &got));
            }
        }
        let seeds = outputs.iter().copied().zip(cotangents.iter().copied());
        let mut found = vec![None; inputs.len()];
        run::<Recorded>(
            self,
            &plan,
            seeds.collect(),
            inputs,
            &mut |_, place, gradient| {
                found[place] = Some(gradient);
                Ok(())
            },
        )?;
        Ok(found)
    }

    /// Gradients of `inputs` from the cotangents of `outputs`. The values on the tape go as the sweep
    /// passes them.
    ///
    /// # Errors
    /// As [`Tape::gradients`].
    pub fn sweep(
        self,
        outputs: &[Handle],
        cotangents: &[Tensor],
        inputs: &[Handle],
    ) -> Result<Vec<Tensor>> {
        let mut found = vec![None; inputs.len()];
        let names: Vec<String> = inputs.iter().map(|&h| self.name(h)).collect();
        self.sweep_with(outputs, cotangents, inputs, |ready| {
            found[ready.input] = Some(ready.gradient);
            Ok(())
        })?;
        let named = found.into_iter().zip(names);
        named
            .map(|(found, input)| found.ok_or(OperatorError::NoPath { input }))
            .collect()
    }

    /// As [`Tape::sweep`], giving each gradient to `on_ready` the moment it is complete: what was used last
    /// comes first, while the sweep still goes on. Nothing is swept if an input has no gradient.
    ///
    /// # Errors
    /// As [`Tape::gradients`], and those of `on_ready`.
    pub fn sweep_with(
        self,
        outputs: &[Handle],
        cotangents: &[Tensor],
        inputs: &[Handle],
        on_ready: impl FnMut(Ready) -> Result<()>,
    ) -> Result<()> {
        let plan = self.plan(outputs, inputs)?;
        if let Some(&cut) = inputs.iter().find(|h| !plan.passes(h.0)) {
            return Err(self.no_path(cut));
        }
        self.released(&plan, outputs, cotangents, inputs, on_ready)
    }

    /// As [`Tape::sweep_with`]; an input that no output depends on never comes.
    ///
    /// # Errors
    /// As [`Tape::sweep_with`], but for that.
    pub fn sweep_if_any(
        self,
        outputs: &[Handle],
        cotangents: &[Tensor],
        inputs: &[Handle],
        on_ready: impl FnMut(Ready) -> Result<()>,
    ) -> Result<()> {
        let plan = self.plan(outputs, inputs)?;
        self.released(&plan, outputs, cotangents, inputs, on_ready)
    }

    fn released(
        mut self,
        plan: &Plan,
        outputs: &[Handle],
        cotangents: &[Tensor],
        inputs: &[Handle],
        mut on_ready: impl FnMut(Ready) -> Result<()>,
    ) -> Result<()> {
        self.check_count(outputs.len(), cotangents.len())?;
        let mut seeds = Vec::new();
        for (&y, g) in outputs.iter().zip(cotangents) {
            let node = self.node(y)?;
            if g.dims() != &*node.shape || g.dtype() != node.dtype {
                return Err(self.unfit(y, &format!("{:?}{:?}", g.dtype(), g.dims())));
            }
            seeds.push((y, g.detach()));
        }
        let end = outputs.iter().map(|h| h.0 + 1).max().unwrap_or(0);
        self.truncate(end);
        run::<Released>(
            &mut self,
            plan,
            seeds,
            inputs,
            &mut |tape, input, gradient| {
                on_ready(Ready {
                    input,
                    gradient,
                    kept: tape.bytes(),
                })
            },
        )
    }

    fn plan(&self, outputs: &[Handle], inputs: &[Handle]) -> Result<Plan> {
        for &h in outputs.iter().chain(inputs) {
            self.node(h)?;
        }
        Ok(Plan::new(self.nodes(), outputs, inputs))
    }

    fn no_path(&self, input: Handle) -> OperatorError {
        OperatorError::NoPath {
            input: self.name(input),
        }
    }

    fn unfit(&self, output: Handle, got: &str) -> OperatorError {
        let why = format!("the cotangent of {} is {got}", self.name(output));
        OperatorError::tensor("gradients", why)
    }

    fn check_count(&self, outputs: usize, cotangents: usize) -> Result<()> {
        if outputs == cotangents {
            return Ok(());
        }
        let why = format!("{outputs} outputs have {cotangents} cotangents");
        Err(OperatorError::tensor("gradients", why))
    }
}

/// What is done with a gradient that is complete: the tape, the place of its input, the gradient.
type Emit<'a, C> = dyn FnMut(&Tape, usize, C) -> Result<()> + 'a;

/// Goes through the list from the end.
fn run<M: Mode>(
    tape: &mut Tape,
    plan: &Plan,
    seeds: Vec<(Handle, M::Cotangent)>,
    wanted: &[Handle],
    ready: &mut Emit<'_, M::Cotangent>,
) -> Result<()> {
    let end = seeds.iter().map(|(h, _)| h.0 + 1).max().unwrap_or(0);
    let mut held: Vec<Option<M::Cotangent>> = vec![None; end];
    for (h, seed) in seeds {
        meet::<M>(tape, &mut held[h.0], seed)?;
    }
    let mut emit = |tape: &Tape, held: &mut [Option<M::Cotangent>], places: &[usize]| {
        for &place in places {
            if let Some(whole) = &held[wanted[place].0] {
                ready(tape, place, whole.clone())?;
            }
        }
        for h in places.iter().map(|&place| wanted[place]) {
            if tape.nodes()[h.0].inputs.is_empty() {
                held[h.0] = None;
            }
        }
        Ok::<_, OperatorError>(())
    };
    emit(tape, &mut held, &plan.at_once)?;
    for at in (0..end).rev() {
        let mark = tape.len();
        let node = &tape.nodes()[at];
        let segment = match &node.operation {
            Operation::Segment { part: 1.., .. } => {
                M::passed(tape, at, mark);
                continue;
            }
            Operation::Segment { of, .. } => Some(Rc::clone(of)),
            _ => None,
        };
        let inputs = node.inputs.clone();
        match segment {
            Some(segment) => {
                through_segment::<M>(tape, plan, &segment, at, &inputs, &mut held)?;
            }
            None if plan.passes(at) => {
                let follows: Vec<usize> = (0..inputs.len())
                    .filter(|&i| plan.follows(node, i))
                    .collect();
                if let Some(whole) = held[at].take().filter(|_| !follows.is_empty()) {
                    let g = M::enter(tape, whole);
                    for i in follows {
                        let back = tape.cotangent(Handle(at), i, g)?;
                        let back = M::leave(tape, back)?;
                        meet::<M>(tape, &mut held[inputs[i].0], back)?;
                    }
                }
            }
            None => {}
        }
        M::passed(tape, at, mark);
        emit(tape, &mut held, plan.due(at))?;
    }
    Ok(())
}

/// Adds a cotangent to what has come before it.
fn meet<M: Mode>(
    tape: &mut Tape,
    held: &mut Option<M::Cotangent>,
    more: M::Cotangent,
) -> Result<()> {
    let sum = match held.take() {
        Some(before) => M::add(tape, before, &more)?,
        None => more,
    };
    *held = Some(sum);
    Ok(())
}

/// The adjoint of the segment whose first result is node `at`.
fn through_segment<M: Mode>(
    tape: &mut Tape,
    plan: &Plan,
    segment: &Rc<Segment>,
    at: usize,
    inputs: &[Handle],
    held: &mut [Option<M::Cotangent>],
) -> Result<()> {
    let mut cotangents = Vec::new();
    let mut follows = vec![false; inputs.len()];
    for part in 0..segment.parts() {
        let whole = held.get_mut(at + part).and_then(Option::take);
        let whole = whole.filter(|_| plan.passes(at + part));
        if whole.is_some() {
            for (i, follows) in follows.iter_mut().enumerate() {
                *follows |= plan.follows(&tape.nodes()[at + part], i);
            }
        }
        cotangents.push(whole);
    }
    let follows: Vec<usize> = (0..inputs.len()).filter(|&i| follows[i]).collect();
    if follows.is_empty() {
        return Ok(());
    }
    let wanted = follows.iter().map(|&i| (i, held[inputs[i].0].take()));
    let found = M::segment(tape, segment, inputs, &cotangents, wanted.collect())?;
    for (i, back) in follows.into_iter().zip(found) {
        meet::<M>(tape, &mut held[inputs[i].0], back)?;
    }
    Ok(())
}
