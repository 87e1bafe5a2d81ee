//! Attention partials: for each query the rows $(m, \ell, o)$ over the keys that a worker holds.
//!
//! $$ s_j = \frac{q \cdot k_j}{\sqrt d}, \quad m = \max_j s_j, \quad
//!    \ell = \sum_j e^{s_j - m}, \quad o = \sum_j e^{s_j - m} v_j . $$
//!
//! A row stands for $e^m (\ell, o)$, in which the merge over workers is a sum. Its cotangent is a
//! row $(\mu, a, b)$ that stands for $e^\mu (a, b)$, so with $w_j = e^{s_j + \mu}$
//!
//! $$ \bar s_j = w_j\,(a + b \cdot v_j), \quad \bar v_j = w_j\, b, \quad
//!    \bar q = \sum_j \bar s_j k_j / \sqrt d, \quad \bar k_j = \bar s_j\, q / \sqrt d . $$
//!
//! [`FinishAttention`](super::FinishAttention) sends $\mu = -m$ of the merged row, hence
//! $w_j \le 1$. Scores are computed again on the way back: nothing of size queries × keys is kept.
//! Sources: Milakov and Gimelshein (2018), *Online normalizer calculation for softmax*; Dao
//! (2023), *FlashAttention-2*, section 3.1.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// Rows $(m, \ell, o)$: q `[b, n, d]`, k `[b, t, d]`, v `[b, t, e]` to `[b, n, 2 + e]`, scaled.
///
/// Cut in dimension 0 (batch and heads) all three; or q in dimension 1; or k and v in dimension 1,
/// where the rows are `Partial(LogSumExp)`. `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct AttentionPartial {
    /// Whether query `i` sees keys up to `i` only, by global index.
    pub causal: bool,
}

impl Operator for AttentionPartial {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "AttentionPartial";
        let dtype = reals(NAME, inputs, &[3, 3, 3])?;
        let shapes: Vec<&[usize]> = inputs.iter().map(|s| s.shape.as_slice()).collect();
        let (&[b, n, d], &[bk, t, dk], &[bv, tv, e]) = (shapes[0], shapes[1], shapes[2]) else {
            return refuse(NAME, "q, k and v are [batch, length, width]");
        };
        if (bk, bv, tv, dk) != (b, b, t, d) {
            return refuse(
                NAME,
                format!("q {n} x {d}, k {t} x {dk} and v {tv} x {e} do not match"),
            );
        }
        let mend = "cut dimension 0 of all, or dimension 1 of q, or dimension 1 of k and v";
        let layout = layout(NAME, inputs, mend, |on| {
            let cut = |p: Placement| match p {
                Placement::Same => Some(None),
                Placement::Split { dim } if dim < 2 => Some(Some(dim)),
                _ => None,
            };
            match (cut(on[0])?, cut(on[1])?, cut(on[2])?) {
                (None, None, None) => Some(Placement::Same),
                (Some(0), Some(0), Some(0)) | (Some(1), None, None) => Some(on[0]),
                (None, Some(1), Some(1)) => Some(Placement::Partial(Monoid::LogSumExp)),
                _ => None,
            }
        })?;
        let mut rows = Spec::new([b, n, 2 + e], dtype, layout);
        rows.rows = Rows::Scaled;
        Ok(vec![rows])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let rows = with_real!(site, inputs[0].dtype(), T => {
            let sizes = Sizes::of(self, site, &[&inputs[0], &inputs[1], &inputs[2]]);
            let mut rows: Vec<T> = Vec::with_capacity(sizes.rows() * (2 + sizes.e));
            let (q, k, v) = views::<T>(&[&inputs[0], &inputs[1], &inputs[2]]);
            sizes.for_queries(|query, keys| {
                let scores: Vec<(usize, T)> =
                    keys.map(|j| (j, sizes.score(q, k, query, j))).collect();
                let m = scores.iter().fold(T::LOWEST, |m, &(_, s)| if s > m { s } else { m });
                let start = rows.len();
                rows.extend([m, T::of(0.0)]);
                rows.resize(start + 2 + sizes.e, T::of(0.0));
                for (j, s) in scores {
                    let w = (s - m).exponential();
                    rows[start + 1] += w;
                    add(&mut rows[start + 2..], w, &v[j * sizes.e..][..sizes.e]);
                }
            });
            Ok(Shard::new(site.key(), site.output_shape(0), rows.into()))
        })?;
        Ok((vec![rows], Saved::nothing()))
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1, 2]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let kept = self.kept(site, saved)?;
        with_real!(site, kept[0].dtype(), T => {
            let sizes = Sizes::of(self, site, &kept);
            let (q, k, v) = views::<T>(&kept);
            let (dq, dk, dv) = views::<T>(&[&tangents[0], &tangents[1], &tangents[2]]);
            let mut rows: Vec<T> = Vec::with_capacity(sizes.rows() * (2 + sizes.e));
            sizes.for_queries(|query, keys| {
                let scores: Vec<(usize, T)> =
                    keys.map(|j| (j, sizes.score(q, k, query, j))).collect();
                let m = scores.iter().fold(T::LOWEST, |m, &(_, s)| if s > m { s } else { m });
                let start = rows.len();
                rows.extend([m, T::of(0.0)]);
                rows.resize(start + 2 + sizes.e, T::of(0.0));
                for (j, s) in scores {
                    let w = (s - m).exponential();
                    let ds = sizes.score(dq, k, query, j) + sizes.score(q, dk, query, j);
                    rows[start + 1] += w * ds;
                    add(&mut rows[start + 2..], w * ds, &v[j * sizes.e..][..sizes.e]);
                    add(&mut rows[start + 2..], w, &dv[j * sizes.e..][..sizes.e]);
                }
            });
            Ok(vec![Shard::new(site.key(), site.output_shape(0), rows.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let kept = self.kept(site, saved)?;
        with_real!(site, kept[0].dtype(), T => {
            let sizes = Sizes::of(self, site, &kept);
            let (q, k, v) = views::<T>(&kept);
            let given = cotangents[0].elements::<T>();
            let zeros = |i: usize| vec![T::of(0.0); kept[i].len()];
            let (mut to_q, mut to_k, mut to_v) = (zeros(0), zeros(1), zeros(2));
            let (d, e) = (sizes.d, sizes.e);
            let scale = T::of(sizes.scale());
            sizes.for_queries(|query, keys| {
                let row = &given[query * (2 + e)..][..2 + e];
                if row[0] == T::LOWEST {
                    return;
                }
                for j in keys {
                    let w = (sizes.score(q, k, query, j) + row[0]).exponential();
                    let by_value = dot(&row[2..], &v[j * e..][..e]);
                    let s = w * (row[1] + by_value) * scale;
                    add(&mut to_v[j * e..][..e], w, &row[2..]);
                    add(&mut to_q[query * d..][..d], s, &k[j * d..][..d]);
                    add(&mut to_k[j * d..][..d], s, &q[query * d..][..d]);
                }
            });
            let all = [to_q, to_k, to_v].into_iter().zip(kept).zip(wanted);
            Ok(all
                .map(|((to, of), wanted)| {
                    wanted.then(|| Shard::new(site.key(), of.shape.clone(), to.into()))
                })
                .collect())
        })
    }
}

impl AttentionPartial {
    /// q, k and v.
    fn kept<'a>(&self, site: &Site, saved: &'a Saved) -> Result<[&'a Shard; 3]> {
        let input = |i| saved.input(site, i);
        Ok([input(0)?, input(1)?, input(2)?])
    }
}

fn views<'a, T: Real>(inputs: &[&'a Shard; 3]) -> (&'a [T], &'a [T], &'a [T]) {
    (
        inputs[0].elements(),
        inputs[1].elements(),
        inputs[2].elements(),
    )
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter()
        .zip(b)
        .fold(T::of(0.0), |sum, (&x, &y)| sum + x * y)
}

fn add<T: Real>(to: &mut [T], scale: T, of: &[T]) {
    for (x, &y) in to.iter_mut().zip(of) {
        *x += scale * y;
    }
}

/// Local extents, and which keys a query sees.
struct Sizes {
    b: usize,
    n: usize,
    t: usize,
    d: usize,
    e: usize,
    /// Per local query the number of local keys that it sees; they come first.
    seen: Vec<usize>,
}

impl Sizes {
    fn of(operator: &AttentionPartial, site: &Site, inputs: &[&Shard; 3]) -> Self {
        let (q, v) = (&inputs[0].shape, &inputs[2].shape);
        let queries = site.input_indices(0).swap_remove(1);
        let keys = site.input_indices(1).swap_remove(1);
        let count = |query: usize| match operator.causal {
            true => keys.partition_point(|&key| key <= query),
            false => keys.len(),
        };
        let seen = queries.into_iter().map(count).collect();
        Sizes {
            b: q[0],
            n: q[1],
            t: v[1],
            d: q[2],
            e: v[2],
            seen,
        }
    }

    fn rows(&self) -> usize {
        self.b * self.n
    }

    fn scale(&self) -> f64 {
        1.0 / (self.d.max(1) as f64).sqrt()
    }

    /// Calls `f(query, keys)` with positions of rows in q and in k and v, in order.
    fn for_queries(&self, mut f: impl FnMut(usize, std::ops::Range<usize>)) {
        for batch in 0..self.b {
            for query in 0..self.n {
                let first = batch * self.t;
                f(batch * self.n + query, first..first + self.seen[query]);
            }
        }
    }

    fn score<T: Real>(&self, q: &[T], k: &[T], query: usize, key: usize) -> T {
        dot(&q[query * self.d..][..self.d], &k[key * self.d..][..self.d]) * T::of(self.scale())
    }
}
