//! ViT: a transformer over patches of a field, each of which sees all others.
//!
//! A patch is its numbers, p × p of each channel, in a row: what a convolution of stride p would embed is then a
//! linear map. Source: Dosovitskiy et al. (2021), *An image is worth 16x16 words*, section 3.1; a value for
//! every number of a patch, as models of weather have, takes the place of the class.

use advect_engine::graph::Value;
use advect_engine::{DType, Result, Spec};
use serde::{Deserialize, Serialize};

use super::blocks::{Activation, Blocks, DEVIATION, positive};
use super::build::Build;
use super::{Positions, Strategy, Style};
use crate::loss::SquareError;
use crate::training::{Initial, Trainable};

/// Extents of a ViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vit {
    /// s, number of patches.
    pub patches: usize,
    /// Numbers of a patch that come in.
    pub inputs: usize,
    /// Numbers of a patch that go out.
    pub outputs: usize,
    /// L, number of blocks.
    pub layers: usize,
    /// h, width of the residual stream.
    pub width: usize,
    /// Number of heads.
    pub heads: usize,
    /// d, width of a head.
    pub head: usize,
    /// f, width of the feed-forward blocks.
    pub hidden: usize,
    /// Their function.
    pub activation: Activation,
    /// Norms, positions and shifts; there is no table that could be tied.
    pub style: Style,
}

impl Vit {
    /// The graph of the loss of `samples` fields a micro-batch: inputs `patches` `[samples, s, inputs]` and
    /// `targets` `[samples, s, outputs]`, outputs `loss`, half the sum of the squares of all differences, and
    /// `count`, their number. With `BF16` what flows is rounded, and parameters, targets and loss are `F32`.
    ///
    /// # Errors
    /// If the extents do not fit each other, or there is no such device.
    pub fn train(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        let mut build = Build::new(strategy, dtype, self.style);
        let y = self.map(samples, dtype, &mut build)?;
        let shape = [samples, self.patches, self.outputs];
        let finished = build.finished();
        let targets = Spec::new(shape, super::stored(dtype), finished.clone());
        let targets = build.graph.input("targets", targets)?;
        let y = build.graph.relayout(y, &finished)?;
        let [loss, count] = build.measured("square error", SquareError, &[y, targets])?;
        build.graph.output("loss", loss)?;
        build.graph.output("count", count)?;
        build.finish()
    }

    /// The graph from `patches` `[samples, s, inputs]` to `y` `[samples, s, outputs]`, parameters named as in
    /// [`Vit::train`].
    ///
    /// # Errors
    /// If the extents do not fit each other, or there is no such device.
    pub fn infer(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        let mut build = Build::new(strategy, dtype, self.style.evaluated());
        let y = self.map(samples, dtype, &mut build)?;
        build.graph.output("y", y)?;
        build.finish()
    }

    fn map(&self, samples: usize, dtype: DType, build: &mut Build<'_>) -> Result<Value> {
        let extents = [
            ("patches", self.patches),
            ("inputs", self.inputs),
            ("outputs", self.outputs),
        ];
        positive("Vit", &extents)?;
        let blocks = Blocks {
            layers: self.layers,
            width: self.width,
            heads: self.heads,
            groups: self.heads,
            head: self.head,
            hidden: self.hidden,
            activation: self.activation,
            causal: false,
        };
        blocks.check("Vit", &self.style)?;
        let start = Initial::Normal {
            deviation: DEVIATION,
        };
        let shape = [samples, self.patches, self.inputs];
        let patches = Spec::new(shape, dtype, build.residual());
        let patches = build.graph.input("patches", patches)?;
        let x = build.whole("patches.embedded", patches, &[self.inputs, self.width])?;
        let x = match self.style.positions {
            Positions::Learned => build.positions(x, [self.patches, self.width], start)?,
            Positions::Rotary => x,
        };
        let x = build.dropped("patches.dropout", x)?;
        let bounds = build.bounds(samples, self.patches)?;
        let x = blocks.through(build, x, bounds)?;
        let x = build.go_on(build.last(), x)?;
        let x = build.norm("norm", x, self.width)?;
        build.whole("y.map", x, &[self.width, self.outputs])
    }
}
