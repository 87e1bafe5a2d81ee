//! GPT: parameters of a stage and FLOPs of a step, exactly.
//!
//! A layer of width $h$ on one of $t$ tensor ranks has $12h^2/t + 3h/t + h + 4h/t + h + 4h$
//! parameters for $f = 4h$; a sequence needs $24sh^2(1 + s/6h)$ FLOPs forward in a layer and $2shV$
//! in the head, twice that backward: Narayanan et al. (2021), *Efficient large-scale language model
//! training*. Attention is counted whole, without the causal half, as the published figures do.

use serde::{Deserialize, Serialize};

use super::rejection::Rejection;

/// Extents of a GPT with learned positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Gpt {
    /// L, number of layers.
    pub layers: usize,
    /// h, width of the residual stream.
    pub width: usize,
    /// f, width inside the feed-forward blocks.
    pub hidden: usize,
    /// a, number of heads.
    pub heads: usize,
    /// g, number of groups of heads that share keys and values: `heads` for ordinary attention.
    pub groups: usize,
    /// s, positions.
    pub sequence: usize,
    /// V, number of tokens, filled up as the run fills it up.
    pub vocabulary: usize,
    /// Whether the token table is also the head.
    pub tied: bool,
}

/// What a pipeline rank holds of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Layers.
    pub layers: usize,
    /// Whether it embeds the tokens.
    pub first: bool,
    /// Whether it computes the logits.
    pub last: bool,
}

/// FLOPs of one pass over one micro-batch on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flops {
    /// Products with weights.
    pub linear: f64,
    /// Products of queries, keys and values.
    pub attention: f64,
    /// The head.
    pub head: f64,
}

impl Gpt {
    /// A GPT with ordinary attention, $f = 4h$ and a tied head.
    pub fn plain(
        layers: usize,
        width: usize,
        heads: usize,
        sequence: usize,
        vocabulary: usize,
    ) -> Self {
        Gpt {
            layers,
            width,
            hidden: 4 * width,
            heads,
            groups: heads,
            sequence,
            vocabulary,
            tied: true,
        }
    }

    /// # Errors
    /// If an extent is 0, or heads or groups do not divide what they cut.
    pub fn check(&self) -> Result<(), Rejection> {
        let zero = [
            self.layers,
            self.width,
            self.hidden,
            self.heads,
            self.groups,
            self.sequence,
            self.vocabulary,
        ];
        if zero.contains(&0) {
            return Err(Rejection::Extent("an extent of the model is 0"));
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(Rejection::Extent("the heads do not divide the width"));
        }
        if !self.heads.is_multiple_of(self.groups) {
            return Err(Rejection::Extent("the groups do not divide the heads"));
        }
        Ok(())
    }

    /// Width of a head.
    pub fn head(&self) -> usize {
        self.width / self.heads
    }

    /// Columns of queries, keys and values on the fullest of `tensor` ranks.
    pub(crate) fn columns(&self, tensor: usize) -> [usize; 2] {
        let groups = self.groups.div_ceil(tensor);
        let heads = self.heads.div_ceil(tensor);
        [heads * self.head(), groups * self.head()]
    }

    /// Weights of the products of one layer on the fullest of `tensor` ranks.
    fn weights(&self, tensor: usize) -> usize {
        let [q, kv] = self.columns(tensor);
        let f = self.hidden.div_ceil(tensor);
        self.width * (q + 2 * kv) + q * self.width + 2 * self.width * f
    }

    /// Parameters of one layer on the fullest of `tensor` ranks.
    pub fn layer(&self, tensor: usize) -> u64 {
        let [q, kv] = self.columns(tensor);
        let f = self.hidden.div_ceil(tensor);
        let biases = q + 2 * kv + self.width + f + self.width;
        let norms = 4 * self.width;
        (self.weights(tensor) + biases + norms) as u64
    }

    /// Parameters of `part` on the fullest of `tensor` ranks. `positions_too`: the head's copy of a
    /// tied table comes with a copy of the positions, as DeepSpeed ties whole modules.
    ///
    /// ```
    /// use advect_pipelines::planner::model::{Gpt, Part};
    /// // 175B on 4 x 16: an inner stage and the first, as logged on Frontier
    /// let gpt = Gpt::plain(96, 12288, 96, 2048, 50688);
    /// let inner = Part { layers: 6, first: false, last: false };
    /// assert_eq!(gpt.parameters(inner, 4, true), 2_718_480_384);
    /// assert_eq!(gpt.parameters(Part { first: true, ..inner }, 4, true), 2_899_359_744);
    /// ```
    pub fn parameters(&self, part: Part, tensor: usize, positions_too: bool) -> u64 {
        let table = (self.vocabulary.div_ceil(tensor) * self.width) as u64;
        let positions = (self.sequence * self.width) as u64;
        let mut sum = part.layers as u64 * self.layer(tensor);
        if part.first {
            sum += table + positions;
        }
        if part.last {
            sum += 2 * self.width as u64;
            if !self.tied || !part.first {
                sum += table;
            }
            if self.tied && !part.first && positions_too {
                sum += positions;
            }
        }
        sum
    }

    /// Parameters of the whole model, a tied table counted once.
    pub fn total(&self) -> u64 {
        let whole = Part {
            layers: self.layers,
            first: true,
            last: true,
        };
        self.parameters(whole, 1, false)
    }

    /// FLOPs forward of `part` over `tokens` positions on the fullest of `tensor` ranks; queries
    /// see all s keys.
    pub fn forward(&self, part: Part, tokens: usize, tensor: usize) -> Flops {
        let (tokens, layers) = (tokens as f64, part.layers as f64);
        let [q, _] = self.columns(tensor);
        let table = self.width as f64 * self.vocabulary.div_ceil(tensor) as f64;
        Flops {
            linear: 2.0 * tokens * layers * self.weights(tensor) as f64,
            attention: 4.0 * tokens * layers * self.sequence as f64 * q as f64,
            head: if part.last { 2.0 * tokens * table } else { 0.0 },
        }
    }

    /// $F_3$, FLOPs that a step over `batch` sequences needs.
    pub fn model_flops(&self, batch: usize) -> f64 {
        3.0 * (self.body(batch) + self.top(batch))
    }

    /// $F_4$, FLOPs that a step executes when every layer is computed a second time.
    pub fn hardware_flops(&self, batch: usize) -> f64 {
        4.0 * self.body(batch) + 3.0 * self.top(batch)
    }

    fn body(&self, batch: usize) -> f64 {
        let whole = Part {
            layers: self.layers,
            first: false,
            last: false,
        };
        let flops = self.forward(whole, self.sequence, 1);
        batch as f64 * (flops.linear + flops.attention)
    }

    fn top(&self, batch: usize) -> f64 {
        2.0 * batch as f64 * self.sequence as f64 * self.width as f64 * self.vocabulary as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(layers: usize, first: bool, last: bool) -> Part {
        Part {
            layers,
            first,
            last,
        }
    }

    /// The stages of 175B on 4 x 16 sum to both totals of the public log, counting the tied module
    /// twice and once.
    #[test]
    fn stages_sum_to_the_totals_of_the_log() {
        let gpt = Gpt::plain(96, 12288, 96, 2048, 50688);
        let stages = (0..16).map(|i| gpt.parameters(part(6, i == 0, i == 15), 4, true));
        let total = 4 * stages.sum::<u64>();
        assert_eq!(total, 175_429_877_760);
        let tied = 4 * (gpt.parameters(part(0, true, false), 4, true));
        assert_eq!(total - tied, 174_706_360_320);
    }

    /// On one rank the count is that of the model, however the layers are cut; only the copy of a
    /// tied table comes on top.
    #[test]
    fn any_split_has_the_same_parameters() {
        for tied in [true, false] {
            let gpt = Gpt {
                tied,
                groups: 2,
                ..Gpt::plain(7, 48, 6, 32, 100)
            };
            let parts = [
                part(1, true, false),
                part(4, false, false),
                part(2, false, true),
            ];
            let sum: u64 = parts.iter().map(|p| gpt.parameters(*p, 1, false)).sum();
            let copy = if tied { 100 * 48 } else { 0 };
            assert_eq!(sum, gpt.total() + copy);
        }
    }

    /// FLOPs of a step are the closed forms that the training code prints.
    #[test]
    fn flops_are_the_closed_forms() {
        let (batch, s, l, h, v) = (640.0, 2048.0, 96.0, 12288.0, 50688.0);
        let gpt = Gpt::plain(96, 12288, 96, 2048, 50688);
        let f3 = 72.0 * batch * s * l * h * h * (1.0 + s / (6.0 * h) + v / (12.0 * l * h));
        let f4 = 96.0 * batch * s * l * h * h * (1.0 + s / (6.0 * h) + v / (16.0 * l * h));
        assert!((gpt.model_flops(640) / f3 - 1.0).abs() < 1e-12);
        assert!((gpt.hardware_flops(640) / f4 - 1.0).abs() < 1e-12);
    }

    /// Heads that the ranks do not divide leave the fullest rank with a head more; none is lost.
    #[test]
    fn uneven_heads_are_rounded_up() {
        let gpt = Gpt::plain(2, 48, 6, 32, 100);
        assert_eq!(gpt.columns(4), [16, 16]);
        assert!(4 * gpt.layer(4) > gpt.layer(1));
    }
}
