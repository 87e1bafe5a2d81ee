//! Attention as a graph on a mesh.

use std::collections::BTreeMap;

use advect_engine::graph::Value;
use advect_engine::{Canonical, DType, Data, Graph, Layout, Mesh, Placement, Result, Shard, Spec};
use advect_operators::evoformer::{Along, EvoformerAttention};

use super::plain::{Extents, Tensors};

pub(crate) const SAME: Placement = Placement::Same;

/// Numbers between -1 and 1, from a seed.
pub(crate) fn numbers(seed: usize, n: usize) -> Vec<f64> {
    let next = |x: u64| {
        x.wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695)
    };
    let states = std::iter::successors(Some(next(seed as u64 + 1)), |x| Some(next(*x)));
    let number = |x: u64| (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    states.skip(5).take(n).map(number).collect()
}

/// Tensors of these extents; every third key is not seen, and of the first row none.
pub(crate) fn tensors(of: &Extents, masked: bool, biased: bool) -> Tensors {
    let whole = of.shape().iter().product();
    let mask = || {
        let mut mask: Vec<i64> = (0..whole / of.heads / of.width)
            .map(|i| i64::from(i % 3 != 1))
            .collect();
        for i in 0..of.length {
            mask[of.position(0, 0, i)] = 0;
        }
        mask
    };
    Tensors {
        q: numbers(1, whole),
        k: numbers(2, whole),
        v: numbers(3, whole),
        mask: masked.then(mask),
        bias: biased.then(|| numbers(4, of.bias().iter().product())),
        given: numbers(5, whole),
    }
}

/// How an axis of a mesh cuts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cut {
    Batch,
    Rows,
    Heads,
    Queries,
}

impl Cut {
    /// Placements of q, k and v, mask, and bias.
    fn placements(self, along: Along) -> [Placement; 4] {
        let split = |dim| Placement::Split { dim };
        let (row, position) = match along {
            Along::Rows => (1, 2),
            Along::Columns => (2, 1),
        };
        match self {
            Cut::Batch => [split(0); 4],
            Cut::Rows => [split(row), split(row), split(row), SAME],
            Cut::Heads => [split(3), split(3), SAME, split(3)],
            Cut::Queries => [split(position), SAME, SAME, split(3 - position)],
        }
    }
}

fn data(numbers: &[f64], dtype: DType) -> Data {
    match dtype {
        DType::F32 => numbers.iter().map(|&x| x as f32).collect::<Vec<_>>().into(),
        DType::Canonical => numbers
            .iter()
            .map(|&x| Canonical(x))
            .collect::<Vec<_>>()
            .into(),
        _ => numbers.to_vec().into(),
    }
}

/// A graph of attention, and its sources.
pub(crate) struct Attention {
    pub(crate) graph: Graph,
    y: Value,
    sources: BTreeMap<String, Vec<Shard>>,
    inputs: Vec<Value>,
    dtype: DType,
}

impl Attention {
    /// On one axis for each cut. What is Same is stored cut by its first dimension, and gathered for use, so
    /// that cotangents go the way back through the relayouts of a graph.
    pub(crate) fn new(
        of: &Extents,
        tensors: &Tensors,
        dtype: DType,
        cuts: &[(Cut, usize)],
    ) -> Result<Self> {
        let axes = cuts
            .iter()
            .enumerate()
            .map(|(i, (_, n))| (format!("axis {i}"), *n));
        let mesh = Mesh::new(axes)?;
        let layout = |which: usize| {
            let on = cuts.iter().map(|(cut, _)| cut.placements(of.along)[which]);
            Layout::new(on.collect::<Vec<_>>())
        };
        let stored = |used: &Layout| {
            let on = used.axes.iter().map(|p| match p {
                Placement::Same => Placement::Split { dim: 0 },
                p => *p,
            });
            Layout::new(on.collect::<Vec<_>>())
        };
        let (mut graph, mut sources) = (Graph::new(mesh.clone()), BTreeMap::new());
        let mut source = |name: &str, shape: &[usize], whole: Data, which| -> Result<[Value; 2]> {
            let used = layout(which);
            let spec = Spec::new(shape, whole.dtype(), stored(&used));
            sources.insert(name.to_owned(), spec.cut(&mesh, 0, &whole)?);
            let stored = graph.input(name, spec)?;
            Ok([stored, graph.relayout(stored, &used)?])
        };
        let whole = of.shape();
        let mut all = vec![
            source("q", &whole, data(&tensors.q, dtype), 0)?,
            source("k", &whole, data(&tensors.k, dtype), 1)?,
            source("v", &whole, data(&tensors.v, dtype), 1)?,
        ];
        let mut operator = EvoformerAttention::new(of.along);
        let mut inputs: Vec<Value> = all.iter().map(|[stored, _]| *stored).collect();
        if let Some(mask) = &tensors.mask {
            all.push(source("mask", &of.mask(), mask.clone().into(), 2)?);
            operator = operator.masked();
        }
        if let Some(bias) = &tensors.bias {
            all.push(source("bias", &of.bias(), data(bias, dtype), 3)?);
            inputs.push(all[all.len() - 1][0]);
            operator = operator.biased();
        }
        let used: Vec<Value> = all.iter().map(|[_, used]| *used).collect();
        let y = graph.apply("attention", operator, &used)?;
        graph.output("y", y)?;
        Ok(Attention {
            graph,
            y,
            sources,
            inputs,
            dtype,
        })
    }

    /// Whole outputs, and whole cotangents of q, k, v and the bias, if it is there.
    pub(crate) fn found(&self, given: &[f64]) -> Vec<Data> {
        let (graph, mesh) = (&self.graph, self.graph.mesh());
        let now = graph.rehearse(&self.sources, [0, 0], 0).expect("it works");
        let y = graph.spec(self.y).join(mesh, now.value(self.y));
        let dual = graph.spec(self.y).dual().expect("it has one");
        let seed = dual
            .cut(mesh, 0, &data(given, self.dtype))
            .expect("it fits");
        let seeds = BTreeMap::from([(self.y, seed)]);
        let mut back = now.adjoint(&seeds, &self.inputs).expect("it has one");
        let whole = |value: &Value| {
            let pieces = back.remove(value).expect("it is there");
            let dual = graph.spec(*value).dual().expect("it has one");
            dual.join(mesh, &pieces).expect("it fits")
        };
        let cotangents: Vec<Data> = self.inputs.iter().map(whole).collect();
        [vec![y.expect("it fits")], cotangents].concat()
    }
}

/// The greatest difference, relative to the largest entry.
pub(crate) fn apart(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let size = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let gaps = got.iter().zip(want).map(|(a, b)| (a - b).abs());
    let gap = gaps.fold(0.0f64, |m, g| if m.is_nan() || g <= m { m } else { g });
    if size == 0.0 { gap } else { gap / size }
}
