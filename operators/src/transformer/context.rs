//! Attention over positions that are cut: whose keys are where is a choice of layouts.

use advect_engine::graph::{Mixed, Rate, Value};
use advect_engine::{DType, Placement, Result};

use super::build::Build;
use crate::attention::{Attention, AttentionPartial, FinishAttention, Turn};

/// Positions in queries, and in keys with values.
const POSITIONS: usize = 1;

impl Build<'_> {
    /// The output `[b, s, g, r, d]` of attention of q over keys with values `[b, s, 2, g, d]`, both as they
    /// come from their maps; `bounds` say what each query sees, if that is more than a matter of order.
    pub(super) fn attention(
        &mut self,
        name: &str,
        causal: bool,
        [q, kv]: [Value; 2],
        bounds: Option<Value>,
    ) -> Result<Value> {
        let attention = Attention {
            causal,
            bounded: bounds.is_some(),
        };
        let (queries, keys) = (self.attended(2), self.attended(3));
        let q = self.graph.relayout(q, &queries)?;
        let here = self.graph.relayout(kv, &keys)?;
        if self.ring().is_some() {
            return self.turns(name, attention, [q, here], bounds);
        }
        let inputs: Vec<Value> = [q, here].into_iter().chain(bounds).collect();
        let y = self.apply(name, attention, &inputs)?;
        if here != kv && self.regathers() {
            self.graph.remake(&[here], y)?;
        }
        Ok(y)
    }

    /// Attention turn by turn: while one piece of keys is worked on, the next comes from the worker after
    /// this one. Rows (m, ℓ, o) stay with their queries, and every turn merges its keys into them.
    ///
    /// The adjoint is the ring the other way around: cotangents of a piece gather from turn to turn on its
    /// way home. Pieces that are not kept are fetched again, each one turn before it is needed.
    fn turns(
        &mut self,
        name: &str,
        attention: Attention,
        [q, mut here]: [Value; 2],
        bounds: Option<Value>,
    ) -> Result<Value> {
        let Some((axis, of, deal)) = self.ring() else {
            return self.apply(name, attention, &[q, here]);
        };
        let (mut rows, mut pieces) = (Vec::new(), Vec::new());
        for by in 0..of {
            if by > 0 {
                let mut layout = self.graph.spec(here).layout.clone();
                layout.axes[axis] = Placement::Shifted { dim: POSITIONS, by };
                // a piece is not sent before the turn before the last is over: two are here at most
                let rate = match by.checked_sub(2) {
                    Some(before) => Rate::Moment(rows[before]),
                    None => Rate::Version,
                };
                here = self.graph.relayout_at(here, &layout, rate)?;
                pieces.push(here);
            }
            let partial = AttentionPartial {
                attention,
                turn: Some(Turn { by, of, deal }),
                onto: by > 0,
            };
            let inputs = [q, here].into_iter().chain(bounds);
            let inputs: Vec<Value> = inputs.chain(rows.last().copied()).collect();
            rows.extend(self.whole_outputs(&format!("{name}.turn {by}"), partial, &inputs)?);
        }
        if self.regathers() {
            for (at, &piece) in pieces.iter().enumerate() {
                // the turn after that of this piece comes before it on the way back
                self.graph.remake(&[piece], rows[(at + 2).min(of - 1)])?;
            }
        }
        let last = [rows[of - 1]];
        match self.dtype() {
            DType::BF16 => self.graph.apply(name, Mixed::of(FinishAttention), &last),
            _ => self.graph.apply(name, FinishAttention, &last),
        }
    }
}
