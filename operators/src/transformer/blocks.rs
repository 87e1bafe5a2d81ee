//! The blocks that all transformers share: norm, attention, norm, feed-forward, each added to the residual
//! stream (Xiong et al. 2020, *On layer normalization in the transformer architecture*).

use advect_engine::Result;
use advect_engine::graph::Value;
use serde::{Deserialize, Serialize};

use super::build::Build;
use super::{Positions, Style};
use crate::attention::{Attention, Rotary};
use crate::network::rules::refuse;
use crate::network::{Gated, Pointwise};

/// Spread of first weights.
pub(crate) const DEVIATION: f64 = 0.02;

/// The function between the two maps of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// $x \Phi(x)$.
    Gelu,
    /// $x / (1 + e^{-x})$.
    Silu,
    /// A second map beside the first, gated by $x / (1 + e^{-x})$ of it (Shazeer 2020).
    Swiglu,
}

/// Extents of blocks; as those of a [`Gpt`](super::Gpt).
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    pub(super) layers: usize,
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) groups: usize,
    pub(super) head: usize,
    pub(super) hidden: usize,
    pub(super) activation: Activation,
    /// Whether a position sees those before it only.
    pub(super) causal: bool,
}

impl Blocks {
    /// The residual stream `[b, s, h]` through all blocks.
    /// `bounds` `[b, s, 2]` say which positions each one sees, if that is more than a matter of order.
    pub(super) fn through(
        &self,
        build: &mut Build<'_>,
        mut x: Value,
        mut bounds: Option<Value>,
    ) -> Result<Value> {
        for (layer, stage) in build.places(self.layers)?.into_iter().enumerate() {
            x = build.go_on(stage, x)?;
            if let Some(bounds) = &mut bounds {
                *bounds = build.graph.relayout(*bounds, &build.told())?;
            }
            let (begin, before) = (x, build.graph.made());
            x = self.attend(build, &format!("block {layer}.attention"), x, bounds)?;
            x = self.feed_forward(build, &format!("block {layer}.feed-forward"), x)?;
            build.recompute(before, x)?;
            build.offload(before, [begin, x])?;
        }
        Ok(x)
    }

    fn attend(
        &self,
        build: &mut Build<'_>,
        name: &str,
        x: Value,
        bounds: Option<Value>,
    ) -> Result<Value> {
        let (h, g, d) = (self.width, self.groups, self.head);
        let r = self.heads / g.max(1);
        let normed = build.norm(&format!("{name}.norm"), x, h)?;
        let inner = build.inner(None);
        let normed = build.graph.relayout(normed, &inner)?;
        let q = build.linear(
            &format!("{name}.query"),
            normed,
            &[h, g, r, d],
            1,
            DEVIATION,
            None,
        )?;
        let kv = build.linear(
            &format!("{name}.key-value"),
            normed,
            &[h, 2, g, d],
            2,
            DEVIATION,
            None,
        )?;
        let (q, kv) = match build.style().positions {
            Positions::Learned => (q, kv),
            Positions::Rotary => {
                let base = build.style().rotary_base;
                let turn = |with_values| Rotary { base, with_values };
                let q = build.apply(&format!("{name}.query.turned"), turn(false), &[q])?;
                let keys = format!("{name}.key-value.turned");
                (q, build.apply(&keys, turn(true), &[kv])?)
            }
        };
        let attention = Attention {
            causal: self.causal,
            bounded: bounds.is_some(),
        };
        let across = build.across(name, attention);
        let y = across.apply(&mut build.graph, name, [q, kv], bounds)?;
        let heads = build.inner(Some(2));
        let y = build.graph.relayout(y, &heads)?;
        build.back(
            &format!("{name}.output"),
            [x, y],
            &[g, r, d, h],
            self.back_deviation(),
        )
    }

    fn feed_forward(&self, build: &mut Build<'_>, name: &str, x: Value) -> Result<Value> {
        let (h, f) = (self.width, self.hidden);
        let normed = build.norm(&format!("{name}.norm"), x, h)?;
        let inner = build.inner(None);
        let normed = build.graph.relayout(normed, &inner)?;
        let [gate, up, down] = ["gate", "up", "down"].map(|map| format!("{name}.{map}"));
        let mut map = |name: &str, then| build.linear(name, normed, &[h, f], 1, DEVIATION, then);
        let y = match self.activation {
            Activation::Gelu => map(&up, Some(Pointwise::Gelu))?,
            Activation::Silu => map(&up, Some(Pointwise::Silu))?,
            Activation::Swiglu => {
                let maps = [map(&gate, None)?, map(&up, None)?];
                build.apply(&format!("{name}.gated"), Gated(Pointwise::Silu), &maps)?
            }
        };
        build.back(&down, [x, y], &[f, h], self.back_deviation())
    }

    fn back_deviation(&self) -> f64 {
        DEVIATION / (2.0 * self.layers.max(1) as f64).sqrt()
    }

    /// # Errors
    /// If an extent is 0, or heads do not fit their groups or their positions.
    pub(super) fn check(&self, model: &str, style: &Style) -> Result<()> {
        let extents = [
            ("width", self.width),
            ("heads", self.heads),
            ("groups", self.groups),
            ("head", self.head),
            ("hidden", self.hidden),
        ];
        positive(model, &extents)?;
        if !self.heads.is_multiple_of(self.groups) {
            let (heads, groups) = (self.heads, self.groups);
            let why = format!("{heads} heads in {groups} groups; choose a divisor of the heads");
            return refuse(model, why);
        }
        if style.positions == Positions::Rotary && !self.head.is_multiple_of(2) {
            let why = format!(
                "heads of width {} have no pairs to turn; make it even",
                self.head
            );
            return refuse(model, why);
        }
        Ok(())
    }
}

/// A refusal of extents that are 0.
pub(crate) fn positive(model: &str, extents: &[(&str, usize)]) -> Result<()> {
    match extents.iter().find(|(_, n)| *n == 0) {
        Some((name, _)) => refuse(model, format!("{name} is 0; give it at least 1")),
        None => Ok(()),
    }
}
