//! The Evoformer as a graph of its training: letters of an alignment that were masked, and, where they are given,
//! bins of the distances of pairs.

use advect_engine::graph::Value;
use advect_engine::{DType, Deal, Placement, Result, Spec};
use serde::{Deserialize, Serialize};

use super::masks::Masks;
use super::places::{Places, Streams};
use super::{FirstRowEmbedding, PairEmbedding};
use crate::loss::{BalancedCrossEntropy, Count, CountEach, CrossEntropy, Hits, VocabularyPartial};
use crate::network::rules::refuse;
use crate::network::{Add, Dropout, Embedding, Scale};
use crate::training::{Initial, Trainable};
use crate::transformer::blocks::{DEVIATION, positive};
use crate::transformer::build::{Build, split};
use crate::transformer::{Context, Role, Strategy, Style, stored};

/// Extents of an Evoformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Evoformer {
    /// Number of letters, those of gaps and of the unknown among them. The token `alphabet` is that of a position
    /// that was masked.
    pub alphabet: usize,
    /// s, sequences of an alignment; the first is the one that the others are aligned to.
    pub sequences: usize,
    /// l, positions.
    pub length: usize,
    /// f, numbers that come beside each letter, such as the profile of its column (`msa_feat` of `AlphaFold`);
    /// 0 if none do.
    #[serde(default)]
    pub features: usize,
    /// Whether logits of the letters are given that the model adds to.
    #[serde(default)]
    pub prior: bool,
    /// Whether a mask is given of the positions that are there: nothing of the others reaches them.
    #[serde(default)]
    pub masked: bool,
    /// Number of blocks.
    pub blocks: usize,
    /// Width of the stream of the alignment (c_m; 256 in `AlphaFold`).
    pub alignment: usize,
    /// Width of the stream of pairs (c_z; 128).
    pub pairs: usize,
    /// Heads of attention in the alignment (8).
    pub alignment_heads: usize,
    /// Heads of triangle attention (4).
    pub pair_heads: usize,
    /// d, width of a head (32).
    pub head: usize,
    /// Width of each side of outer products (32).
    pub outer: usize,
    /// Channels of triangle multiplication (128).
    pub triangle: usize,
    /// How many times wider a transition is inside (4).
    pub transition: usize,
    /// The greatest difference of positions that is told from others (32).
    pub max_relative_position: usize,
    /// Bins of distances of pairs (64); 0 if no distances are given.
    pub bins: usize,
    /// What the mean over pairs counts in the loss beside that over masked letters (0.3 to 2.0 in `AlphaFold`). The
    /// mean over pairs is that of each sample, of which each counts as often as it has masked letters.
    pub distances_weight: f64,
    /// ε of the norms.
    pub epsilon: f64,
    /// What is left out of branches before they are added, while it learns: element by element, at one rate in all
    /// branches but outer products. `AlphaFold` has a mask that all rows or all columns of a branch share, at 0.15 in
    /// row attention and at 0.25 in products and attention of triangles, and leaves nothing out elsewhere.
    pub dropout: Dropout,
}

impl Evoformer {
    /// The graph of the loss of `samples` alignments a micro-batch.
    ///
    /// Inputs are `tokens` `[samples, s, l]` (`I64`, up to `alphabet`, which stands for masked), `targets`
    /// `[samples, s, l]` (`I64`; a negative target is none), and with bins `distances` `[samples, l, l]` (`I64`, the
    /// bin; negative: none), where it is masked `mask` `[samples, s, l]` (`I64`, 0 where nothing is), with features
    /// `features` `[samples, s, l, f]`, and with a prior `prior` `[samples, s, l, alphabet]`, both of `dtype`. Outputs are `loss`, in nats, summed, and `count`, the number of
    /// targets. With bins `loss` is the sum of `share`, which is that of letters, and, times its weight,
    /// `distances.loss`: with $n_b$ masked letters and $t_b$ pairs of sample b, $\sum_b (n_b / t_b) \sum_{ij} J_{bij}$,
    /// so that divided by `count` both are means ([`BalancedCrossEntropy`]). With `BF16` what flows is rounded
    /// ([`Mixed`](advect_engine::graph::Mixed)), and parameters and loss are `F32`.
    ///
    /// # Errors
    /// If an extent is 0 or extents are too large to be counted, if there is 1 bin, if a number is not finite, or if
    /// an axis has a role for which there is no form.
    pub fn train(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        self.check(samples, strategy)?;
        let mut build = Build::new(strategy, dtype, self.style());
        let streams = self.streams(samples, dtype, &mut build)?;
        let logits = self.letters(&mut build, self.shape(samples), dtype, streams.alignment)?;
        let finished = Places::FINISHED;
        let shape = self.shape(samples).to_vec();
        let names = ["letters", "targets"];
        let asked = entropy(&mut build, names, logits, shape, finished)?;
        let parts = [asked.rows, asked.hits, asked.targets];
        let cross_entropy = "letters.cross-entropy";
        let letters = build.graph.apply(cross_entropy, CrossEntropy, &parts)?;
        let count = build
            .graph
            .apply("letters.targets", Count, &[asked.targets])?;
        let mut loss = letters;
        if self.bins > 0 {
            let finished = Places::all(split(1));
            let layout = finished.layout(&build);
            let logits = self.distogram(&mut build, streams.pairs, &layout)?;
            let shape = vec![samples, self.length, self.length];
            let names = ["distances", "distances"];
            let pairs = entropy(&mut build, names, logits, shape, finished)?;
            let n = count_each(&mut build, "letters.each", asked.targets)?;
            let t = count_each(&mut build, "distances.each", pairs.targets)?;
            let parts = [pairs.rows, pairs.hits, pairs.targets, n, t];
            let cross_entropy = "distances.cross-entropy";
            let distances = build
                .graph
                .apply(cross_entropy, BalancedCrossEntropy, &parts)?;
            let weight = Scale(self.distances_weight);
            let weighed = build
                .graph
                .apply("distances.weighed", weight, &[distances])?;
            loss = build.graph.apply("loss", Add, &[letters, weighed])?;
            build.graph.output("share", letters)?;
            build.graph.output("distances.loss", distances)?;
        }
        build.graph.output("loss", loss)?;
        build.graph.output("count", count)?;
        build.finish()
    }

    /// Extents of the letters of `samples` alignments.
    fn shape(&self, samples: usize) -> [usize; 3] {
        [samples, self.sequences, self.length]
    }

    /// The graph of what an alignment gives. Inputs are `tokens` and, where it is masked, `mask` `[samples, s, l]` (`I64`),
    /// with features `features` `[samples, s, l, f]` and with a prior `prior` `[samples, s, l, alphabet]`, both of `dtype`. Outputs are `logits`
    /// `[samples, s, l, alphabet]`, to which the prior has been added, and with bins `distances`
    /// `[samples, l, l, bins]`, logits too. Parameters are named as in [`Evoformer::train`], and nothing is left out.
    ///
    /// # Errors
    /// As [`Evoformer::train`].
    pub fn infer(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        self.check(samples, strategy)?;
        let mut build = Build::new(strategy, dtype, self.style().evaluated());
        let streams = self.streams(samples, dtype, &mut build)?;
        let logits = self.letters(&mut build, self.shape(samples), dtype, streams.alignment)?;
        build.graph.output("logits", logits)?;
        if self.bins > 0 {
            let layout = Places::all(split(1)).layout(&build);
            let logits = self.distogram(&mut build, streams.pairs, &layout)?;
            build.graph.output("distances", logits)?;
        }
        build.finish()
    }

    /// The graph of how many masked letters are recovered: inputs as those of [`Evoformer::train`] but `distances`;
    /// `loss` is the number of targets that are the likeliest letter, so that its mean is the recovery. Parameters
    /// are named as in [`Evoformer::train`], and what flows is not rounded.
    ///
    /// # Errors
    /// As [`Evoformer::train`].
    pub fn recovery(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        self.check(samples, strategy)?;
        let dtype = stored(dtype);
        let mut build = Build::new(strategy, dtype, self.style().evaluated());
        let letters = Evoformer {
            bins: 0,
            ..self.clone()
        };
        let streams = letters.streams(samples, dtype, &mut build)?;
        let shape = self.shape(samples);
        let logits = self.letters(&mut build, shape, dtype, streams.alignment)?;
        let finished = Places::FINISHED;
        let layout = finished.layout(&build);
        let spec = Spec::new(shape, DType::I64, layout.clone());
        let targets = build.graph.input("targets", spec)?;
        let logits = build.graph.relayout(logits, &layout)?;
        let hits = build
            .graph
            .apply("letters.hits", Hits, &[logits, targets])?;
        let count = build.graph.apply("letters.targets", Count, &[targets])?;
        build.graph.output("loss", hits)?;
        build.graph.output("count", count)?;
        build.finish()
    }

    /// First streams, and through all blocks.
    fn streams(&self, samples: usize, dtype: DType, build: &mut Build<'_>) -> Result<Streams> {
        let start = Initial::Normal {
            deviation: DEVIATION,
        };
        let tokens = Places::ALIGNMENT.layout(build);
        let shape = [samples, self.sequences, self.length];
        let tokens = build
            .graph
            .input("tokens", Spec::new(shape, DType::I64, tokens))?;
        let letters = self.alphabet + 1;
        let shape = [letters, self.alignment];
        let table = build.parameter("tokens.weight", &shape, None, start, tokens)?;
        let alignment = build.with("tokens.rows", Embedding, tokens, &[table])?;
        let alignment = self.beside(
            build,
            [samples, self.sequences, self.length],
            dtype,
            alignment,
        )?;
        // of the first row, all of whose positions are the second of a pair, and some the first
        let mut sides = Vec::new();
        let some = Places {
            tensor: Placement::Same,
            ..Places::all(split(2))
        };
        for (side, places) in [("left", some), ("right", Places::WHOLE)] {
            let tokens = places.take(build, tokens)?;
            let name = format!("pairs.{side}");
            let shape = [letters, self.pairs];
            let table = build.parameter(&format!("{name}.weight"), &shape, None, start, tokens)?;
            sides.push(build.with(&name, FirstRowEmbedding, tokens, &[table])?);
        }
        let shape = [2 * self.max_relative_position + 1, self.pairs];
        let table = build.parameter("pairs.positions.weight", &shape, None, start, sides[0])?;
        let embedding = PairEmbedding {
            greatest: self.max_relative_position,
        };
        let pairs = build.apply("pairs", embedding, &[sides[0], sides[1], table])?;
        let pairs = Places::PAIRS.take(build, pairs)?;
        let masks = match self.masked {
            true => Some(Masks::new(build, self.shape(samples))?),
            false => None,
        };
        let mut streams = Streams {
            alignment,
            pairs,
            masks,
        };
        for (block, stage) in build.places(self.blocks)?.into_iter().enumerate() {
            streams = go_on(build, stage, streams)?;
            let before = build.graph.made();
            let begin = [streams.alignment, streams.pairs];
            streams = self.block(build, block, streams)?;
            let mut results = vec![streams.alignment, streams.pairs];
            results.retain(|v| !begin.contains(v));
            build.recompute_all(before, &results)?;
            build.offload_all(before, &begin, &results)?;
        }
        let last = build.last();
        go_on(build, last, streams)
    }

    fn style(&self) -> Style {
        Style {
            epsilon: self.epsilon,
            dropout: self.dropout,
            ..Style::GPT2
        }
    }

    fn check(&self, samples: usize, strategy: &Strategy) -> Result<()> {
        let extents = [
            ("samples", samples),
            ("blocks", self.blocks),
            ("alphabet", self.alphabet),
            ("sequences", self.sequences),
            ("length", self.length),
            ("alignment", self.alignment),
            ("pairs", self.pairs),
            ("alignment-heads", self.alignment_heads),
            ("pair-heads", self.pair_heads),
            ("head", self.head),
            ("outer", self.outer),
            ("triangle", self.triangle),
            ("transition", self.transition),
        ];
        positive(NAME, &extents)?;
        if self.bins == 1 {
            return refuse(NAME, "bins is 1; give it 2 at least, or 0 for none");
        }
        for (name, x) in [
            ("distances-weight", self.distances_weight),
            ("epsilon", self.epsilon),
        ] {
            if !x.is_finite() || x < 0.0 {
                return refuse(NAME, format!("{name} is {x}; give it a number from 0 on"));
            }
        }
        if !self.counts(samples) {
            let why = "extents are too large for their tensors to be counted; make them less";
            return refuse(NAME, why);
        }
        let none = strategy.roles().iter().find(|role| match role {
            Role::Context(Context::Heads) => false,
            Role::Context(come) => come.in_pieces() || come.deal() != Deal::Blocks,
            _ => false,
        });
        match none {
            Some(role) => {
                let why =
                    format!("there is no form of it for an axis '{role}'; take context-gather");
                refuse(NAME, why)
            }
            None => Ok(()),
        }
    }

    /// Whether the numbers of the largest tensors can be counted, eight bytes each.
    fn counts(&self, samples: usize) -> bool {
        let product = |extents: &[usize]| {
            let eight = Some(8usize);
            let of = |n: Option<usize>, extent: &usize| n?.checked_mul((*extent).max(1));
            extents.iter().fold(eight, of)
        };
        let (s, l) = (self.sequences, self.length);
        let wide = |heads: usize, width: usize| -> Option<usize> {
            let heads = product(&[heads, self.head])?;
            let inside = product(&[self.transition, width])?;
            Some(heads.max(inside))
        };
        let all = || -> Option<()> {
            let alignment = wide(self.alignment_heads, self.alignment)?;
            let pairs = wide(self.pair_heads, self.pairs)?;
            let letters = self.alphabet.checked_add(1)?.max(self.features);
            let positions = self.max_relative_position.checked_mul(2)?.checked_add(1)?;
            product(&[samples, s, l, alignment.max(letters)])?;
            product(&[samples, l, l, pairs.max(self.triangle).max(self.bins)])?;
            product(&[self.outer, self.outer, self.pairs])?;
            product(&[alignment.max(letters), self.alignment])?;
            product(&[pairs.max(positions).max(self.bins), self.pairs])?;
            product(&[self.blocks, 64])?;
            Some(())
        };
        all().is_some()
    }
}

const NAME: &str = "Evoformer";

/// Both streams at the stage of the next block.
fn go_on(build: &mut Build<'_>, stage: usize, streams: Streams) -> Result<Streams> {
    build.stand_at(stage);
    Ok(Streams {
        alignment: Places::ALIGNMENT.take(build, streams.alignment)?,
        pairs: Places::PAIRS.take(build, streams.pairs)?,
        masks: match streams.masks {
            Some(masks) => Some(masks.go_on(build)?),
            None => None,
        },
    })
}

/// What the cross-entropy of logits is of.
struct Asked {
    rows: Value,
    hits: Value,
    targets: Value,
}

/// Of logits `[…, classes]` and targets that come under the second name.
fn entropy(
    build: &mut Build<'_>,
    [name, targets]: [&str; 2],
    logits: Value,
    shape: Vec<usize>,
    finished: Places,
) -> Result<Asked> {
    let layout = finished.layout(build);
    let targets = build
        .graph
        .input(targets, Spec::new(shape, DType::I64, layout.clone()))?;
    let logits = build.graph.relayout(logits, &layout)?;
    let parts = [logits, targets];
    let [rows, hits] = build.measured(&format!("{name}.classes"), VocabularyPartial, &parts)?;
    Ok(Asked {
        rows,
        hits,
        targets,
    })
}

/// The number of targets in each sample, whole where the sample is.
fn count_each(build: &mut Build<'_>, name: &str, targets: Value) -> Result<Value> {
    let each = build.graph.apply(name, CountEach, &[targets])?;
    Places::WHOLE.take(build, each)
}
