//! Attention of whole heads: all keys of a query are at hand, so that nothing is left to merge.
//!
//! $$ s_j = \frac{q \cdot k_j}{\sqrt d}, \quad L = \ln \sum_j e^{s_j}, \quad p_j = e^{s_j - L}, \quad
//!    y = \sum_j p_j v_j, $$
//! $$ \bar v_j = \sum p_j \bar y, \quad \bar s_j = p_j (\bar y \cdot v_j - \bar y \cdot y), \quad
//!    \bar q = \sum_j \bar s_j k_j / \sqrt d, \quad \bar k_j = \sum \bar s_j q / \sqrt d . $$
//!
//! Queries and keys are taken in blocks and the scores of a block made again on the way back: nothing of
//! size queries × keys is ever held (Dao 2023, *FlashAttention-2*, algorithms 1 and 2). Heads come in
//! groups that share keys and values (Ainslie et al. 2023, *GQA*); one head a group is ordinary
//! attention, one group is multi-query attention. A query that sees no key gives 0.
//!
//! | q | k and v | y | known as |
//! |---|---|---|---|
//! | cut by batch (0) | cut alike | cut alike | data parallel |
//! | cut by group (2) | cut by group (3) | cut alike | tensor parallel, Ulysses |
//! | cut by position (1) | Same | cut alike | sequence parallel with gathered keys |

use std::ops::Range;

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{DType, Mesh, Operator, Placement, Result, Shard, Spec};
use faer::MatMut;

use super::tile::{Back, Pair, Tile, dots, put};
use super::view::{Head, Sight, View};
use crate::kernels::each_with;
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// q `[b, n, g, r, d]` (g groups of r heads) and keys with values `[b, t, 2, g, d]` to
/// `[b, n, g, r, d]`; `f32` or `f64`. With `bounded`, bounds `[b, n, 2]` (`I64`) come third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attention {
    /// Whether query `i` sees keys up to `i` only, by global index.
    pub causal: bool,
    /// Whether each query is told the first key that it sees, and the one after the last, by global index:
    /// documents that share a window, and positions that are filled up, take no mask of queries × keys. An
    /// empty range sees nothing.
    pub bounded: bool,
}

impl Attention {
    /// Every query sees every key.
    pub const FULL: Attention = Attention {
        causal: false,
        bounded: false,
    };

    /// A query sees the keys up to its own position.
    pub const CAUSAL: Attention = Attention {
        causal: true,
        bounded: false,
    };

    /// Number of inputs before others of a kind that these operators differ in.
    pub(super) fn inputs(self) -> usize {
        2 + usize::from(self.bounded)
    }

    /// Inputs that the adjoint needs.
    pub(super) fn kept(self) -> &'static [usize] {
        &[0, 1, 2][..self.inputs()]
    }

    /// The type of the numbers; an error if the extents do not match.
    pub(super) fn check(self, name: &str, inputs: &[Spec]) -> Result<DType> {
        if inputs.len() < self.inputs() {
            let (takes, got) = (self.inputs(), inputs.len());
            return refuse(name, format!("it takes {takes} inputs, not {got}"));
        }
        let dtype = reals(name, &inputs[..2], &[5, 5])?;
        let (q, kv) = (&inputs[0], &inputs[1]);
        let (&[b, n, g, _, d], &[bk, _, 2, gk, dk]) = (q.shape.as_slice(), kv.shape.as_slice())
        else {
            let why = "q is [b, n, g, r, d], keys with values are [b, t, 2, g, d]";
            return refuse(name, why);
        };
        if q.shape[2..].contains(&0) {
            return refuse(
                name,
                format!("{q} has no heads; give at least one, of width 1"),
            );
        }
        if (b, g, d) != (bk, gk, dk) {
            return refuse(name, format!("{q} and {kv} do not match"));
        }
        match inputs.get(2).filter(|_| self.bounded) {
            Some(bounds) if bounds.dtype != DType::I64 || bounds.shape != [b, n, 2] => {
                let why = format!("{bounds} are no bounds of {q}; give I64 of [{b}, {n}, 2]");
                refuse(name, why)
            }
            _ => Ok(dtype),
        }
    }

    /// The layout of what queries get, where the keys at hand are all that they see; `None` if they are not.
    pub(super) fn alone(self, on: &[Placement]) -> Option<Placement> {
        const SAME: Placement = Placement::Same;
        let bounds = self.bounded.then(|| on[2]);
        let placed = match (on[0], on[1]) {
            (SAME, SAME)
            | (Placement::Split { dim: 0 }, Placement::Split { dim: 0 })
            | (Placement::Split { dim: 1 }, SAME) => bounds.is_none_or(|p| p == on[0]),
            (Placement::Split { dim: 2 }, Placement::Split { dim: 3 }) => {
                bounds.is_none_or(|p| p == SAME)
            }
            _ => false,
        };
        placed.then_some(on[0])
    }

    /// What its queries see.
    pub(super) fn sight(self, bounds: Option<&Shard>) -> Sight<'_> {
        Sight {
            causal: self.causal,
            bounds: bounds.map(Shard::elements::<i64>),
        }
    }
}

impl Operator for Attention {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Attention";
        let dtype = self.check(NAME, inputs)?;
        let mend =
            "cut dimension 0 of all, the groups (2 of q, 3 of k and v), or 1 of q and its bounds";
        let layout = layout(NAME, inputs, mend, |on| self.alone(on))?;
        Ok(vec![Spec::new(inputs[0].shape.clone(), dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let view = View::of(site, &inputs[0], self.sight(inputs.get(2)));
            let (q, kv) = (inputs[0].elements::<T>(), inputs[1].elements::<T>());
            let mut y = buffer(q.len());
            let mut logs = vec![T::of(0.0); q.len() / view.d.max(1)];
            let heads = view.heads().zip(view.queries_mut(&mut y));
            let heads = heads.zip(logs.chunks_mut(view.n.max(1))).collect();
            each_with(heads, || Tile::new(&view), |tile, ((head, mut y), logs)| {
                tile.attend(&view, head, [q, kv], |_, _| {}, |queries, state| {
                    let states = state.top.iter().zip(state.sums).zip(&mut logs[queries.clone()]);
                    let rows = state.rows.chunks_exact_mut(view.d.max(1));
                    for (row, ((&top, &mut sum), log)) in rows.zip(states) {
                        if sum > T::of(0.0) {
                            row.iter_mut().for_each(|y| *y /= sum);
                        }
                        *log = top + sum.logarithm();
                    }
                    put(&mut y, queries.start, state.rows);
                });
            });
            let y = Shard::new(site.key(), inputs[0].shape.clone(), y.into());
            let logs = Shard::new(site.key(), vec![logs.len()], T::data(logs));
            Ok((vec![y.clone()], Saved::shards(vec![y, logs])))
        })
    }

    fn keeps(&self) -> &[usize] {
        self.kept()
    }

    fn differentiable(&self, input: usize) -> bool {
        input < 2
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        with_real!(site, tangents[0].dtype(), T => {
            let Point { view, q, kv, y, logs } = self.point::<T>(site, saved)?;
            let [dq, dkv] = [0, 1].map(|i| tangents[i].elements::<T>());
            let mut dy = buffer(q.len());
            let heads = view.heads().zip(view.queries_mut(&mut dy));
            let heads = heads.zip(logs.chunks(view.n.max(1))).collect();
            each_with(heads, || Tile::new(&view), |tile, ((head, mut dy), logs)| {
                let [pair, change] = [kv, dkv].map(|of| Pair::of(&view, of, head));
                tile.change(&view, head, [q, dq], [&pair, &change], logs, |queries, rows, totals| {
                    let y = view.queries(y, head, queries);
                    let d = view.d.max(1);
                    let outputs = rows.chunks_exact_mut(d).zip(y.chunks_exact(d));
                    for ((row, y), &total) in outputs.zip(totals) {
                        let pairs = row.iter_mut().zip(y);
                        pairs.for_each(|(row, &y)| *row += -(total * y));
                    }
                    put(&mut dy, queries.start, rows);
                });
            });
            Ok(vec![Shard::new(site.key(), tangents[0].shape.clone(), dy.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        with_real!(site, cotangents[0].dtype(), T => {
            let Point { view, q, kv, y, logs } = self.point::<T>(site, saved)?;
            let given = cotangents[0].elements::<T>();
            let (to_q, to_kv) = transposed(&view, [q, kv], |head, queries| {
                let at = view.number(head) * view.n;
                let [given, y] = [given, y].map(|of| view.queries(of, head, queries));
                let mut along = vec![T::of(0.0); queries.len()];
                dots(&given, &y, &mut along);
                let logs = logs[at + queries.start..at + queries.end].to_vec();
                Back { given, logs, along }
            });
            let shard = |i: usize, v: Vec<T>| Some(Shard::new(site.key(), site.input_shape(i), v.into()));
            let mut answers = vec![shard(0, to_q), shard(1, to_kv)];
            answers.resize(self.inputs(), None);
            Ok(answers)
        })
    }
}

/// Cotangents of queries, and of keys with values, from what comes `back` to a block of queries of a head.
pub(super) fn transposed<T: Real>(
    view: &View,
    [q, kv]: [&[T]; 2],
    back: impl Fn(Head, &Range<usize>) -> Back<T> + Sync,
) -> (Vec<T>, Vec<T>) {
    let (mut to_q, mut to_kv) = (buffer(q.len()), buffer(kv.len()));
    let mut heads = view.heads().zip(view.queries_mut(&mut to_q));
    let mut groups = Vec::new();
    let mut of_keys = view.keys_mut(&mut to_kv).into_iter();
    for _ in 0..view.b {
        let keys: Vec<_> = of_keys.by_ref().take(view.g).collect();
        for pair in keys.into_iter().zip(of_keys.by_ref().take(view.g)) {
            let heads: Vec<_> = heads.by_ref().take(view.r).collect();
            groups.push((pair, heads));
        }
    }
    let work = |tile: &mut Tile<T>, ((mut to_k, mut to_v), heads): Group<'_, T>| {
        let mut to = Pair::zeros(view);
        for (head, to_q) in heads {
            let back = |queries: &Range<usize>| back(head, queries);
            tile.transpose(view, head, [q, kv], back, to_q, &mut to);
        }
        put(&mut to_k, 0, &to.k);
        put(&mut to_v, 0, &to.v);
    };
    each_with(groups, || Tile::new(view), work);
    (to_q, to_kv)
}

/// Where cotangents of the keys and values of a group go, and those of the queries of its heads.
type Group<'a, T> = ((MatMut<'a, T>, MatMut<'a, T>), Vec<(Head, MatMut<'a, T>)>);

/// What the derivative needs.
struct Point<'a, T> {
    view: View,
    q: &'a [T],
    kv: &'a [T],
    y: &'a [T],
    /// L of every query, head after head.
    logs: &'a [T],
}

impl Attention {
    /// What the graph and the forward pass kept.
    fn point<'a, T: Real>(self, site: &Site, saved: &'a Saved) -> Result<Point<'a, T>> {
        let (q, kv) = (saved.input(site, 0)?, saved.input(site, 1)?);
        let bounds = self.bounded.then(|| saved.input(site, 2)).transpose()?;
        let kept: &Vec<Shard> = saved.get(site)?;
        Ok(Point {
            view: View::of(site, q, self.sight(bounds)),
            q: q.elements(),
            kv: kv.elements(),
            y: kept[0].elements(),
            logs: kept[1].elements(),
        })
    }
}
