//! One block of an Evoformer: algorithm 6 of Jumper et al. (2021), supplement 1.6.

use advect_engine::graph::Value;
use advect_engine::{DType, Layout, Placement, Result, Spec};

use super::places::{Places, Streams};
use super::{
    AddTransposed, Along, ByCount, Edges, Evoformer, EvoformerAttention, OuterProductMean,
    TriangleProduct,
};
use crate::network::{Add, Gated, Linear, Pointwise, Residual};
use crate::training::Initial;
use crate::transformer::blocks::DEVIATION;
use crate::transformer::build::{Build, split};

const SAME: Placement = Placement::Same;
const ZEROS: Initial = Initial::Constant(0.0);
const NORMAL: Initial = Initial::Normal {
    deviation: DEVIATION,
};

/// A linear map in the making: name, shape of its weight, the first values of its shift, if it has one, and what its
/// results go through.
struct Map<'a> {
    name: String,
    shape: &'a [usize],
    shift: Option<Initial>,
    then: Option<Pointwise>,
}

impl<'a> Map<'a> {
    fn new(name: impl Into<String>, shape: &'a [usize]) -> Self {
        Map {
            name: name.into(),
            shape,
            shift: None,
            then: None,
        }
    }

    fn shifted(self, initial: f64) -> Self {
        Map {
            shift: Some(Initial::Constant(initial)),
            ..self
        }
    }

    fn then(self, function: Pointwise) -> Self {
        Map {
            then: Some(function),
            ..self
        }
    }

    /// Of x with its columns cut where weights are.
    fn cut(self, build: &mut Build<'_>, x: Value) -> Result<Value> {
        self.apply(build, x, Some(1))
    }

    /// Of x with whole weights.
    fn whole(self, build: &mut Build<'_>, x: Value) -> Result<Value> {
        self.apply(build, x, None)
    }

    fn apply(self, build: &mut Build<'_>, x: Value, cut: Option<usize>) -> Result<Value> {
        let name = &self.name;
        let weight = build.parameter(&format!("{name}.weight"), self.shape, cut, NORMAL, x)?;
        let (mut linear, mut parameters) = (Linear::LAST, vec![weight]);
        if let Some(initial) = self.shift {
            let bias = format!("{name}.bias");
            let cut = cut.map(|dim| dim - 1);
            parameters.push(build.parameter(&bias, &self.shape[1..], cut, initial, x)?);
            linear = linear.shifted();
        }
        let linear = self.then.map_or(linear, |function| linear.then(function));
        build.with(name, linear, x, &parameters)
    }
}

/// Attention of a stream: where it is between blocks, and where queries, keys and the bias are for it.
struct Attends<'a> {
    name: &'a str,
    along: Along,
    heads: usize,
    width: usize,
    mask: Option<Value>,
    between: Places,
    entry: Places,
    queries: Places,
    keys: Places,
    bias: Places,
}

impl Evoformer {
    /// Both streams through one block.
    pub(super) fn block(
        &self,
        build: &mut Build<'_>,
        block: usize,
        streams: Streams,
    ) -> Result<Streams> {
        let name = |part: &str| format!("block {block}.{part}");
        let Streams {
            alignment: m,
            pairs: z,
            masks,
        } = streams;
        let rows = Attends {
            name: &name("row-attention"),
            along: Along::Rows,
            heads: self.alignment_heads,
            width: self.alignment,
            mask: masks.map(|masks| masks.rows),
            between: Places::ALIGNMENT,
            entry: Places {
                sequence: SAME,
                ..Places::ALIGNMENT
            },
            queries: Places {
                exchanged: split(1),
                gathered: split(2),
                sequence: split(3),
                tensor: split(3),
            },
            keys: Places {
                exchanged: split(1),
                gathered: SAME,
                sequence: split(3),
                tensor: split(3),
            },
            bias: Places {
                exchanged: SAME,
                gathered: split(1),
                sequence: split(3),
                tensor: split(3),
            },
        };
        // the bias of rows is of pairs, in the layout between blocks
        let norm = build.norm(&name("row-attention.pairs.norm"), z, self.pairs)?;
        let norm = Places::cut(split(1), SAME).take(build, norm)?;
        let m = self.attend(build, &rows, m, Some(norm))?;
        let columns = Attends {
            name: &name("column-attention"),
            along: Along::Columns,
            mask: masks.map(|masks| masks.columns),
            entry: Places::cut(split(2), SAME),
            queries: Places::cut(split(2), split(3)),
            keys: Places::cut(split(2), split(3)),
            bias: Places::WHOLE,
            ..rows
        };
        let m = self.attend(build, &columns, m, None)?;
        let entry = Places {
            sequence: SAME,
            ..Places::ALIGNMENT
        };
        let transition = name("transition");
        let m = self.pass(
            build,
            &transition,
            m,
            self.alignment,
            [Places::ALIGNMENT, entry],
        )?;
        // nothing depends on the last pairs where no distances are asked for
        if self.bins == 0 && block + 1 == self.blocks {
            return Ok(Streams {
                alignment: m,
                ..streams
            });
        }
        let streams = Streams {
            alignment: m,
            ..streams
        };
        let z = self.multiply_out(build, &name("outer-product"), streams)?;
        let there = masks.map(|masks| masks.starting);
        let outgoing = name("triangle-outgoing");
        let z = self.triangle(build, &outgoing, Edges::Outgoing, (z, there))?;
        let incoming = name("triangle-incoming");
        let z = self.triangle(build, &incoming, Edges::Incoming, (z, there))?;
        let starting = Attends {
            name: &name("triangle-starting"),
            along: Along::Rows,
            heads: self.pair_heads,
            width: self.pairs,
            mask: masks.map(|masks| masks.starting),
            between: Places::PAIRS,
            entry: Places::cut(split(1), SAME),
            queries: Places::cut(split(1), split(3)),
            keys: Places::cut(split(1), split(3)),
            bias: Places::cut(SAME, split(3)),
        };
        let z = self.attend_pairs(build, &starting, z)?;
        let ending = Attends {
            name: &name("triangle-ending"),
            along: Along::Columns,
            mask: masks.map(|masks| masks.ending),
            entry: Places::cut(split(2), SAME),
            queries: Places::cut(split(2), split(3)),
            keys: Places::cut(split(2), split(3)),
            ..starting
        };
        let z = self.attend_pairs(build, &ending, z)?;
        let entry = Places::cut(split(1), SAME);
        let transition = name("pair-transition");
        let z = self.pass(build, &transition, z, self.pairs, [Places::PAIRS, entry])?;
        Ok(Streams {
            alignment: m,
            pairs: z,
            masks,
        })
    }

    /// Triangle attention: the bias is of the pairs themselves.
    fn attend_pairs(&self, build: &mut Build<'_>, how: &Attends<'_>, z: Value) -> Result<Value> {
        let norm = build.norm(&format!("{}.norm", how.name), z, how.width)?;
        let norm = how.entry.take(build, norm)?;
        self.attend_normed(build, how, [z, norm], Some(norm))
    }

    fn attend(
        &self,
        build: &mut Build<'_>,
        how: &Attends<'_>,
        x: Value,
        of_bias: Option<Value>,
    ) -> Result<Value> {
        let norm = build.norm(&format!("{}.norm", how.name), x, how.width)?;
        let norm = how.entry.take(build, norm)?;
        self.attend_normed(build, how, [x, norm], of_bias)
    }

    /// Gated attention added to x: algorithms 7, 8, 13 and 14.
    fn attend_normed(
        &self,
        build: &mut Build<'_>,
        how: &Attends<'_>,
        [x, norm]: [Value; 2],
        of_bias: Option<Value>,
    ) -> Result<Value> {
        let (name, heads) = (how.name, [how.width, how.heads, self.head]);
        let map = |part: &str| Map::new(format!("{name}.{part}"), &heads);
        let q = map("query").cut(build, norm)?;
        let k = map("key").cut(build, norm)?;
        let v = map("value").cut(build, norm)?;
        let gate = map("gate").shifted(1.0).cut(build, norm)?;
        let mut inputs = vec![how.queries.take(build, q)?];
        for keys in [k, v] {
            inputs.push(how.keys.take(build, keys)?);
        }
        let mut attention = EvoformerAttention::new(how.along);
        if let Some(mask) = how.mask {
            inputs.push(mask);
            attention = attention.masked();
        }
        if let Some(of_bias) = of_bias {
            let shape = [self.pairs, how.heads];
            let bias = Map::new(format!("{name}.pair-bias"), &shape).cut(build, of_bias)?;
            inputs.push(how.bias.take(build, bias)?);
            attention = attention.biased();
        }
        let y = build.apply(name, attention, &inputs)?;
        let gate = how.queries.take(build, gate)?;
        let gated = format!("{name}.gated");
        let y = build.apply(&gated, Gated(Pointwise::Sigmoid), &[gate, y])?;
        let between = how.between.layout(build);
        let output = format!("{name}.output");
        let shape = [how.heads, self.head, how.width];
        build.back_to(&output, [x, y], &shape, self.back_deviation(), &between)
    }

    /// Two linear maps with a rectifier between them, added to x: algorithms 9 and 15.
    fn pass(
        &self,
        build: &mut Build<'_>,
        name: &str,
        x: Value,
        width: usize,
        [between, entry]: [Places; 2],
    ) -> Result<Value> {
        let norm = build.norm(&format!("{name}.norm"), x, width)?;
        let norm = entry.take(build, norm)?;
        let hidden = self.transition * width;
        let shape = [width, hidden];
        let up = Map::new(format!("{name}.up"), &shape).shifted(0.0);
        let y = up.then(Pointwise::Relu).cut(build, norm)?;
        let between = between.layout(build);
        let down = format!("{name}.down");
        build.back_to(
            &down,
            [x, y],
            &[hidden, width],
            self.back_deviation(),
            &between,
        )
    }

    /// The mean of outer products of columns of the alignment, added to their pairs: algorithm 10.
    fn multiply_out(&self, build: &mut Build<'_>, name: &str, streams: Streams) -> Result<Value> {
        let Streams {
            alignment: m,
            pairs: z,
            masks,
        } = streams;
        let c = self.outer;
        let norm = build.norm(&format!("{name}.norm"), m, self.alignment)?;
        let shape = [self.alignment, c];
        let side = |part: &str| Map::new(format!("{name}.{part}"), &shape).shifted(0.0);
        let there = masks.map(|masks| masks.alignment);
        let left = side("left").whole(build, norm)?;
        let left = kept(build, &format!("{name}.left.kept"), left, there)?;
        let right = side("right").whole(build, norm)?;
        let right = kept(build, &format!("{name}.right.kept"), right, there)?;
        let left = Places {
            tensor: SAME,
            ..Places::all(split(2))
        }
        .take(build, left)?;
        let right = Places::WHOLE.take(build, right)?;
        let start = Initial::Normal {
            deviation: self.back_deviation(),
        };
        let weight = format!("{name}.output.weight");
        let weight = build.parameter(&weight, &[c, c, self.pairs], None, start, left)?;
        let product = build.apply(name, OuterProductMean, &[left, right, weight])?;
        let mut product = Places::PAIRS.take(build, product)?;
        if let Some(masks) = masks {
            let mean = ByCount::mean(self.sequences);
            product = build.apply(&format!("{name}.mean"), mean, &[product, masks.pairs])?;
        }
        let bias = format!("{name}.output.bias");
        let bias = build.parameter(&bias, &[self.pairs], None, ZEROS, product)?;
        build.apply(&format!("{name}.residual"), Residual, &[z, product, bias])
    }

    /// A triangle multiplicative update, added to z: algorithms 11 and 12.
    fn triangle(
        &self,
        build: &mut Build<'_>,
        name: &str,
        edges: Edges,
        (z, there): (Value, Option<Value>),
    ) -> Result<Value> {
        let (width, c) = (self.pairs, self.triangle);
        let norm = build.norm(&format!("{name}.norm"), z, width)?;
        let entry = Places::cut(split(1), SAME).take(build, norm)?;
        let shape = [width, c];
        let side = |build: &mut Build<'_>, part: &str| -> Result<Value> {
            let gate = Map::new(format!("{name}.{part}.gate"), &shape).shifted(1.0);
            let gate = gate.cut(build, entry)?;
            let map = Map::new(format!("{name}.{part}"), &shape).shifted(0.0);
            let map = map.cut(build, entry)?;
            let gated = format!("{name}.{part}.gated");
            let gated = build.apply(&gated, Gated(Pointwise::Sigmoid), &[gate, map])?;
            kept(build, &format!("{name}.{part}.kept"), gated, there)
        };
        let (a, b) = (side(build, "left")?, side(build, "right")?);
        let own = match edges {
            Edges::Outgoing => split(1),
            Edges::Incoming => split(2),
        };
        let a = Places::cut(own, split(3)).take(build, a)?;
        let b = Places::cut(SAME, split(3)).take(build, b)?;
        let product = build.apply(name, TriangleProduct(edges), &[a, b])?;
        let product = Places::PAIRS.take(build, product)?;
        let product = build.norm(&format!("{name}.product.norm"), product, c)?;
        let back = [c, width];
        let y = Map::new(format!("{name}.output"), &back).shifted(0.0);
        let y = y.whole(build, product)?;
        let gate = [width, width];
        let gate = Map::new(format!("{name}.gate"), &gate).shifted(1.0);
        let gate = gate.whole(build, norm)?;
        let gated = format!("{name}.gated");
        let y = build.apply(&gated, Gated(Pointwise::Sigmoid), &[gate, y])?;
        let y = build.dropped(&format!("{name}.dropout"), y)?;
        build.apply(&format!("{name}.residual"), Add, &[z, y])
    }

    /// Symmetric logits of the bins of distances (supplement 1.9.8), cut as `finished`.
    pub(super) fn distogram(
        &self,
        build: &mut Build<'_>,
        z: Value,
        finished: &Layout,
    ) -> Result<Value> {
        let z = build.norm("distogram.norm", z, self.pairs)?;
        let shape = [self.pairs, self.bins];
        let half = Map::new("distogram.map", &shape).shifted(0.0);
        let half = half.whole(build, z)?;
        let rows = build.graph.relayout(half, finished)?;
        let columns = Places::all(split(2)).take(build, half)?;
        build.apply("distogram.logits", AddTransposed, &[rows, columns])
    }

    /// The stream of the alignment with what comes beside its letters, if anything does.
    pub(super) fn beside(
        &self,
        build: &mut Build<'_>,
        [b, s, l]: [usize; 3],
        dtype: DType,
        m: Value,
    ) -> Result<Value> {
        if self.features == 0 {
            return Ok(m);
        }
        let layout = Places::ALIGNMENT.layout(build);
        let features = Spec::new([b, s, l, self.features], dtype, layout);
        let features = build.graph.input("features", features)?;
        let shape = [self.features, self.alignment];
        let map = Map::new("features.map", &shape).shifted(0.0);
        let more = map.whole(build, features)?;
        build.apply("features.residual", Add, &[m, more])
    }

    /// Logits of the letters, between blocks.
    pub(super) fn letters(
        &self,
        build: &mut Build<'_>,
        [b, s, l]: [usize; 3],
        dtype: DType,
        m: Value,
    ) -> Result<Value> {
        let m = build.norm("letters.norm", m, self.alignment)?;
        let shape = [self.alignment, self.alphabet];
        let map = Map::new("letters.map", &shape).shifted(0.0);
        let logits = map.whole(build, m)?;
        if !self.prior {
            return Ok(logits);
        }
        let layout = Places::ALIGNMENT.layout(build);
        let prior = Spec::new([b, s, l, self.alphabet], dtype, layout);
        let prior = build.graph.input("prior", prior)?;
        build.apply("letters.logits", Add, &[logits, prior])
    }

    fn back_deviation(&self) -> f64 {
        DEVIATION / (2.0 * self.blocks.max(1) as f64).sqrt()
    }
}

/// What of x is there, if that is given.
fn kept(build: &mut Build<'_>, name: &str, x: Value, there: Option<Value>) -> Result<Value> {
    match there {
        Some(there) => build.apply(name, ByCount::KEPT, &[x, there]),
        None => Ok(x),
    }
}
