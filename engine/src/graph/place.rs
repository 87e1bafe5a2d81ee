//! Operators at one place of an axis: what they make is there too.
//!
//! An operator knows nothing of places. Where all its inputs are `At` the same place of an axis, that
//! place has them whole, as if the axis had one worker: the operator infers layouts as for `Same`, and
//! what it gives is `At` that place again. Elsewhere it does not run. A single number has no empty
//! piece: it is what its place gives plus nothing from the others, `Partial(Sum)`.

use crate::error::{EngineError, Result};
use crate::graph::{Operator, Spec};
use crate::layout::Placement;
use crate::mesh::Mesh;
use crate::partial::Monoid;

/// The place of an operator on every axis, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places(Vec<Option<usize>>);

impl Places {
    /// Where the operator `name` of these inputs is.
    ///
    /// # Errors
    /// [`EngineError::Operator`] if some input is at one place and others are not.
    fn of(name: &str, mesh: &Mesh, inputs: &[Spec]) -> Result<Self> {
        let place = |axis: usize| {
            let on = |spec: &Spec| match spec.layout.axes[axis] {
                Placement::At { at } => Some(at),
                _ => None,
            };
            let first = inputs.first().and_then(on);
            match inputs.iter().find(|spec| on(spec) != first) {
                None => Ok(first),
                Some(other) => Err(EngineError::Operator {
                    operator: name.to_owned(),
                    why: format!(
                        "on axis '{}' inputs are {} and {}; relayout them to one place",
                        mesh.names()[axis],
                        inputs[0].layout.axes[axis],
                        other.layout.axes[axis]
                    ),
                }),
            }
        };
        let places = (0..mesh.rank()).map(place).collect::<Result<_>>()?;
        Ok(Places(places))
    }

    /// What an operator called `name` makes of inputs that are somewhere.
    ///
    /// # Errors
    /// As [`Places::of`], and those of [`Operator::infer`] under that name.
    pub(crate) fn infer(
        name: &str,
        mesh: &Mesh,
        operator: &dyn Operator,
        inputs: &[Spec],
    ) -> Result<Vec<Spec>> {
        let places = Places::of(name, mesh, inputs)?;
        let outputs = operator.infer(mesh, &places.seen(inputs));
        let outputs = outputs.map_err(|e| match e {
            EngineError::Operator { why, .. } => EngineError::Operator {
                operator: name.to_owned(),
                why,
            },
            other => other,
        })?;
        Ok(outputs.into_iter().map(|spec| places.made(spec)).collect())
    }

    /// The inputs as the operator sees them.
    fn seen(&self, inputs: &[Spec]) -> Vec<Spec> {
        let seen = |spec: &Spec| {
            let mut spec = spec.clone();
            for (placement, _) in self.placed(&mut spec) {
                *placement = Placement::Same;
            }
            spec
        };
        inputs.iter().map(seen).collect()
    }

    /// An output as it is.
    fn made(&self, mut spec: Spec) -> Spec {
        let number = spec.shape.is_empty();
        for (placement, at) in self.placed(&mut spec) {
            *placement = match number {
                true => Placement::Partial(Monoid::Sum),
                false => Placement::At { at },
            };
        }
        spec
    }

    /// The placements on the axes that have a place, with it.
    fn placed<'a>(
        &'a self,
        spec: &'a mut Spec,
    ) -> impl Iterator<Item = (&'a mut Placement, usize)> {
        let axes = spec.layout.axes.iter_mut().zip(&self.0);
        axes.filter_map(|(placement, at)| at.map(|at| (placement, at)))
    }
}
