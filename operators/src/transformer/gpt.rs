//! GPT: a causal transformer over tokens, and the loss of the next one.
//!
//! Norms before blocks, in the [`Style`] of Radford et al. (2019), *Language models are unsupervised multitask
//! learners*, of Touvron et al. (2023), *LLaMA*, or in between; projections back into the residual stream
//! start smaller by $\sqrt{2 L}$. Groups of heads may share keys and values (Ainslie et al. 2023, *GQA*).

use advect_engine::graph::Value;
use advect_engine::{DType, Result, Spec};
use serde::{Deserialize, Serialize};

use super::blocks::{Activation, Blocks, DEVIATION, positive};
use super::build::Build;
use super::{Norm, Positions, Strategy, Style};
use crate::loss::{Count, CrossEntropy, VocabularyPartial};
use crate::network::{Embedding, Linear};
use crate::training::{Initial, Trainable};

/// Extents of a GPT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Gpt {
    /// V, number of tokens.
    pub vocabulary: usize,
    /// s, positions.
    pub context: usize,
    /// L, number of blocks.
    pub layers: usize,
    /// h, width of the residual stream.
    pub width: usize,
    /// Number of heads.
    pub heads: usize,
    /// g, number of groups of heads that share keys and values: `heads` for ordinary attention.
    pub groups: usize,
    /// d, width of a head.
    pub head: usize,
    /// f, width of the feed-forward blocks.
    pub hidden: usize,
    /// Their function.
    pub activation: Activation,
    /// Norms, positions, shifts and the head.
    pub style: Style,
}

impl Gpt {
    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        let Gpt {
            width: h,
            hidden: f,
            heads,
            groups,
            head: d,
            ..
        } = *self;
        let style = &self.style;
        let shift = usize::from(style.biases);
        let norm = match style.norm {
            Norm::Layer => 2 * h,
            Norm::Rms => h,
        };
        let attention = (h + shift) * (heads + 2 * groups) * d + heads * d * h + shift * h;
        let up = match self.activation {
            Activation::Swiglu => 2 * (h + shift) * f,
            Activation::Gelu | Activation::Silu => (h + shift) * f,
        };
        let block = 2 * norm + attention + up + f * h + shift * h;
        let positions = match style.positions {
            Positions::Learned => self.context,
            Positions::Rotary => 0,
        };
        let tables = if style.tied { 1 } else { 2 };
        (tables * self.vocabulary + positions) * h + self.layers * block + norm
    }

    /// The graph of the loss of `samples` windows a micro-batch: inputs `tokens` and `targets`
    /// `[samples, context]` (`I64`; a negative target is none), outputs `loss` in nats, summed, and
    /// `count`; with [`Style::bounded`] also input `bounds` `[samples, context, 2]` (`I64`), for each position
    /// the first that it sees and the one after the last. With `BF16` what flows is rounded
    /// ([`Mixed`](advect_engine::graph::Mixed)), and parameters and loss are `F32`.
    ///
    /// # Errors
    /// If the extents do not fit each other, or there is no such device.
    pub fn train(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        let mut build = Build::new(strategy, dtype, self.style);
        let logits = self.logits(samples, &mut build)?;
        let targets = build.numbers("targets", &[samples, self.context])?;
        let finished = build.finished();
        // rows that merge are scaled by what each worker saw: their sums would know of the mesh
        let (logits, targets) = match dtype {
            DType::Canonical => (
                build.graph.relayout(logits, &finished)?,
                build.graph.relayout(targets, &finished)?,
            ),
            _ => (logits, targets),
        };
        let parts = build.measured("vocabulary", VocabularyPartial, &[logits, targets])?;
        let rows = build.graph.relayout(parts[0], &finished)?;
        let hits = build.graph.relayout(parts[1], &finished)?;
        let targets = build.graph.relayout(targets, &finished)?;
        let parts = [rows, hits, targets];
        let loss = build.graph.apply("cross-entropy", CrossEntropy, &parts)?;
        let count = build.graph.apply("count targets", Count, &[targets])?;
        build.graph.output("loss", loss)?;
        build.graph.output("count", count)?;
        build.finish()
    }

    /// The graph of the logits `[samples, context, vocabulary]` of `samples` windows: input `tokens`,
    /// output `logits`, parameters named as in [`Gpt::train`].
    ///
    /// # Errors
    /// If the extents do not fit each other, or there is no such device.
    pub fn infer(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        let mut build = Build::new(strategy, dtype, self.style.evaluated());
        let logits = self.logits(samples, &mut build)?;
        build.graph.output("logits", logits)?;
        build.finish()
    }

    /// The graph of the blocks alone, without tokens: from `x` to `y`, both `[samples, context, width]`,
    /// parameters named as in [`Gpt::train`].
    ///
    /// # Errors
    /// If the extents do not fit each other, or there is no such device.
    pub fn blocks(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        self.check()?;
        let mut build = Build::new(strategy, dtype, self.style);
        let shape = [samples, self.context, self.width];
        let spec = Spec::new(shape, dtype, build.residual());
        let x = build.graph.input("x", spec)?;
        let y = self.through(samples, &mut build, x)?;
        build.graph.output("y", y)?;
        build.finish()
    }

    fn logits(&self, samples: usize, build: &mut Build<'_>) -> Result<Value> {
        self.check()?;
        let h = self.width;
        let start = Initial::Normal {
            deviation: DEVIATION,
        };
        let tokens = build.numbers("tokens", &[samples, self.context])?;
        let table = build.stored("tokens.weight", &[self.vocabulary, h], Some(0), start)?;
        let rows = build.used(table, Some(0), tokens)?;
        let found = build.with("tokens.rows", Embedding, tokens, &[rows])?;
        let residual = build.residual();
        let found = build.graph.relayout(found, &residual)?;
        let x = match self.style.positions {
            Positions::Learned => build.positions(found, [self.context, h], start)?,
            Positions::Rotary => found,
        };
        let x = build.dropped("tokens.dropout", x)?;
        let x = self.through(samples, build, x)?;
        let x = build.go_on(build.last(), x)?;
        let x = build.norm("norm", x, h)?;
        let inner = build.inner(None);
        let x = build.graph.relayout(x, &inner)?;
        let table = match self.style.tied {
            true => build.used(table, Some(0), x)?,
            false => build.parameter("logits.weight", &[self.vocabulary, h], Some(0), start, x)?,
        };
        build.with("logits", Linear::LAST.transposed(), x, &[table])
    }

    fn through(&self, samples: usize, build: &mut Build<'_>, x: Value) -> Result<Value> {
        let bounds = build.bounds(samples, self.context)?;
        self.inner().through(build, x, bounds)
    }

    /// The blocks alone.
    fn inner(&self) -> Blocks {
        Blocks {
            layers: self.layers,
            width: self.width,
            heads: self.heads,
            groups: self.groups,
            head: self.head,
            hidden: self.hidden,
            activation: self.activation,
            causal: true,
        }
    }

    fn check(&self) -> Result<()> {
        let extents = [("vocabulary", self.vocabulary), ("context", self.context)];
        positive("Gpt", &extents)?;
        self.inner().check("Gpt", &self.style)
    }
}
