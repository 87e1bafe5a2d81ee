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
use advect_engine::{Mesh, Operator, Placement, Result, Shard, Spec};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::kernels::{self, highest, wide};
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// Queries and keys that are taken at once.
const QUERIES: usize = 128;
const KEYS: usize = 256;

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
            let view = View::of(self, site, inputs);
            let (q, kv) = (inputs[0].elements::<T>(), inputs[1].elements::<T>());
            let mut y = vec![T::of(0.0); q.len()];
            let mut logs = vec![T::of(0.0); q.len() / view.d.max(1)];
            view.heads(|head| {
                let (k, v) = (view.keys(kv, head, 0), view.keys(kv, head, 1));
                for first in (0..view.n).step_by(QUERIES) {
                    let n = QUERIES.min(view.n - first);
                    let block = Block { first, q: view.queries(q, head, first, n) };
                    let (rows, log) = view.block(&block, &k, &v);
                    view.put(&mut y, head, first, &rows);
                    for (i, log) in log.into_iter().enumerate() {
                        logs[view.row(head, first + i)] = log;
                    }
                }
            });
            let y = Shard::new(site.key(), inputs[0].shape.clone(), y.into());
            let bytes = inputs.iter().chain([&y]).map(Shard::bytes_len).sum::<usize>();
            let bytes = bytes + size_of_val(logs.as_slice());
            let kept = Kept { q: inputs[0].clone(), kv: inputs[1].clone(), y: y.clone(), logs };
            Ok((vec![y], Saved::new(kept, bytes)))
        })
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        with_real!(site, tangents[0].dtype(), T => {
            let kept: &Kept<T> = saved.get(site)?;
            let view = View::of(self, site, &[kept.q.clone(), kept.kv.clone()]);
            let (q, kv) = (kept.q.elements::<T>(), kept.kv.elements::<T>());
            let (dq, dkv) = (tangents[0].elements::<T>(), tangents[1].elements::<T>());
            let mut dy = vec![T::of(0.0); q.len()];
            view.heads(|head| {
                let [k, v, dk, dv] =
                    [(kv, 0), (kv, 1), (dkv, 0), (dkv, 1)].map(|(of, i)| view.keys(of, head, i));
                for first in (0..view.n).step_by(QUERIES) {
                    let n = QUERIES.min(view.n - first);
                    let [q, dq] = [q, dq].map(|of| view.queries(of, head, first, n));
                    let y = view.queries(kept.y.elements::<T>(), head, first, n);
                    let block = Block { first, q };
                    let mut sums = vec![T::of(0.0); n * view.d];
                    let mut change = vec![T::of(0.0); n];
                    view.key_blocks(&block, |keys| {
                        let p = view.weights(&block, &k, &keys, |i| kept.logs[view.row(head, first + i)]);
                        let mut s = vec![T::of(0.0); p.len()];
                        let scale = T::of(view.scale());
                        let part = |of: &[T]| of[keys.start * view.d..keys.end * view.d].to_vec();
                        view.times(&mut s, &dq, part(&k).as_slice(), Times::Transposed, scale);
                        view.times(&mut s, &block.q, part(&dk).as_slice(), Times::Transposed, scale);
                        s.iter_mut().zip(&p).for_each(|(s, &p)| *s *= p);
                        for (sum, row) in change.iter_mut().zip(s.chunks_exact(keys.len())) {
                            row.iter().for_each(|&s| *sum += s);
                        }
                        view.times(&mut sums, &s, &part(&v), Times::Plain, T::of(1.0));
                        view.times(&mut sums, &p, &part(&dv), Times::Plain, T::of(1.0));
                    });
                    for ((sums, y), &change) in
                        sums.chunks_exact_mut(view.d).zip(y.chunks_exact(view.d)).zip(&change)
                    {
                        sums.iter_mut().zip(y).for_each(|(sum, &y)| *sum += -(change * y));
                    }
                    view.put(&mut dy, head, first, &sums);
                }
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
            let kept: &Kept<T> = saved.get(site)?;
            let view = View::of(self, site, &[kept.q.clone(), kept.kv.clone()]);
            let (q, kv) = (kept.q.elements::<T>(), kept.kv.elements::<T>());
            let (given, y) = (cotangents[0].elements::<T>(), kept.y.elements::<T>());
            let (mut to_q, mut to_kv) = (vec![T::of(0.0); q.len()], vec![T::of(0.0); kv.len()]);
            let scale = T::of(view.scale());
            view.heads(|head| {
                let (k, v) = (view.keys(kv, head, 0), view.keys(kv, head, 1));
                let mut to_k = vec![T::of(0.0); k.len()];
                let mut to_v = vec![T::of(0.0); v.len()];
                for first in (0..view.n).step_by(QUERIES) {
                    let n = QUERIES.min(view.n - first);
                    let [q, given, y] = [q, given, y].map(|of| view.queries(of, head, first, n));
                    let along: Vec<T> =
                        given.chunks_exact(view.d).zip(y.chunks_exact(view.d)).map(|(a, b)| kernels::dot(a, b)).collect();
                    let block = Block { first, q };
                    let mut sums = vec![T::of(0.0); n * view.d];
                    view.key_blocks(&block, |keys| {
                        let p = view.weights(&block, &k, &keys, |i| kept.logs[view.row(head, first + i)]);
                        let part = keys.start * view.d..keys.end * view.d;
                        view.gather(&mut to_v[part.clone()], &p, &given, T::of(1.0));
                        let mut s = vec![T::of(0.0); p.len()];
                        view.times(&mut s, &given, &v[part.clone()], Times::Transposed, T::of(1.0));
                        through(&mut s, &p, &along);
                        view.times(&mut sums, &s, &k[part.clone()], Times::Plain, scale);
                        view.gather(&mut to_k[part], &s, &block.q, scale);
                    });
                    view.put(&mut to_q, head, first, &sums);
                }
                view.add_keys(&mut to_kv, head, 0, &to_k);
                view.add_keys(&mut to_kv, head, 1, &to_v);
            });
            let shard = |like: &Shard, v: Vec<T>| Some(Shard::new(site.key(), like.shape.clone(), v.into()));
            Ok(vec![shard(&kept.q, to_q), shard(&kept.kv, to_kv)])
        })
    }
}

/// What the derivative needs.
struct Kept<T> {
    q: Shard,
    kv: Shard,
    y: Shard,
    /// L of every query and head.
    logs: Vec<T>,
}

/// Queries of one head, contiguous, from local position `first` on.
struct Block<T> {
    first: usize,
    q: Vec<T>,
}

/// Which operand of a product is transposed.
#[derive(Clone, Copy)]
enum Times {
    Plain,
    Transposed,
}

/// One head: batch, group, head of the group.
type Head = [usize; 3];

/// Local extents, and which keys a query sees.
struct View {
    b: usize,
    n: usize,
    t: usize,
    g: usize,
    r: usize,
    d: usize,
    /// Per local query the number of keys that it sees; they come first.
    seen: Vec<usize>,
}

impl View {
    fn of(operator: &Attention, site: &Site, inputs: &[Shard]) -> Self {
        let (q, kv) = (&inputs[0].shape, &inputs[1].shape);
        let positions = site.input_indices(0).swap_remove(1);
        let seen = positions.into_iter().map(|query| match operator.causal {
            true => kv[1].min(query + 1),
            false => kv[1],
        });
        View {
            b: q[0],
            n: q[1],
            t: kv[1],
            g: q[2],
            r: q[3],
            d: q[4],
            seen: seen.collect(),
        }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.d.max(1) as f64).sqrt()
    }

    fn heads(&self, mut f: impl FnMut(Head)) {
        for b in 0..self.b {
            for g in 0..self.g {
                (0..self.r).for_each(|r| f([b, g, r]));
            }
        }
    }

    /// Index of a query of a head among all rows of q.
    fn row(&self, [b, g, r]: Head, query: usize) -> usize {
        ((b * self.n + query) * self.g + g) * self.r + r
    }

    /// `n` queries from `first` on, contiguous.
    fn queries<T: Real>(&self, of: &[T], head: Head, first: usize, n: usize) -> Vec<T> {
        let mut rows = Vec::with_capacity(n * self.d);
        for i in first..first + n {
            rows.extend_from_slice(&of[self.row(head, i) * self.d..][..self.d]);
        }
        rows
    }

    fn put<T: Real>(&self, to: &mut [T], head: Head, first: usize, rows: &[T]) {
        for (i, row) in rows.chunks_exact(self.d.max(1)).enumerate() {
            to[self.row(head, first + i) * self.d..][..self.d].copy_from_slice(row);
        }
    }

    /// Where key or value (`which`) `j` of a head begins.
    fn key(&self, [b, g, _]: Head, which: usize, j: usize) -> usize {
        (((b * self.t + j) * 2 + which) * self.g + g) * self.d
    }

    /// All keys (0) or values (1) of a head, contiguous.
    fn keys<T: Real>(&self, of: &[T], head: Head, which: usize) -> Vec<T> {
        let mut rows = Vec::with_capacity(self.t * self.d);
        for j in 0..self.t {
            rows.extend_from_slice(&of[self.key(head, which, j)..][..self.d]);
        }
        rows
    }

    fn add_keys<T: Real>(&self, to: &mut [T], head: Head, which: usize, rows: &[T]) {
        for (j, row) in rows.chunks_exact(self.d.max(1)).enumerate() {
            let to = &mut to[self.key(head, which, j)..][..self.d];
            to.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
        }
    }

    /// Calls `f` with the blocks of keys that some query of the block sees, in order.
    fn key_blocks<T>(&self, block: &Block<T>, mut f: impl FnMut(std::ops::Range<usize>)) {
        let n = block.q.len() / self.d.max(1);
        let seen = self.seen[block.first..][..n]
            .iter()
            .copied()
            .max()
            .unwrap_or(0);
        for start in (0..seen).step_by(KEYS) {
            f(start..seen.min(start + KEYS));
        }
    }

    /// Scores of a block of queries and keys, −∞ where a query does not see a key.
    fn scores<T: Real>(&self, block: &Block<T>, k: &[T], keys: &std::ops::Range<usize>) -> Vec<T> {
        let n = block.q.len() / self.d.max(1);
        let mut s = vec![T::of(0.0); n * keys.len()];
        let part = &k[keys.start * self.d..keys.end * self.d];
        self.times(
            &mut s,
            &block.q,
            part,
            Times::Transposed,
            T::of(self.scale()),
        );
        for (i, row) in s.chunks_exact_mut(keys.len()).enumerate() {
            let seen = self.seen[block.first + i].clamp(keys.start, keys.end) - keys.start;
            row[seen..].fill(T::LOWEST);
        }
        s
    }

    /// $p$ of a block of queries and keys, from `log` of its queries.
    fn weights<T: Real>(
        &self,
        block: &Block<T>,
        k: &[T],
        keys: &std::ops::Range<usize>,
        log: impl Fn(usize) -> T,
    ) -> Vec<T> {
        let mut p = self.scores(block, k, keys);
        let logs: Vec<T> = (0..p.len() / keys.len()).map(log).collect();
        weigh(&mut p, &logs);
        p
    }

    /// Outputs of a block of queries, and L of each.
    fn block<T: Real>(&self, block: &Block<T>, k: &[T], v: &[T]) -> (Vec<T>, Vec<T>) {
        let n = block.q.len() / self.d.max(1);
        let mut y = vec![T::of(0.0); n * self.d];
        let mut top = vec![T::LOWEST; n];
        let mut sums = vec![T::of(0.0); n];
        self.key_blocks(block, |keys| {
            let mut p = self.scores(block, k, &keys);
            absorb(&mut p, &mut y, &mut top, &mut sums);
            self.times(
                &mut y,
                &p,
                &v[keys.start * self.d..keys.end * self.d],
                Times::Plain,
                T::of(1.0),
            );
        });
        for (y, &sum) in y.chunks_exact_mut(self.d.max(1)).zip(&sums) {
            if sum > T::of(0.0) {
                y.iter_mut().for_each(|y| *y /= sum);
            }
        }
        let logs = top
            .iter()
            .zip(&sums)
            .map(|(&top, &sum)| top + sum.logarithm());
        (y, logs.collect())
    }

    /// `to += scale a b`, with rows of `b` of d numbers: `a b` or `a bᵀ`.
    fn times<T: Real>(&self, to: &mut [T], a: &[T], b: &[T], how: Times, scale: T) {
        let rows_of_b = b.len() / self.d.max(1);
        let b = MatRef::from_row_major_slice(b, rows_of_b, self.d);
        let b = match how {
            Times::Plain => b,
            Times::Transposed => b.transpose(),
        };
        let rows = a.len() / b.nrows().max(1);
        let a = MatRef::from_row_major_slice(a, rows, b.nrows());
        let to = MatMut::from_row_major_slice_mut(to, rows, b.ncols());
        matmul(to, Accum::Add, a, b, scale, Par::Seq);
    }

    /// `to += scale pᵀ rows`: what keys or values get from a block of queries.
    fn gather<T: Real>(&self, to: &mut [T], p: &[T], rows: &[T], scale: T) {
        let (keys, n) = (to.len() / self.d.max(1), rows.len() / self.d.max(1));
        let p = MatRef::from_row_major_slice(p, n, keys);
        let rows = MatRef::from_row_major_slice(rows, n, self.d);
        let to = MatMut::from_row_major_slice_mut(to, keys, self.d);
        matmul(to, Accum::Add, p.transpose(), rows, scale, Par::Seq);
    }
}

wide! {
    /// Scores to weights, from L of each row.
    fn weigh<T: Real>(s: &mut [T], logs: &[T]) {
        let keys = (s.len() / logs.len().max(1)).max(1);
        for (row, &log) in s.chunks_exact_mut(keys).zip(logs) {
            for s in row {
                *s = weight(*s, log);
            }
        }
    }

    /// Scores of a block of keys to weights below the highest score so far; what there was before is
    /// brought to the same height.
    fn absorb<T: Real>(s: &mut [T], y: &mut [T], top: &mut [T], sums: &mut [T]) {
        let (keys, d) = (s.len() / top.len().max(1), y.len() / top.len().max(1));
        let rows = s.chunks_exact_mut(keys.max(1)).zip(y.chunks_exact_mut(d.max(1)));
        for ((row, y), (top, sum)) in rows.zip(top.iter_mut().zip(sums)) {
            let high = highest(row, *top);
            let fade = weight(*top, high);
            for y in y {
                *y *= fade;
            }
            for s in row.iter_mut() {
                *s = weight(*s, high);
            }
            *sum = *sum * fade + kernels::sum(row);
            *top = high;
        }
    }

    /// Cotangents of weights to those of scores.
    fn through<T: Real>(s: &mut [T], p: &[T], along: &[T]) {
        let keys = (s.len() / along.len().max(1)).max(1);
        for ((s, p), &along) in s.chunks_exact_mut(keys).zip(p.chunks_exact(keys)).zip(along) {
            for (s, &p) in s.iter_mut().zip(p) {
                *s = p * (*s - along);
            }
        }
    }
}

/// $e^{s - top}$, and 0 where nothing is seen.
#[inline(always)]
fn weight<T: Real>(s: T, top: T) -> T {
    // the exponential is taken in any case, so that there is no branch
    let w = (s - top).exponential();
    if s == T::LOWEST { T::of(0.0) } else { w }
}
