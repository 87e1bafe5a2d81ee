//! The cases that prove the laws of attention.

use advect_engine::laws::{Case, Entry};
use advect_engine::{Deal, Layout, Mesh, Placement, Result};

use super::{Attention, AttentionPartial, Composed, FinishAttention, Rotary, Turn};
use crate::laws::entry;
use crate::local::Local;

const SAME: Placement = Placement::Same;
const SUM: Placement = Placement::Partial(advect_engine::Monoid::Sum);
const S0: Placement = Placement::Split { dim: 0 };
const S1: Placement = Placement::Split { dim: 1 };
const S2: Placement = Placement::Split { dim: 2 };
const S3: Placement = Placement::Split { dim: 3 };

/// The entries of this folder.
///
/// # Errors
/// If a case asks for a mesh that cannot be.
pub(crate) fn entries() -> Result<Vec<Entry>> {
    Ok(vec![
        entry(&["Attention"], whole()?),
        entry(&["Composed"], composed()),
        entry(&["Rotary"], rotary()?),
        entry(&["AttentionPartial"], [partials()?, turns()].concat()),
        entry(&["FinishAttention"], vec![finish()?]),
    ])
}

/// Queries of 2 samples, 5 or 6 positions, 3 groups of 2 heads, and keys of these groups.
fn case(name: &str, operator: impl advect_engine::Operator + 'static, n: usize, t: usize) -> Case {
    Case::new(name, operator)
        .input(&[2, n, 3, 2, 4], -2.0..2.0)
        .input(&[2, t, 2, 3, 4], -1.0..1.0)
}

/// What attention sees, with and without bounds.
fn sights() -> impl Iterator<Item = Attention> {
    let causal = [false, true].into_iter();
    causal.flat_map(|causal| [false, true].map(|bounded| Attention { causal, bounded }))
}

fn whole() -> Result<Vec<Case>> {
    let cases = sights().map(|operator| {
        let case = case(&format!("{operator:?}"), operator, 5, 5);
        match operator.bounded {
            false => case
                .on_line([S0, S0])
                .on_line([S2, S3])
                .on_line([S1, SAME])
                .on_line([SAME, SAME])
                .on_plane([[S0, S2], [S0, S3]]),
            // some ranges are empty
            true => case
                .integer_input(&[2, 5, 2], 0..7)
                .on_line([S0, S0, S0])
                .on_line([S2, S3, SAME])
                .on_line([S1, SAME, S1])
                .on_line([SAME, SAME, SAME])
                .on_plane([[S0, S1], [S0, SAME], [S0, S1]]),
        }
    });
    cases.collect()
}

fn composed() -> Vec<Case> {
    let cases = [Attention::FULL, Attention::CAUSAL].map(|attention| {
        let operator = Local::new(Composed(attention));
        case(&format!("Composed {attention:?}"), operator, 5, 5)
            .on_line([S0, S0])
            .on_line([S2, S3])
            .on_line([S1, SAME])
    });
    cases.to_vec()
}

fn partials() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for attention in sights() {
        let operator = AttentionPartial::new(attention);
        let case = case(&format!("Partial of {attention:?}"), operator, 6, 5);
        cases.push(match attention.bounded {
            false => case
                .on_line([S0, S0])
                .on_line([S2, S3])
                .on_line([S1, SAME])
                .on_line([SAME, S1])
                .on_line([SAME, SAME])
                .on_plane([[S0, SAME], [S0, S1]])?
                .on_plane([[S1, SAME], [SAME, S1]])?,
            true => case
                .integer_input(&[2, 6, 2], 0..7)
                .on_line([S1, SAME, S1])
                .on_line([SAME, S1, SAME])
                .on_plane([[S0, SAME], [S0, S1], [S0, SAME]])?,
        });
    }
    let onto = AttentionPartial {
        onto: true,
        ..AttentionPartial::new(Attention {
            causal: true,
            bounded: false,
        })
    };
    let onto = case("Partial onto rows", onto, 6, 5)
        .scaled_input(&[2, 6, 3, 2, 6], 0.5..2.0)
        .on_line([S0, S0, S0])
        .on_line([S2, S3, S2])
        .on_line([S1, SAME, S1]);
    cases.push(onto);
    Ok(cases)
}

/// One worker works through all pieces; where there are as many workers as pieces, each has its own.
fn turns() -> Vec<Case> {
    let mut cases = Vec::new();
    for deal in [Deal::Blocks, Deal::ZigZag, Deal::Striped] {
        for (by, of) in [(0, 2), (1, 2), (2, 3)] {
            for attention in sights() {
                let turn = Turn { by, of, deal };
                let operator = AttentionPartial {
                    attention,
                    turn: Some(turn),
                    onto: true,
                };
                let keys = match by {
                    0 => S1,
                    by => Placement::Shifted { dim: 1, by },
                };
                let case = case(&format!("{turn:?} of {attention:?}"), operator, 7, 8);
                let mesh = Mesh::line("x", of).dealing(0, deal);
                let on = |placed: Placement| Layout::new([placed]);
                cases.push(match attention.bounded {
                    false => case
                        .scaled_input(&[2, 7, 3, 2, 6], 0.5..2.0)
                        .on(mesh, [S1, keys, S1].map(on)),
                    true => case
                        .integer_input(&[2, 7, 2], 0..9)
                        .scaled_input(&[2, 7, 3, 2, 6], 0.5..2.0)
                        .on(mesh, [S1, keys, S1, S1].map(on)),
                });
            }
        }
    }
    cases
}

fn finish() -> Result<Case> {
    Case::new("FinishAttention", FinishAttention)
        .scaled_input(&[3, 6, 5], 0.5..2.0)
        .on_line([S0])
        .on_line([S1])
        .on_line([SAME])
        .on_plane([[S0, S1]])
}

fn rotary() -> Result<Vec<Case>> {
    let rotary = |with_values| Rotary {
        base: 100.0,
        with_values,
    };
    let queries = Case::new("Rotary", rotary(false))
        .input(&[2, 5, 3, 2, 4], -1.0..1.0)
        .on_line([S0])
        .on_line([S1])
        .on_line([S2])
        .on_line([SUM])
        .on_plane([[S1, S2]])?;
    let keys = Case::new("Rotary beside values", rotary(true))
        .input(&[2, 5, 2, 3, 4], -1.0..1.0)
        .on_line([S1])
        .on_line([S3])
        .on_plane([[S1, S3]])?;
    Ok(vec![queries, keys])
}
