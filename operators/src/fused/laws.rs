//! Forms on a tape keep the laws of operators, alone and as the branches of a block.

use std::sync::Arc;

use advect_engine::graph::{Chain, End, Link};
use advect_engine::laws::{Case, Entry};
use advect_engine::{Operator, Placement, Result};

use super::{Fused, OnTape};
use crate::attention::{Attention, Rotary};
use crate::local::Local;
use crate::network::{Add, Bias, Gated, LayerNorm, Linear, Pointwise, Residual, RmsNorm};

const SAME: Placement = Placement::Same;
const S0: Placement = Placement::Split { dim: 0 };
const S1: Placement = Placement::Split { dim: 1 };
const S2: Placement = Placement::Split { dim: 2 };
const S3: Placement = Placement::Split { dim: 3 };

/// Operators one after the other.
#[derive(Default)]
pub(super) struct Branch {
    chain: Chain,
    forms: Vec<Arc<dyn OnTape>>,
}

impl Branch {
    /// One more, with inputs of the branch.
    pub(super) fn then<O>(mut self, operator: O, inputs: &[End]) -> Self
    where
        O: Operator + OnTape + Clone + 'static,
    {
        self.chain.links.push(Link {
            name: self.forms.len().to_string(),
            operator: Arc::new(operator.clone()),
            inputs: inputs.to_vec(),
        });
        self.forms.push(Arc::new(operator));
        self
    }

    /// As a function of as many inputs, with the outputs of these links.
    pub(super) fn function(mut self, inputs: usize, outputs: &[usize]) -> Result<Fused> {
        self.chain.held = vec![false; inputs];
        self.chain.again = vec![false; inputs];
        self.chain.outputs = outputs.to_vec();
        let forms = self.forms;
        Fused::try_new(self.chain, |name| {
            forms.get(name.parse::<usize>().ok()?).cloned()
        })
    }
}

/// An operator of inputs 0, 1, … alone.
fn alone<O>(name: &str, operator: O, inputs: usize) -> Result<Case>
where
    O: Operator + OnTape + Clone + 'static,
{
    let ends: Vec<End> = (0..inputs).map(End::Input).collect();
    let function = Branch::default().then(operator, &ends);
    let name = format!("{name} on a tape");
    Ok(Case::new(
        &name,
        Local::new(function.function(inputs, &[0])?),
    ))
}

/// The attention branch before its residual: stream, gain, shift, weight and shift of queries, those of keys with
/// values, and the weight back.
fn attention_branch() -> Result<Fused> {
    use End::{Input, Link};
    let turn = |with_values| Rotary {
        base: 100.0,
        with_values,
    };
    let norm = LayerNorm { epsilon: 1e-5 };
    Branch::default()
        .then(norm, &[Input(0), Input(1), Input(2)])
        .then(Linear::LAST.shifted(), &[Link(0), Input(3), Input(4)])
        .then(Linear::LAST.shifted(), &[Link(0), Input(5), Input(6)])
        .then(turn(false), &[Link(1)])
        .then(turn(true), &[Link(2)])
        .then(Attention::CAUSAL, &[Link(3), Link(4)])
        .then(Linear::over(3), &[Link(5), Input(7)])
        .function(8, &[6])
}

/// The feed-forward branch before its residual: stream, gain, and the weights of gate, up and down.
fn feed_forward_branch() -> Result<Fused> {
    use End::{Input, Link};
    Branch::default()
        .then(RmsNorm { epsilon: 1e-5 }, &[Input(0), Input(1)])
        .then(Linear::LAST, &[Link(0), Input(2)])
        .then(Linear::LAST, &[Link(0), Input(3)])
        .then(Gated(Pointwise::Silu), &[Link(1), Link(2)])
        .then(Linear::LAST, &[Link(3), Input(4)])
        .function(5, &[4])
}

/// The projections before a relayout: two outputs.
fn projections() -> Result<Fused> {
    use End::{Input, Link};
    Branch::default()
        .then(RmsNorm { epsilon: 1e-5 }, &[Input(0), Input(1)])
        .then(Linear::LAST, &[Link(0), Input(2)])
        .then(Linear::LAST, &[Link(0), Input(3)])
        .function(4, &[1, 2])
}

/// Entry of the catalogue.
pub(crate) fn entry() -> Result<Entry> {
    let mut cases = operators()?;
    for (how, local) in [
        ("", Local::new(attention_branch()?)),
        (", remade", Local::new(attention_branch()?).remade()),
    ] {
        let case = Case::new(&format!("Attention branch{how}"), local)
            .input(&[2, 5, 4], -2.0..2.0)
            .input(&[4], 0.5..1.5)
            .input(&[4], -1.0..1.0)
            .input(&[4, 3, 2, 4], -1.0..1.0)
            .input(&[3, 2, 4], -1.0..1.0)
            .input(&[4, 2, 3, 4], -1.0..1.0)
            .input(&[2, 3, 4], -1.0..1.0)
            .input(&[3, 2, 4, 4], -1.0..1.0)
            .on_line([S0, SAME, SAME, SAME, SAME, SAME, SAME, SAME])
            .on_line([SAME, SAME, SAME, S1, S0, S2, S1, S0])
            .on_line([SAME; 8])
            .on_plane([
                [S0, SAME],
                [SAME, SAME],
                [SAME, SAME],
                [SAME, S1],
                [SAME, S0],
                [SAME, S2],
                [SAME, S1],
                [SAME, S0],
            ])?;
        cases.push(case);
    }
    let case = Case::new("Feed-forward branch", Local::new(feed_forward_branch()?))
        .input(&[3, 4, 6], -2.0..2.0)
        .input(&[6], 0.5..1.5)
        .input(&[6, 5], -1.0..1.0)
        .input(&[6, 5], -1.0..1.0)
        .input(&[5, 6], -1.0..1.0)
        .on_line([S0, SAME, SAME, SAME, SAME])
        .on_line([S1, SAME, SAME, SAME, SAME])
        .on_line([SAME, SAME, S1, S1, S0])
        .on_plane([[S1, SAME], [SAME, SAME], [SAME, S1], [SAME, S1], [SAME, S0]])?;
    cases.push(case);
    let case = Case::new("Projections of a branch", Local::new(projections()?))
        .input(&[3, 4, 6], -2.0..2.0)
        .input(&[6], 0.5..1.5)
        .input(&[6, 3, 2], -1.0..1.0)
        .input(&[6, 2, 3], -1.0..1.0)
        .on_line([S1, SAME, SAME, SAME])
        .on_line([SAME, SAME, S1, S2]);
    cases.push(case);
    Ok(Entry {
        types: vec!["Fused"],
        cases,
    })
}

/// Every operator that has a form, alone, in the layouts that it takes.
fn operators() -> Result<Vec<Case>> {
    let norm = alone("LayerNorm", LayerNorm { epsilon: 1e-5 }, 3)?
        .input(&[4, 3, 6], -2.0..2.0)
        .input(&[6], 0.5..1.5)
        .input(&[6], -1.0..1.0)
        .on_line([S0, SAME, SAME])
        .on_line([S1, SAME, SAME])
        .on_line([SAME; 3]);
    let by_square = alone("RmsNorm", RmsNorm { epsilon: 1e-5 }, 2)?
        .input(&[4, 3, 6], -2.0..2.0)
        .input(&[6], 0.5..1.5)
        .on_line([S0, SAME])
        .on_line([S1, SAME]);
    let linear = alone("Linear", Linear::LAST, 2)?
        .input(&[5, 3, 7], -1.0..1.0)
        .input(&[7, 6], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([SAME, S1])
        .on_line([S2, S0]);
    let from_heads = alone("Linear over heads", Linear::over(2), 2)?
        .input(&[4, 3, 2], -1.0..1.0)
        .input(&[3, 2, 5], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([S1, S0])
        .on_line([SAME, S2]);
    let table = alone("Linear by a table", Linear::LAST.transposed(), 2)?
        .input(&[4, 3, 5], -1.0..1.0)
        .input(&[6, 5], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([SAME, S0])
        .on_line([S2, S1]);
    let mut cases = vec![norm, by_square, linear, from_heads, table];
    for function in [Pointwise::Tanh, Pointwise::Silu, Pointwise::Gelu] {
        let then = Linear::LAST.shifted().then(function);
        let case = alone(&format!("Linear, shifted, {function:?}"), then, 3)?
            .input(&[5, 3, 7], -1.0..1.0)
            .input(&[7, 6], -1.0..1.0)
            .input(&[6], -1.0..1.0)
            .on_line([S0, SAME, SAME])
            .on_line([SAME, S1, S0]);
        cases.push(case);
        let case = alone(&format!("Gated, {function:?}"), Gated(function), 2)?
            .input(&[5, 7], -3.0..3.0)
            .input(&[5, 7], -1.0..1.0)
            .on_line([S0, S0])
            .on_line([SAME, SAME]);
        cases.push(case);
    }
    for operator in [Attention::FULL, Attention::CAUSAL] {
        let case = alone(&format!("{operator:?}"), operator, 2)?
            .input(&[2, 5, 3, 2, 4], -2.0..2.0)
            .input(&[2, 5, 2, 3, 4], -1.0..1.0)
            .on_line([S0, S0])
            .on_line([S2, S3])
            .on_line([S1, SAME])
            .on_line([SAME, SAME])
            .on_plane([[S0, S2], [S0, S3]])?;
        let bounded = Attention {
            bounded: true,
            ..operator
        };
        // some ranges are empty
        let told = alone(&format!("{bounded:?}"), bounded, 3)?
            .input(&[2, 5, 3, 2, 4], -2.0..2.0)
            .input(&[2, 5, 2, 3, 4], -1.0..1.0)
            .integer_input(&[2, 5, 2], 0..7)
            .on_line([S0, S0, S0])
            .on_line([S2, S3, SAME])
            .on_line([S1, SAME, S1])
            .on_plane([[S0, S1], [S0, SAME], [S0, S1]])?;
        cases.extend([case, told]);
    }
    let rotary = |with_values| Rotary {
        base: 100.0,
        with_values,
    };
    let queries = alone("Rotary", rotary(false), 1)?
        .input(&[2, 5, 3, 2, 4], -1.0..1.0)
        .on_line([S0])
        .on_line([S1])
        .on_line([S2]);
    let keys = alone("Rotary beside values", rotary(true), 1)?
        .input(&[2, 5, 2, 3, 4], -1.0..1.0)
        .on_line([S1])
        .on_line([S3]);
    let bias = alone("Bias", Bias, 2)?
        .input(&[4, 3, 6], -1.0..1.0)
        .input(&[3, 6], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([S1, S0]);
    let add = alone("Add", Add, 2)?
        .input(&[4, 6], -1.0..1.0)
        .input(&[4, 6], -1.0..1.0)
        .on_line([S0, S0])
        .on_line([SAME, SAME]);
    let residual = alone("Residual", Residual, 3)?
        .input(&[4, 3, 6], -1.0..1.0)
        .input(&[4, 3, 6], -1.0..1.0)
        .input(&[6], -1.0..1.0)
        .on_line([S0, S0, SAME])
        .on_line([S2, S2, S0]);
    cases.extend([queries, keys, bias, add, residual]);
    Ok(cases)
}
