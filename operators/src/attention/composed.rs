//! Attention as it was before it was taken in blocks: scores of all pairs, one operation after the other.

use advect_engine::graph::Site;
use advect_engine::{Mesh, Result, Spec};

use super::Attention;
use crate::OperatorError;
use crate::fused::by_blocks;
use crate::local::{Function, Handle, Tape};
use crate::network::rules::layout;

/// [`Attention`] by products, a mask and a softmax of whole matrices, which are kept for the adjoint: queries × keys
/// numbers for each head, several times. It is there to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Composed(pub Attention);

impl Function for Composed {
    fn inputs(&self) -> usize {
        self.0.inputs()
    }

    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Composed";
        let wide: Vec<Spec> = inputs.iter().map(widened).collect();
        self.0.check(NAME, &wide)?;
        let mend =
            "cut dimension 0 of all, the groups (2 of q, 3 of k and v), or 1 of q and its bounds";
        let layout = layout(NAME, inputs, mend, |on| self.0.alone(on))?;
        Ok(vec![inputs[0].with_layout(layout)])
    }

    fn record(
        &self,
        site: &Site,
        tape: &mut Tape,
        inputs: &[Handle],
    ) -> std::result::Result<Vec<Handle>, OperatorError> {
        Ok(vec![by_blocks(self.0, site, tape, inputs, None)?])
    }

    fn differentiable(&self, input: usize) -> bool {
        input < 2
    }
}

/// The tensor in the type that sums are worked in.
fn widened(spec: &Spec) -> Spec {
    use advect_engine::DType;
    let mut spec = spec.clone();
    if spec.dtype == DType::BF16 {
        spec.dtype = DType::F32;
    }
    spec
}
