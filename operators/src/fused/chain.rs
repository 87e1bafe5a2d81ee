//! A chain of operators as one function.

use std::fmt::{self, Debug};
use std::sync::Arc;

use advect_engine::graph::{Chain, End, Operator, Site};
use advect_engine::{Mesh, Result, Spec};

use super::OnTape;
use crate::OperatorError;
use crate::local::{Function, Handle, Tape};
use crate::network::rules::refuse;

/// What a chain of operators makes: shapes, types and layouts are those of the operators, the values come from
/// their forms on a tape.
#[derive(Clone)]
pub(crate) struct Fused {
    chain: Chain,
    /// By link.
    forms: Vec<Arc<dyn OnTape>>,
}

impl Debug for Fused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fused(")?;
        for (i, form) in self.forms.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            Debug::fmt(form, f)?;
        }
        f.write_str(")")
    }
}

/// Values of a chain, of its inputs and of its links.
fn pick<T: Clone>(ends: &[End], inputs: &[T], links: &[T]) -> Vec<T> {
    let of = |end: &End| match *end {
        End::Input(i) => inputs[i].clone(),
        End::Link(i) => links[i].clone(),
    };
    ends.iter().map(of).collect()
}

impl Fused {
    /// How often a value is used, in the chain and after it.
    fn uses(&self, of: End) -> usize {
        let inside = self.chain.links.iter().flat_map(|link| &link.inputs);
        let outside = self.chain.outputs.iter().map(|&link| End::Link(link));
        inside
            .copied()
            .chain(outside)
            .filter(|end| *end == of)
            .count()
    }

    /// A chain whose links have the forms that `form` gives by their names.
    ///
    /// # Errors
    /// [`EngineError::Operator`](advect_engine::EngineError::Operator) naming a link that has none.
    pub(crate) fn try_new(
        chain: Chain,
        form: impl Fn(&str) -> Option<Arc<dyn OnTape>>,
    ) -> Result<Self> {
        let forms = chain.links.iter().map(|link| match form(&link.name) {
            Some(form) => Ok(form),
            None => refuse(&link.name, "it has no form on a tape"),
        });
        let forms = forms.collect::<Result<_>>()?;
        Ok(Fused { chain, forms })
    }
}

impl Function for Fused {
    fn inputs(&self) -> usize {
        self.chain.held.len()
    }

    fn infer(&self, mesh: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let mut made: Vec<Spec> = Vec::new();
        for link in &self.chain.links {
            let inputs = pick(&link.inputs, inputs, &made);
            made.extend(link.operator.infer(mesh, &inputs)?);
        }
        let outputs = self.chain.outputs.iter().map(|&link| made[link].clone());
        Ok(outputs.collect())
    }

    fn record(
        &self,
        site: &Site,
        tape: &mut Tape,
        inputs: &[Handle],
    ) -> std::result::Result<Vec<Handle>, OperatorError> {
        let (mut specs, mut made) = (Vec::new(), Vec::new());
        for (link, form) in self.chain.links.iter().zip(&self.forms) {
            let given = pick(&link.inputs, site.inputs(), &specs);
            let at = site.inside(&link.name, &*link.operator, given);
            let at = at.map_err(|e| OperatorError::tensor("fused", e.to_string()))?;
            specs.extend(at.outputs().iter().cloned());
            let mut given = Vec::new();
            for (end, h) in link.inputs.iter().zip(pick(&link.inputs, inputs, &made)) {
                // cotangents add up by use, as those of a graph do: no bit shows where chains begin and end
                given.push(match self.uses(*end) {
                    1 => h,
                    _ => tape.use_of(h)?,
                });
            }
            made.push(form.record(&at, tape, &given)?);
        }
        Ok(self.chain.outputs.iter().map(|&link| made[link]).collect())
    }

    fn differentiable(&self, input: usize) -> bool {
        let reads = |(operator, inputs): (&Arc<dyn Operator>, &[End])| {
            let mut uses = inputs.iter().enumerate();
            uses.any(|(i, end)| *end == End::Input(input) && operator.differentiable(i))
        };
        let links = self.chain.links.iter();
        links
            .map(|link| (&link.operator, &link.inputs[..]))
            .any(reads)
    }
}
