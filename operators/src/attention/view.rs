//! Where the heads of attention lie in tensors, and which keys a query sees.

use std::ops::Range;

use advect_engine::Shard;
use advect_engine::graph::Site;
use faer::MatMut;

use super::Attention;
use crate::network::real::Real;

/// Queries and keys that are taken at once: scores, their cotangents and what they are made of fit into
/// a second-level cache of 1 MiB.
pub(super) const QUERIES: usize = 128;
pub(super) const KEYS: usize = 384;

/// One head: batch, group, head of the group.
pub(super) type Head = [usize; 3];

/// Local extents, and which keys a query sees.
pub(super) struct View {
    pub(super) b: usize,
    pub(super) n: usize,
    pub(super) t: usize,
    pub(super) g: usize,
    pub(super) r: usize,
    pub(super) d: usize,
    /// Per local query the number of keys that it sees; they come first.
    pub(super) seen: Vec<usize>,
}

impl View {
    pub(super) fn of(operator: &Attention, site: &Site, q: &Shard, kv: &Shard) -> Self {
        let (q, kv) = (&q.shape, &kv.shape);
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

    pub(super) fn scale(&self) -> f64 {
        1.0 / (self.d.max(1) as f64).sqrt()
    }

    /// All heads of this worker: batch by batch, group by group.
    pub(super) fn heads(&self) -> impl Iterator<Item = Head> + use<> {
        let (b, g, r) = (self.b, self.g, self.r);
        (0..b).flat_map(move |b| (0..g).flat_map(move |g| (0..r).map(move |r| [b, g, r])))
    }

    /// The queries that are taken at once.
    pub(super) fn query_blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.n;
        (0..n)
            .step_by(QUERIES)
            .map(move |first| first..n.min(first + QUERIES))
    }

    /// The blocks of keys that some of the queries see, in order.
    pub(super) fn key_blocks(&self, queries: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let seen = self.seen[queries.clone()]
            .iter()
            .copied()
            .max()
            .unwrap_or(0);
        (0..seen)
            .step_by(KEYS)
            .map(move |start| start..seen.min(start + KEYS))
    }

    /// Queries of a head, contiguous.
    pub(super) fn queries<T: Real>(&self, of: &[T], head: Head, queries: &Range<usize>) -> Vec<T> {
        let [b, g, r] = head;
        let mut rows = Vec::with_capacity(queries.len() * self.d);
        for i in queries.clone() {
            let row = ((b * self.n + i) * self.g + g) * self.r + r;
            rows.extend_from_slice(&of[row * self.d..][..self.d]);
        }
        rows
    }

    /// All keys (0) or values (1) of a head, contiguous.
    pub(super) fn keys<T: Real>(&self, of: &[T], [b, g, _]: Head, which: usize, to: &mut [T]) {
        for (j, to) in to.chunks_exact_mut(self.d.max(1)).enumerate() {
            let row = ((b * self.t + j) * 2 + which) * self.g + g;
            to.copy_from_slice(&of[row * self.d..][..self.d]);
        }
    }

    /// Rows of every head in a tensor like the queries, in the order of [`View::heads`].
    pub(super) fn queries_mut<'a, T: Real>(&self, of: &'a mut [T]) -> Vec<MatMut<'a, T>> {
        self.columns_mut(of, self.n, self.g * self.r)
    }

    /// Keys of all groups, then values of all groups, batch by batch, in a tensor like theirs.
    pub(super) fn keys_mut<'a, T: Real>(&self, of: &'a mut [T]) -> Vec<MatMut<'a, T>> {
        self.columns_mut(of, self.t, 2 * self.g)
    }

    fn columns_mut<'a, T: Real>(
        &self,
        of: &'a mut [T],
        rows: usize,
        blocks: usize,
    ) -> Vec<MatMut<'a, T>> {
        let width = blocks * self.d;
        let mut all = Vec::with_capacity(self.b * blocks);
        for batch in of.chunks_exact_mut((rows * width).max(1)) {
            let mut rest = MatMut::from_row_major_slice_mut(batch, rows, width);
            for _ in 0..blocks {
                let (columns, more) = rest.split_at_col_mut(self.d);
                all.push(columns);
                rest = more;
            }
        }
        all
    }
}
