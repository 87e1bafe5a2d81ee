//! Evoformer attention: each row of a tensor attends by itself, beside a mask of keys and a bias that all rows
//! share.
//!
//! $$ s_{ij} = \frac{q_i \cdot k_j}{\sqrt d} + b_{ij}, \quad L_i = \ln \sum_{j\,\mathrm{seen}} e^{s_{ij}}, \quad
//!    p_{ij} = e^{s_{ij} - L_i}, \quad y_i = \sum_j p_{ij} v_j, $$
//! $$ \bar v_j = \sum_i p_{ij} \bar y_i, \quad \bar s_{ij} = p_{ij} (\bar y_i \cdot v_j - \bar y_i \cdot y_i), \quad
//!    \bar q_i = \sum_j \frac{\bar s_{ij} k_j}{\sqrt d}, \quad
//!    \bar k_j = \sum_i \frac{\bar s_{ij} q_i}{\sqrt d}, \quad
//!    \bar b_{ij} = \sum_{\mathrm{rows}} \bar s_{ij} . $$
//!
//! Queries and keys are taken in blocks and the scores of a block made again on the way back (Dao 2023,
//! *FlashAttention-2*, algorithms 1 and 2), so that there is no tensor of rows × queries × keys. Of planes of queries ×
//! keys there are, while it works, a copy of the bias (one for each of the b · h heads), and on the way back parts of
//! the cotangent of the bias (max(16, b · h), rounded up to a multiple of b · h, or one for each row where rows are
//! fewer) and their sum (b · h). Kept are the inputs, y, and L of every query. $\bar b$ is added up in the order of the
//! parts, which do not depend on threads, so that these change no bit. A query that sees no key gives 0, and its cotangents are 0.
//!
//! The four uses in an Evoformer are one operator (Jumper et al. 2021, *Highly accurate protein structure prediction
//! with AlphaFold*, supplement 1.6; $i$, $j$ are the two dimensions of positions):
//!
//! | use | algorithm | along | q, k, v | mask | bias |
//! |---|---|---|---|---|---|
//! | rows of an alignment | 7 | `Rows` | of `[b, s, l, c]` | of its positions | of pairs |
//! | columns of an alignment | 8 | `Columns` | of `[b, s, l, c]` | of its positions | |
//! | triangles, starting node | 13 | `Rows` | of pairs | of pairs | of pairs $jk$ |
//! | triangles, ending node | 14 | `Columns` | of pairs | of pairs | of pairs $ki$ |
//!
//! No tensor is transposed for it: along columns, positions are read where they lie. The bias is read as pairs lie,
//! too: the first of a pair is the query along rows, and the key along columns.
//!
//! | q | k and v | mask | bias | y | known as |
//! |---|---|---|---|---|---|
//! | cut by batch (0) | cut alike | cut alike | cut alike | cut alike | data parallel |
//! | cut by row | cut alike | cut alike | Same | cut alike | dynamic axial parallel (Cheng et al. 2023, *FastFold*) |
//! | cut by head (3) | cut alike | Same | cut by head (3) | cut alike | tensor parallel |
//! | cut by query | Same | Same | cut by query | cut alike | sequence parallel |
//!
//! Where rows are cut, the cotangent of the bias is `Partial(Sum)`: the only sum that leaves a worker. From rows to
//! columns a tensor goes by the relayout from one cut to the other, an all-to-all.

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{DType, Mesh, Operator, Placement, Result, Shard, Spec};

use super::tile::{Back, Inputs, Made, Tile};
use super::view::View;
use crate::kernels::{each_with, zeros};
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

const NAME: &str = "EvoformerAttention";
const SAME: Placement = Placement::Same;

/// Which positions of a tensor `[b, i, j, …]` see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Along {
    /// Those of one i: attention along j.
    Rows,
    /// Those of one j: attention along i.
    Columns,
}

impl Along {
    /// The dimension of the positions that see each other.
    pub(super) fn positions(self) -> usize {
        match self {
            Along::Rows => 2,
            Along::Columns => 1,
        }
    }

    /// The dimension that attends by itself.
    pub(super) fn rows(self) -> usize {
        3 - self.positions()
    }

    /// The dimension of queries in a bias.
    fn queries(self) -> usize {
        match self {
            Along::Rows => 1,
            Along::Columns => 2,
        }
    }
}

/// q, k and v `[b, i, j, h, d]` to y like q; `f32` or `f64`. In their order, if they are there, a mask
/// `[b, i, j]` of the positions of keys (`I64`; 0: not seen) and a bias: `[b, j, j, h]` along rows (query, key),
/// `[b, i, i, h]` along columns (key, query). There may be more or fewer keys than queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvoformerAttention {
    along: Along,
    masked: bool,
    biased: bool,
}

impl EvoformerAttention {
    /// Without mask and bias.
    pub const fn new(along: Along) -> Self {
        EvoformerAttention {
            along,
            masked: false,
            biased: false,
        }
    }

    /// The same with a mask.
    #[must_use]
    pub const fn masked(self) -> Self {
        EvoformerAttention {
            masked: true,
            ..self
        }
    }

    /// The same with a bias.
    #[must_use]
    pub const fn biased(self) -> Self {
        EvoformerAttention {
            biased: true,
            ..self
        }
    }

    /// Which input is the mask.
    fn mask(&self) -> Option<usize> {
        self.masked.then_some(3)
    }

    /// Which input is the bias.
    fn bias(&self) -> Option<usize> {
        self.biased.then_some(3 + usize::from(self.masked))
    }

    fn count(&self) -> usize {
        3 + usize::from(self.masked) + usize::from(self.biased)
    }

    /// Whether the shapes fit each other.
    fn fits(&self, inputs: &[Spec]) -> Result<()> {
        let (q, k, v) = (&inputs[0], &inputs[1], &inputs[2]);
        let (position, row) = (self.along.positions(), self.along.rows());
        let alike = |dim: usize| dim == position || q.shape[dim] == k.shape[dim];
        if q.shape.len() != 5 || k.shape.len() != 5 || !(0..5).all(alike) || k.shape != v.shape {
            let why = format!(
                "{q}, {k} and {v}: q, k and v are [b, i, j, h, d], k and v alike, and like q but for \
                 dimension {position}"
            );
            return refuse(NAME, why);
        }
        let (heads, width) = (q.shape[3], q.shape[4]);
        if heads == 0 || width == 0 {
            let why = format!("{q} has {heads} heads of width {width}; give it at least 1 of each");
            return refuse(NAME, why);
        }
        if let Some(mask) = self.mask().map(|i| &inputs[i])
            && (mask.dtype != DType::I64 || mask.shape != k.shape[..3])
        {
            let shape = &k.shape[..3];
            let why = format!("{mask} is no mask of keys; it is I64 of shape {shape:?}");
            return refuse(NAME, why);
        }
        if let Some(bias) = self.bias().map(|i| &inputs[i]) {
            let (n, t) = (q.shape[position], k.shape[position]);
            let [x, y] = if self.along == Along::Rows {
                [n, t]
            } else {
                [t, n]
            };
            let shape = [q.shape[0], x, y, heads];
            if bias.shape != shape {
                let what = format!("{n} queries, {t} keys and {} rows", q.shape[row]);
                let why = format!("{bias} is no bias for {what}; its shape is {shape:?}");
                return refuse(NAME, why);
            }
        }
        Ok(())
    }
}

impl Operator for EvoformerAttention {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        if inputs.len() != self.count() {
            let why = format!("it takes {} inputs, not {}", self.count(), inputs.len());
            return refuse(NAME, why);
        }
        let dtype = reals(NAME, &inputs[..3], &[0; 3])?;
        if let Some(bias) = self.bias().map(|i| &inputs[i]) {
            reals(NAME, &[inputs[0].clone(), bias.clone()], &[0; 2])?;
        }
        self.fits(inputs)?;
        let (position, row) = (self.along.positions(), self.along.rows());
        let mend = format!(
            "cut all by batch (0), q, k, v and mask by row ({row}), q, k, v and bias by head (3), or q by \
             query ({position}) and bias alike ({}); what is not cut is Same",
            self.along.queries()
        );
        let layout = layout(NAME, inputs, &mend, |on| {
            let fits = |keys: Placement, mask: Placement, bias: Placement| {
                let is = |input: Option<usize>, p| input.is_none_or(|i| on[i] == p);
                let alike = on[1] == keys && on[2] == keys;
                (alike && is(self.mask(), mask) && is(self.bias(), bias)).then_some(on[0])
            };
            match on[0] {
                Placement::Same => fits(SAME, SAME, SAME),
                cut @ Placement::Split { dim: 0 } => fits(cut, cut, cut),
                cut @ Placement::Split { dim: 3 } => fits(cut, SAME, cut),
                cut @ Placement::Split { dim } if dim == row => fits(cut, cut, SAME),
                Placement::Split { dim } if dim == position => {
                    let dim = self.along.queries();
                    fits(SAME, SAME, Placement::Split { dim })
                }
                _ => None,
            }
        })?;
        Ok(vec![Spec::new(inputs[0].shape.clone(), dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let view = View::of(self.along, &inputs[0], &inputs[1]);
            let of = self.inputs::<T>(&view, &|i| Ok(&inputs[i]))?;
            let mut y = buffer(inputs[0].len());
            let mut logs = vec![T::of(0.0); view.b * view.rows * view.h * view.n];
            let outputs = view.sorted(view.queries_mut(&mut y), false);
            let tasks = view.tasks(false).into_iter().zip(outputs);
            let tasks = tasks.zip(view.sorted(view.logs_mut(&mut logs), false));
            each_with(tasks.collect(), || Tile::new(&view), |tile, ((part, y), logs)| {
                tile.attend(&view, &of, &part, y, logs);
            });
            let y = Shard::new(site.key(), inputs[0].shape.clone(), y.into());
            let logs = Shard::new(site.key(), vec![logs.len()], T::data(logs));
            Ok((vec![y.clone()], Saved::shards(vec![y, logs])))
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1, 2, 3, 4][..self.count()]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        with_real!(site, tangents[0].dtype(), T => {
            let (view, of, made) = self.point::<T>(site, saved)?;
            let changes = Inputs {
                mask: None,
                ..self.inputs::<T>(&view, &|i| Ok(&tangents[i]))?
            };
            let mut dy = buffer(tangents[0].len());
            let outputs = view.sorted(view.queries_mut(&mut dy), false);
            let tasks = view.tasks(false).into_iter().zip(outputs).collect();
            each_with(tasks, || Tile::new(&view), |tile, (part, dy)| {
                tile.change(&view, [&of, &changes], made, &part, dy);
            });
            Ok(vec![Shard::new(site.key(), tangents[0].shape.clone(), dy.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        with_real!(site, cotangents[0].dtype(), T => {
            let (view, of, made) = self.point::<T>(site, saved)?;
            let given = cotangents[0].elements::<T>();
            let sums = self.bias().is_some_and(|i| wanted[i]);
            let (mut to_q, mut to_k, mut to_v) = (buffer(of.q.len()), buffer(of.k.len()), buffer(of.k.len()));
            let parts = view.tasks(sums);
            let pairs = if sums { view.n * view.t } else { 0 };
            let mut to_bias = zeros(parts.len() * pairs);
            let mut of_parts = to_bias.chunks_mut(pairs.max(1));
            let q = view.sorted(view.queries_mut(&mut to_q), sums);
            let k = view.sorted(view.keys_mut(&mut to_k), sums);
            let v = view.sorted(view.keys_mut(&mut to_v), sums);
            let tasks = parts.into_iter().zip(q).zip(k).zip(v).map(|(((part, q), k), v)| {
                let bias = of_parts.next().unwrap_or_default();
                (part, Back { q, k, v, bias })
            });
            each_with(tasks.collect(), || Tile::new(&view), |tile, (part, to)| {
                tile.transpose(&view, &of, (made, given), &part, to);
            });
            let shard = |i: usize, v: Vec<T>| Some(Shard::new(site.key(), site.input_shape(i), v.into()));
            let mut answers = vec![shard(0, to_q), shard(1, to_k), shard(2, to_v)];
            answers.resize_with(self.count(), || None);
            if let Some(i) = self.bias().filter(|_| sums) {
                answers[i] = shard(i, view.sum_of_parts(&to_bias));
            }
            Ok(answers)
        })
    }

    fn differentiable(&self, input: usize) -> bool {
        self.mask() != Some(input)
    }
}

impl EvoformerAttention {
    fn inputs<'a, T: Real>(
        &self,
        view: &View,
        of: &dyn Fn(usize) -> Result<&'a Shard>,
    ) -> Result<Inputs<'a, T>> {
        let mask = self.mask().map(of).transpose()?;
        let bias = self.bias().map(of).transpose()?;
        Ok(Inputs {
            q: of(0)?.elements(),
            k: of(1)?.elements(),
            v: of(2)?.elements(),
            mask: mask
                .filter(|m| m.dtype() == DType::I64)
                .map(Shard::elements),
            bias: bias.map(|bias| view.by_head(bias.elements())),
        })
    }

    /// What the graph and the forward pass kept.
    fn point<'a, T: Real>(
        &self,
        site: &Site,
        saved: &'a Saved,
    ) -> Result<(View, Inputs<'a, T>, Made<'a, T>)> {
        let view = View::of(self.along, saved.input(site, 0)?, saved.input(site, 1)?);
        let inputs = self.inputs(&view, &|i| saved.input(site, i))?;
        let kept: &Vec<Shard> = saved.get(site)?;
        let made = Made {
            y: kept[0].elements(),
            logs: kept[1].elements(),
        };
        Ok((view, inputs, made))
    }
}
