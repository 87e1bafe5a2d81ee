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

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Operator, Placement, Result, Shard, Spec};

use super::tile::{Pair, Tile, put};
use super::view::View;
use crate::kernels::each_with;
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// q `[b, n, g, r, d]` (g groups of r heads) and keys with values `[b, t, 2, g, d]` to
/// `[b, n, g, r, d]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// Whether query `i` sees keys up to `i` only, by global index.
    pub causal: bool,
}

impl Operator for Attention {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Attention";
        let dtype = reals(NAME, inputs, &[5, 5])?;
        let (q, kv) = (&inputs[0], &inputs[1]);
        let (&[b, _, g, _, d], &[bk, _, 2, gk, dk]) = (q.shape.as_slice(), kv.shape.as_slice())
        else {
            return refuse(
                NAME,
                "q is [b, n, g, r, d], keys with values are [b, t, 2, g, d]",
            );
        };
        if (b, g, d) != (bk, gk, dk) {
            return refuse(NAME, format!("{q} and {kv} do not match"));
        }
        let mend = "cut dimension 0 of both, the groups (2 of q, 3 of k and v), or 1 of q alone";
        let layout = layout(NAME, inputs, mend, |on| match (on[0], on[1]) {
            (Placement::Same, Placement::Same)
            | (Placement::Split { dim: 0 }, Placement::Split { dim: 0 })
            | (Placement::Split { dim: 2 }, Placement::Split { dim: 3 })
            | (Placement::Split { dim: 1 }, Placement::Same) => Some(on[0]),
            _ => None,
        })?;
        Ok(vec![Spec::new(q.shape.clone(), dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let view = View::of(self, site, &inputs[0], &inputs[1]);
            let (q, kv) = (inputs[0].elements::<T>(), inputs[1].elements::<T>());
            let mut y = buffer(q.len());
            let mut logs = vec![T::of(0.0); q.len() / view.d.max(1)];
            let heads = view.heads().zip(view.queries_mut(&mut y));
            let heads = heads.zip(logs.chunks_mut(view.n.max(1))).collect();
            each_with(heads, || Tile::new(&view), |tile, ((head, y), logs)| {
                tile.attend(&view, head, [q, kv], y, logs);
            });
            let y = Shard::new(site.key(), inputs[0].shape.clone(), y.into());
            let logs = Shard::new(site.key(), vec![logs.len()], T::data(logs));
            Ok((vec![y.clone()], Saved::shards(vec![y, logs])))
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        with_real!(site, tangents[0].dtype(), T => {
            let Point { view, q, kv, y, logs } = self.point::<T>(site, saved)?;
            let [dq, dkv] = [0, 1].map(|i| tangents[i].elements::<T>());
            let mut dy = buffer(q.len());
            let heads = view.heads().zip(view.queries_mut(&mut dy));
            let heads = heads.zip(logs.chunks(view.n.max(1))).collect();
            each_with(heads, || Tile::new(&view), |tile, ((head, dy), logs)| {
                let [pair, change] = [kv, dkv].map(|of| Pair::of(&view, of, head));
                tile.change(&view, head, [q, dq, y], [&pair, &change], logs, dy);
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
            let (mut to_q, mut to_kv) = (buffer(q.len()), buffer(kv.len()));
            let heads = view.heads().zip(view.queries_mut(&mut to_q));
            let mut heads = heads.zip(logs.chunks(view.n.max(1)));
            let mut groups = Vec::new();
            let mut of_keys = view.keys_mut(&mut to_kv).into_iter();
            for _ in 0..view.b {
                let keys: Vec<_> = of_keys.by_ref().take(view.g).collect();
                for pair in keys.into_iter().zip(of_keys.by_ref().take(view.g)) {
                    let heads: Vec<_> = heads.by_ref().take(view.r).collect();
                    groups.push((pair, heads));
                }
            }
            each_with(groups, || Tile::new(&view), |tile, ((mut to_k, mut to_v), heads)| {
                let mut to = Pair::zeros(&view);
                for ((head, to_q), logs) in heads {
                    tile.transpose(&view, head, [q, kv, given, y], logs, to_q, &mut to);
                }
                put(&mut to_k, 0, &to.k);
                put(&mut to_v, 0, &to.v);
            });
            let shard = |i: usize, v: Vec<T>| Some(Shard::new(site.key(), site.input_shape(i), v.into()));
            Ok(vec![shard(0, to_q), shard(1, to_kv)])
        })
    }
}

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
    fn point<'a, T: Real>(&self, site: &Site, saved: &'a Saved) -> Result<Point<'a, T>> {
        let (q, kv) = (saved.input(site, 0)?, saved.input(site, 1)?);
        let kept: &Vec<Shard> = saved.get(site)?;
        Ok(Point {
            view: View::of(self, site, q, kv),
            q: q.elements(),
            kv: kv.elements(),
            y: kept[0].elements(),
            logs: kept[1].elements(),
        })
    }
}
