//! Where the heads of attention lie in tensors, and which keys a query sees.

use std::ops::Range;

use advect_engine::Shard;
use advect_engine::graph::Site;
use faer::MatMut;

use crate::network::real::Real;

/// Queries and keys that are taken at once: scores, their cotangents and what they are made of fit into
/// a second-level cache of 1 MiB.
pub(super) const QUERIES: usize = 128;
pub(super) const KEYS: usize = 384;

/// One head: batch, group, head of the group.
pub(super) type Head = [usize; 3];

/// Which keys queries see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight<'a> {
    /// Whether those up to their own position only.
    pub(super) causal: bool,
    /// First and one after the last position, by sample and query.
    pub(super) bounds: Option<&'a [i64]>,
}

/// Local extents, and which keys a query sees.
pub(super) struct View {
    pub(super) b: usize,
    pub(super) n: usize,
    pub(super) t: usize,
    pub(super) g: usize,
    pub(super) r: usize,
    pub(super) d: usize,
    /// The keys that each local query sees, for each sample or for all.
    seen: Vec<Range<usize>>,
}

impl View {
    /// Of queries `[b, n, g, r, d]` at ascending positions and keys at others.
    pub(super) fn new(shape: &[usize], [queries, keys]: [&[usize]; 2], sight: Sight<'_>) -> Self {
        let [b, g, r, d] = [0, 2, 3, 4].map(|dim| shape[dim]);
        let n = queries.len();
        let before = |position: usize| keys.partition_point(|&key| key < position);
        let last = |query: usize| match sight.causal {
            true => before(query + 1),
            false => keys.len(),
        };
        let position = |p: i64| usize::try_from(p).unwrap_or(0);
        let seen = match sight.bounds {
            None => queries.iter().map(|&query| 0..last(query)).collect(),
            Some(bounds) => {
                let samples = bounds.chunks_exact((2 * n).max(1)).take(b);
                let pairs = samples.flat_map(|of| queries.iter().zip(of.chunks_exact(2)));
                let range = |(&query, pair): (&usize, &[i64])| {
                    let end = last(query).min(before(position(pair[1])));
                    before(position(pair[0])).min(end)..end
                };
                pairs.map(range).collect()
            }
        };
        View {
            b,
            n,
            t: keys.len(),
            g,
            r,
            d,
            seen,
        }
    }

    /// Of all queries and keys of a worker.
    pub(super) fn of(site: &Site, q: &Shard, sight: Sight<'_>) -> Self {
        let [queries, keys] = [0, 1].map(|i| site.input_indices(i).swap_remove(1));
        View::new(&q.shape, [&queries, &keys], sight)
    }

    /// The keys that some queries of a head see.
    pub(super) fn seen(&self, [batch, ..]: Head, queries: &Range<usize>) -> &[Range<usize>] {
        let first = match self.seen.len() > self.n {
            true => batch * self.n,
            false => 0,
        };
        &self.seen[first + queries.start..first + queries.end]
    }

    pub(super) fn scale(&self) -> f64 {
        1.0 / (self.d.max(1) as f64).sqrt()
    }

    /// All heads of this worker: batch by batch, group by group.
    pub(super) fn heads(&self) -> impl Iterator<Item = Head> + use<> {
        let (b, g, r) = (self.b, self.g, self.r);
        (0..b).flat_map(move |b| (0..g).flat_map(move |g| (0..r).map(move |r| [b, g, r])))
    }

    /// Place of a head among [`View::heads`].
    pub(super) fn number(&self, [b, g, r]: Head) -> usize {
        (b * self.g + g) * self.r + r
    }

    /// The queries that are taken at once.
    pub(super) fn query_blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.n;
        (0..n)
            .step_by(QUERIES)
            .map(move |first| first..n.min(first + QUERIES))
    }

    /// The blocks of keys that some of the queries see, in order.
    pub(super) fn key_blocks(
        &self,
        head: Head,
        queries: &Range<usize>,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let seen = self.seen(head, queries).iter().filter(|s| !s.is_empty());
        let (first, end) = seen.fold((self.t, 0), |(first, end), seen| {
            (first.min(seen.start), end.max(seen.end))
        });
        let starts = (first..end.max(first)).step_by(KEYS);
        starts.map(move |start| start..end.min(start + KEYS))
    }

    /// Pairs of queries and keys that the blocks of a head hold: its work.
    pub(super) fn pairs(&self, head: Head) -> usize {
        let blocks = self.query_blocks().flat_map(|queries| {
            let keys = self.key_blocks(head, &queries);
            keys.map(move |keys| queries.len() * keys.len())
        });
        blocks.sum()
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
        self.columns_mut(of, self.n, self.g * self.r, self.d)
    }

    /// Rows (m, ℓ, o) of every head.
    pub(super) fn rows_mut<'a, T: Real>(&self, of: &'a mut [T]) -> Vec<MatMut<'a, T>> {
        self.columns_mut(of, self.n, self.g * self.r, 2 + self.d)
    }

    /// Row (m, ℓ, o) of a query of a head.
    pub(super) fn row<'a, T>(&self, of: &'a [T], [b, g, r]: Head, query: usize) -> &'a [T] {
        let row = ((b * self.n + query) * self.g + g) * self.r + r;
        &of[row * (2 + self.d)..][..2 + self.d]
    }

    /// Keys of all groups, then values of all groups, batch by batch, in a tensor like theirs.
    pub(super) fn keys_mut<'a, T: Real>(&self, of: &'a mut [T]) -> Vec<MatMut<'a, T>> {
        self.columns_mut(of, self.t, 2 * self.g, self.d)
    }

    fn columns_mut<'a, T: Real>(
        &self,
        of: &'a mut [T],
        rows: usize,
        blocks: usize,
        columns: usize,
    ) -> Vec<MatMut<'a, T>> {
        let width = blocks * columns;
        let mut all = Vec::with_capacity(self.b * blocks);
        for batch in of.chunks_exact_mut((rows * width).max(1)) {
            let mut rest = MatMut::from_row_major_slice_mut(batch, rows, width);
            for _ in 0..blocks {
                let (block, more) = rest.split_at_col_mut(columns);
                all.push(block);
                rest = more;
            }
        }
        all
    }
}
