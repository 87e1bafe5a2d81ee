//! The Evoformer as a graph of its training: letters of an alignment that were masked, and, where they are given,
//! bins of the distances of pairs.

use advect_engine::graph::Value;
use advect_engine::{DType, Placement, Result, Spec};
use serde::{Deserialize, Serialize};

use super::stack::{Places, Streams};
use super::{FirstRowEmbedding, PairEmbedding};
use crate::loss::{Count, CrossEntropy, Hits, VocabularyPartial};
use crate::network::{Add, Dropout, Embedding, Scale};
use crate::training::{Initial, Trainable};
use crate::transformer::blocks::{DEVIATION, positive};
use crate::transformer::build::{Build, split};
use crate::transformer::{Strategy, Style, stored};

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
    pub greatest: usize,
    /// Bins of distances of pairs (64); 0 if no distances are given.
    pub bins: usize,
    /// What the sum over pairs counts in the loss beside that over masked letters.
    pub distances_weight: f64,
    /// ε of the norms.
    pub epsilon: f64,
    /// What is left out of branches before they are added, while it learns.
    pub dropout: Dropout,
}

impl Evoformer {
    /// The graph of the loss of `samples` alignments a micro-batch.
    ///
    /// Inputs are `tokens` `[samples, s, l]` (`I64`, up to `alphabet`, which stands for masked), `targets`
    /// `[samples, s, l]` (`I64`; a negative target is none), and with bins `distances` `[samples, l, l]` (`I64`, the
    /// bin; negative: none), with features `features` `[samples, s, l, f]`, and with a prior `prior`
    /// `[samples, s, l, alphabet]`, both of `dtype`. Outputs are `loss`, in nats, summed, and `count`, the number of
    /// targets; with bins `loss` is the sum of `letters.loss` and, times its weight, `distances.loss`, which has
    /// `distances.count` terms. With `BF16` what flows is rounded ([`Mixed`](advect_engine::graph::Mixed)), and
    /// parameters and loss are `F32`.
    ///
    /// # Errors
    /// If an extent is 0.
    pub fn train(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        self.check()?;
        let mut build = Build::new(strategy, dtype, self.style());
        let streams = self.streams(samples, dtype, &mut build)?;
        let logits = self.letters(&mut build, self.shape(samples), dtype, streams.alignment)?;
        let finished = Places::FINISHED;
        let shape = self.shape(samples).to_vec();
        let [letters, count] =
            entropy(&mut build, ["letters", "targets"], logits, shape, finished)?;
        let mut loss = letters;
        if self.bins > 0 {
            let finished = Places::all(split(1));
            let layout = finished.layout(&build);
            let logits = self.distogram(&mut build, streams.pairs, &layout)?;
            let shape = vec![samples, self.length, self.length];
            let names = ["distances", "distances"];
            let [distances, pairs] = entropy(&mut build, names, logits, shape, finished)?;
            let weight = Scale(self.distances_weight);
            let weighed = build
                .graph
                .apply("distances.weighed", weight, &[distances])?;
            loss = build.graph.apply("loss", Add, &[letters, weighed])?;
            build.graph.output("letters.loss", letters)?;
            build.graph.output("distances.loss", distances)?;
            build.graph.output("distances.count", pairs)?;
        }
        build.graph.output("loss", loss)?;
        build.graph.output("count", count)?;
        build.finish()
    }

    /// Extents of the letters of `samples` alignments.
    fn shape(&self, samples: usize) -> [usize; 3] {
        [samples, self.sequences, self.length]
    }

    /// The graph of what an alignment gives: input `tokens`, outputs `logits` `[samples, s, l, alphabet]` and with
    /// bins `distances` `[samples, l, l, bins]`, logits too; parameters named as in [`Evoformer::train`].
    ///
    /// # Errors
    /// If an extent is 0.
    pub fn infer(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        self.check()?;
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
    /// If an extent is 0.
    pub fn recovery(&self, samples: usize, dtype: DType, strategy: &Strategy) -> Result<Trainable> {
        self.check()?;
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
        let shape = [2 * self.greatest + 1, self.pairs];
        let table = build.parameter("pairs.positions.weight", &shape, None, start, sides[0])?;
        let embedding = PairEmbedding {
            greatest: self.greatest,
        };
        let pairs = build.apply("pairs", embedding, &[sides[0], sides[1], table])?;
        let pairs = Places::PAIRS.take(build, pairs)?;
        let mut streams = Streams { alignment, pairs };
        for (block, stage) in build.places(self.blocks)?.into_iter().enumerate() {
            streams = go_on(build, stage, streams)?;
            let before = build.graph.made();
            let given = streams.pairs;
            streams = self.block(build, block, streams)?;
            match streams.pairs == given {
                true => build.recompute(before, streams.alignment)?,
                false => build.recompute_all(before, &[streams.alignment, streams.pairs])?,
            }
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

    fn check(&self) -> Result<()> {
        let extents = [
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
        positive("Evoformer", &extents)
    }
}

/// Both streams at the stage of the next block.
fn go_on(build: &mut Build<'_>, stage: usize, streams: Streams) -> Result<Streams> {
    build.stand_at(stage);
    Ok(Streams {
        alignment: Places::ALIGNMENT.take(build, streams.alignment)?,
        pairs: Places::PAIRS.take(build, streams.pairs)?,
    })
}

/// Cross-entropy of logits `[…, classes]` with targets that come under the second name, and the number of these.
fn entropy(
    build: &mut Build<'_>,
    [name, targets]: [&str; 2],
    logits: Value,
    shape: Vec<usize>,
    finished: Places,
) -> Result<[Value; 2]> {
    let layout = finished.layout(build);
    let targets = build
        .graph
        .input(targets, Spec::new(shape, DType::I64, layout.clone()))?;
    let logits = build.graph.relayout(logits, &layout)?;
    let parts = [logits, targets];
    let [rows, hits] = build.measured(&format!("{name}.classes"), VocabularyPartial, &parts)?;
    let parts = [rows, hits, targets];
    let loss = build
        .graph
        .apply(&format!("{name}.cross-entropy"), CrossEntropy, &parts)?;
    let count = build
        .graph
        .apply(&format!("{name}.targets"), Count, &[targets])?;
    Ok([loss, count])
}
