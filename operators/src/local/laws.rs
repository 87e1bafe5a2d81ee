//! Functions that prove [`Local`]: energy and forces of atoms, a perceptron, attention, with and without
//! values that are made again.

use advect_engine::graph::Site;
use advect_engine::laws::{Case, Entry};
use advect_engine::{Mesh, Monoid, Placement, Result, Spec};

use super::{Cut, Function, Handle, Local, RowLayouts, Tape};
use crate::OperatorError;
use crate::network::rules::layout;

const SAME: Placement = Placement::Same;
const SUM: Placement = Placement::Partial(Monoid::Sum);
const S0: Placement = Placement::Split { dim: 0 };
const S1: Placement = Placement::Split { dim: 1 };

type Recorded = std::result::Result<Vec<Handle>, OperatorError>;

/// Entry of the catalogue.
pub(crate) fn entry() -> Result<Entry> {
    let mut cases = Vec::new();
    for (how, local) in [
        ("", Local::new(PairPotential)),
        (", remade", Local::new(PairPotential).remade()),
    ] {
        cases.push(
            Case::new(&format!("Energy and forces{how}"), local)
                .input(&[5, 3], -1.0..1.0)
                .integer_input(&[11], 0..5)
                .integer_input(&[11], 0..5)
                .input(&[3, 4], -1.0..1.0)
                .input(&[4, 1], -1.0..1.0)
                .on_line([SAME, S0, S0, SAME, SAME])
                .on_line([SAME; 5])
                .on_plane([[SAME, SAME], [S0, S0], [S0, S0], [SAME, SAME], [SAME, SAME]])?
                .on_plane([
                    [SAME, SAME],
                    [S0, SAME],
                    [S0, SAME],
                    [SAME, SAME],
                    [SAME, SAME],
                ])?,
        );
    }
    for (how, local) in [
        ("", Local::new(Perceptron { segments: false })),
        (", a segment", Local::new(Perceptron { segments: true })),
        (
            ", remade",
            Local::new(Perceptron { segments: true }).remade(),
        ),
    ] {
        cases.push(
            Case::new(&format!("Perceptron{how}"), local)
                .input(&[5, 3, 4], -1.0..1.0)
                .input(&[4, 6], -1.0..1.0)
                .input(&[6], -1.0..1.0)
                .input(&[6, 2], -1.0..1.0)
                .on_line([S0, SAME, SAME, SAME])
                .on_line([SAME; 4])
                .on_plane([[S0, SAME], [SAME, SAME], [SAME, SAME], [SAME, SAME]])?,
        );
    }
    let attention = Case::new("Attention on a tape", Local::new(PlainAttention))
        .input(&[3, 2, 5, 4], -1.0..1.0)
        .input(&[3, 2, 5, 4], -1.0..1.0)
        .input(&[3, 2, 5, 3], -1.0..1.0)
        .on_line([S0; 3])
        .on_line([S1; 3])
        .on_line([SAME; 3])
        .on_plane([[S0, S1]; 3])?;
    cases.push(attention);
    let linear = Case::new("Sums through a tape", Local::new(Doubled))
        .input(&[4, 3], -1.0..1.0)
        .on_line([SUM])
        .on_line([S1])
        .on_plane([[S0, SUM]])?;
    cases.push(linear);
    Ok(Entry {
        types: vec![
            "Local",
            "PairPotential",
            "Perceptron",
            "PlainAttention",
            "Doubled",
        ],
        cases,
    })
}

/// E = Σ over edges (i, j) of φ(|x_i − x_j|²) with φ a small network of radial functions, and F = −∂E/∂x.
///
/// x `[atoms, 3]`, i `[edges]`, j `[edges]`, W `[3, h]`, v `[h, 1]`; E `[1]`, F `[atoms, 3]`. Edges are cut:
/// energy and forces are then sums that are not finished.
#[derive(Debug, Clone, Copy)]
struct PairPotential;

impl PairPotential {
    fn energy(tape: &mut Tape, inputs: &[Handle]) -> std::result::Result<Handle, OperatorError> {
        let &[x, i, j, w, v] = inputs else {
            return Err(OperatorError::tensor("energy", "five inputs".to_owned()));
        };
        let (from, to) = (tape.gather_rows(x, i)?, tape.gather_rows(x, j)?);
        let apart = tape.sub(to, from)?;
        let square = tape.sqr(apart)?;
        let square = tape.sum_keepdim(square, &[1])?;
        let mut radial = Vec::new();
        for width in [0.5, 1.0, 2.0] {
            let scaled = tape.affine(square, -width, 0.0)?;
            radial.push(tape.exp(scaled)?);
        }
        let radial = tape.concat(&radial, 1)?;
        let hidden = tape.matmul(radial, w)?;
        let hidden = tape.silu(hidden)?;
        let pair = tape.matmul(hidden, v)?;
        tape.sum(pair, &[0])
    }
}

impl Function for PairPotential {
    fn inputs(&self) -> usize {
        5
    }

    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let cuts = [
            Cut::Whole,
            Cut::Rows(0),
            Cut::Rows(0),
            Cut::Whole,
            Cut::Whole,
        ];
        let layouts = RowLayouts::try_new("PairPotential", inputs, &cuts)?;
        let forces = inputs[0].with_layout(layouts.sum());
        Ok(vec![Spec::new([1], inputs[0].dtype, layouts.sum()), forces])
    }

    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Recorded {
        let energy = Self::energy(tape, inputs)?;
        let one = tape.ones_like(energy)?;
        let slope = tape.gradients(&[energy], &[one], &inputs[..1])?[0];
        Ok(vec![energy, tape.neg(slope)?])
    }
}

/// y = gelu(x W + b) V, and Σ y² over all rows.
///
/// x `[rows, …, k]`, W `[k, h]`, b `[h]`, V `[h, m]`; y `[rows, …, m]` and `[m]`.
#[derive(Debug, Clone, Copy)]
struct Perceptron {
    segments: bool,
}

fn hidden(tape: &mut Tape, inputs: &[Handle]) -> Recorded {
    let product = tape.matmul(inputs[0], inputs[1])?;
    let shifted = tape.add(product, inputs[2])?;
    Ok(vec![tape.gelu(shifted)?, tape.tanh(product)?])
}

impl Function for Perceptron {
    fn inputs(&self) -> usize {
        4
    }

    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let cuts = [Cut::Rows(0), Cut::Whole, Cut::Whole, Cut::Whole];
        let layouts = RowLayouts::try_new("Perceptron", inputs, &cuts)?;
        let dtype = inputs[0].dtype;
        let m = inputs[3].shape[1];
        let mut shape = inputs[0].shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = m;
        }
        Ok(vec![
            Spec::new(shape, dtype, layouts.rows(0)),
            Spec::new([m], dtype, layouts.sum()),
        ])
    }

    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Recorded {
        let h = match self.segments {
            true => tape.remake(&inputs[..3], hidden)?,
            false => hidden(tape, &inputs[..3])?,
        };
        let both = tape.mul(h[0], h[1])?;
        let y = tape.matmul(both, inputs[3])?;
        let square = tape.sqr(y)?;
        let lead: Vec<usize> = (0..tape.shape(y)?.len() - 1).collect();
        Ok(vec![y, tape.sum(square, &lead)?])
    }
}

/// softmax(q kᵀ / √d) v over `[batch, heads, length, d]`.
#[derive(Debug, Clone, Copy)]
struct PlainAttention;

impl Function for PlainAttention {
    fn inputs(&self) -> usize {
        3
    }

    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let mend = "cut all three by samples or heads, or keep all Same";
        let layout = layout("PlainAttention", inputs, mend, |on| {
            let known = [S0, S1, SAME].contains(&on[0]);
            (known && on.iter().all(|p| *p == on[0])).then_some(on[0])
        })?;
        Ok(vec![inputs[2].with_layout(layout)])
    }

    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Recorded {
        let width = tape.shape(inputs[0])?.last().copied().unwrap_or(1);
        let turned = tape.transpose(inputs[1])?;
        let scores = tape.matmul(inputs[0], turned)?;
        let scores = tape.affine(scores, 1.0 / (width as f64).sqrt(), 0.0)?;
        let weights = tape.softmax(scores)?;
        Ok(vec![tape.matmul(weights, inputs[2])?])
    }
}

/// 2 x: linear, so it works on sums that are not finished.
#[derive(Debug, Clone, Copy)]
struct Doubled;

impl Function for Doubled {
    fn inputs(&self) -> usize {
        1
    }

    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs.to_vec())
    }

    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Recorded {
        Ok(vec![tape.affine(inputs[0], 2.0, 0.0)?])
    }
}
