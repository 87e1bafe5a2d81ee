//! Attention of one head, by blocks of queries and keys.

use std::ops::Range;

use faer::{Accum, MatMut, MatRef};

use super::view::{Head, KEYS, QUERIES, View};
use crate::kernels::{dot, highest, weigh, wide};
use crate::network::real::Real;

/// Memory for a block of queries beside a block of keys; what it holds means nothing between uses.
pub(super) struct Tile<T> {
    /// Scores, and then weights.
    scores: Vec<T>,
    /// Tangents or cotangents of weights, and then of scores.
    along: Vec<T>,
    /// A row of d numbers for each query.
    rows: Vec<T>,
    /// The head at hand.
    pair: Pair<T>,
}

/// Keys and values of a head, contiguous.
pub(super) struct Pair<T> {
    pub(super) k: Vec<T>,
    pub(super) v: Vec<T>,
}

impl<T: Real> Pair<T> {
    pub(super) fn of(view: &View, kv: &[T], head: Head) -> Self {
        let mut pair = Pair::zeros(view);
        pair.take(view, kv, head);
        pair
    }

    /// Becomes that of another head.
    fn take(&mut self, view: &View, kv: &[T], head: Head) {
        view.keys(kv, head, 0, &mut self.k);
        view.keys(kv, head, 1, &mut self.v);
    }

    /// Zeros for the keys and values of one head.
    pub(super) fn zeros(view: &View) -> Self {
        let [k, v] = [(); 2].map(|()| vec![T::of(0.0); view.t * view.d]);
        Pair { k, v }
    }
}

/// Rows of `d` numbers as a matrix.
fn matrix<T: Real>(rows: &[T], d: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice(rows, rows.len() / d.max(1), d)
}

/// Writes rows from `first` on.
pub(super) fn put<T: Real>(to: &mut MatMut<'_, T>, first: usize, rows: &[T]) {
    for (i, row) in rows.chunks_exact(to.ncols().max(1)).enumerate() {
        if let Some(to) = to.as_mut().row_mut(first + i).try_as_row_major_mut() {
            to.as_slice_mut().copy_from_slice(row);
        }
    }
}

fn matrix_mut<T: Real>(rows: &mut [T], d: usize) -> MatMut<'_, T> {
    let n = rows.len() / d.max(1);
    MatMut::from_row_major_slice_mut(rows, n, d)
}

/// What queries have seen: rows o, highest scores m and sums ℓ of weights below these.
pub(super) struct State<'a, T> {
    pub(super) rows: &'a mut [T],
    pub(super) top: &'a mut [T],
    pub(super) sums: &'a mut [T],
}

/// What comes back to queries: cotangents of o as multiples of weights $p = e^{s - L}$, L, and what is taken
/// from each.
pub(super) struct Back<T> {
    pub(super) given: Vec<T>,
    pub(super) logs: Vec<T>,
    pub(super) along: Vec<T>,
}

/// `to = scale a b` or `to += scale a b` over rows of numbers, as many in each as `to` has columns.
fn times<T: Real>(
    (to, columns): (&mut [T], usize),
    how: Accum,
    [a, b]: [MatRef<'_, T>; 2],
    scale: T,
) {
    T::multiply(matrix_mut(to, columns), how, a, b, scale);
}

impl<T: Real> Tile<T> {
    pub(super) fn new(view: &View) -> Self {
        let n = QUERIES.min(view.n);
        let scores = n * KEYS.min(view.t);
        let zeros = |len| vec![T::of(0.0); len];
        Tile {
            scores: zeros(scores),
            along: zeros(scores),
            rows: zeros(n * view.d),
            pair: Pair::zeros(view),
        }
    }

    /// What the queries of a head see, block by block: `begin` says what they have seen before, and `end`
    /// takes what they have then.
    pub(super) fn attend(
        &mut self,
        view: &View,
        head: Head,
        [q, kv]: [&[T]; 2],
        begin: impl Fn(&Range<usize>, &mut State<'_, T>),
        mut end: impl FnMut(&Range<usize>, State<'_, T>),
    ) {
        let d = view.d;
        self.pair.take(view, kv, head);
        let pair = &self.pair;
        let scale = T::of(view.scale());
        for queries in view.query_blocks() {
            let q = view.queries(q, head, &queries);
            let (seen, n) = (view.seen(head, &queries), queries.len());
            let (mut top, mut sums) = ([T::LOWEST; QUERIES], [T::of(0.0); QUERIES]);
            let mut state = State {
                rows: &mut self.rows[..n * d],
                top: &mut top[..n],
                sums: &mut sums[..n],
            };
            state.rows.fill(T::of(0.0));
            begin(&queries, &mut state);
            for keys in view.key_blocks(head, &queries) {
                let len = keys.len();
                let s = &mut self.scores[..n * len];
                let part = keys.start * d..keys.end * d;
                let k = matrix(&pair.k[part.clone()], d).transpose();
                times((s, len), Accum::Replace, [matrix(&q, d), k], scale);
                absorb(s, seen, keys.start, state.rows, state.top, state.sums);
                let with = [matrix(s, len), matrix(&pair.v[part], d)];
                times((state.rows, d), Accum::Add, with, T::of(1.0));
            }
            end(&queries, state);
        }
    }

    /// Along a change of queries, keys and values, with weights $p = e^{s - L}$: `end` takes
    /// $\sum \dot s p\, v + p\, \dot v$ and $\sum \dot s p$ of each query, block by block.
    pub(super) fn change(
        &mut self,
        view: &View,
        head: Head,
        [q, dq]: [&[T]; 2],
        [pair, change]: [&Pair<T>; 2],
        logs: &[T],
        mut end: impl FnMut(&Range<usize>, &mut [T], &[T]),
    ) {
        let d = view.d;
        let (scale, one) = (T::of(view.scale()), T::of(1.0));
        for queries in view.query_blocks() {
            let (seen, n) = (view.seen(head, &queries), queries.len());
            let [q, dq] = [q, dq].map(|of| view.queries(of, head, &queries));
            let rows = &mut self.rows[..n * d];
            rows.fill(T::of(0.0));
            let mut totals = [T::of(0.0); QUERIES];
            for keys in view.key_blocks(head, &queries) {
                let len = keys.len();
                let (s, ds) = (&mut self.scores[..n * len], &mut self.along[..n * len]);
                let part = keys.start * d..keys.end * d;
                let of = |rows| matrix::<T>(rows, d);
                let (k, dk) = (of(&pair.k[part.clone()]), of(&change.k[part.clone()]));
                times((s, len), Accum::Replace, [of(&q), k.transpose()], scale);
                times((ds, len), Accum::Replace, [of(&dq), k.transpose()], scale);
                times((ds, len), Accum::Add, [of(&q), dk.transpose()], scale);
                let nothing = [T::of(0.0); QUERIES];
                let logs = &logs[queries.clone()];
                through(s, ds, seen, keys.start, logs, &nothing[..n]);
                for (total, row) in totals.iter_mut().zip(ds.chunks_exact(len)) {
                    row.iter().for_each(|&ds| *total += ds);
                }
                let (v, dv) = (of(&pair.v[part.clone()]), of(&change.v[part]));
                times((rows, d), Accum::Add, [matrix(ds, len), v], one);
                times((rows, d), Accum::Add, [matrix(s, len), dv], one);
            }
            end(&queries, rows, &totals[..n]);
        }
    }

    /// Cotangents of the queries of a head into `to_q`, and what its keys and values gather into `to`:
    /// `back` says what comes to a block of queries.
    pub(super) fn transpose(
        &mut self,
        view: &View,
        head: Head,
        [q, kv]: [&[T]; 2],
        back: impl Fn(&Range<usize>) -> Back<T>,
        mut to_q: MatMut<'_, T>,
        to: &mut Pair<T>,
    ) {
        let d = view.d;
        self.pair.take(view, kv, head);
        let pair = &self.pair;
        let (scale, one) = (T::of(view.scale()), T::of(1.0));
        for queries in view.query_blocks() {
            let (seen, n) = (view.seen(head, &queries), queries.len());
            let q = view.queries(q, head, &queries);
            let Back { given, logs, along } = back(&queries);
            let rows = &mut self.rows[..n * d];
            rows.fill(T::of(0.0));
            for keys in view.key_blocks(head, &queries) {
                let len = keys.len();
                let (s, ds) = (&mut self.scores[..n * len], &mut self.along[..n * len]);
                let part = keys.start * d..keys.end * d;
                let of = |rows| matrix::<T>(rows, d);
                let (k, v) = (of(&pair.k[part.clone()]), of(&pair.v[part.clone()]));
                times((s, len), Accum::Replace, [of(&q), k.transpose()], scale);
                times((ds, len), Accum::Replace, [of(&given), v.transpose()], one);
                through(s, ds, seen, keys.start, &logs, &along);
                let (s, ds) = (matrix(s, len), matrix(ds, len));
                let to_v = (&mut to.v[part.clone()], d);
                times(to_v, Accum::Add, [s.transpose(), of(&given)], one);
                times((rows, d), Accum::Add, [ds, k], scale);
                let to_k = (&mut to.k[part], d);
                times(to_k, Accum::Add, [ds.transpose(), of(&q)], scale);
            }
            put(&mut to_q, queries.start, rows);
        }
    }
}

/// Keys from `start` on that a query sees, of a row of `len`.
#[inline(always)]
fn here(seen: &Range<usize>, start: usize, len: usize) -> Range<usize> {
    let [first, end] = [seen.start, seen.end].map(|at| at.saturating_sub(start).min(len));
    first..end
}

/// What scores are measured from: `high`, and 0 where nothing is seen.
#[inline(always)]
fn base<T: Real>(high: T) -> T {
    if high == T::LOWEST { T::of(0.0) } else { high }
}

wide! {
    /// Products of rows.
    pub(super) fn dots<T: Real>(a: &[T], b: &[T], to: &mut [T]) {
        let d = (a.len() / to.len().max(1)).max(1);
        for ((a, b), to) in a.chunks_exact(d).zip(b.chunks_exact(d)).zip(to) {
            *to = dot(a, b);
        }
    }

    /// Scores of a block of keys to weights below the highest score so far; what there was before is
    /// brought to the same height.
    fn absorb<T: Real>(
        s: &mut [T], seen: &[Range<usize>], start: usize, y: &mut [T], top: &mut [T], sums: &mut [T],
    ) {
        let (keys, d) = ((s.len() / seen.len().max(1)).max(1), (y.len() / seen.len().max(1)).max(1));
        let rows = s.chunks_exact_mut(keys).zip(seen).zip(y.chunks_exact_mut(d));
        for (((row, seen), y), (top, sum)) in rows.zip(top.iter_mut().zip(sums)) {
            let seen = here(seen, start, keys);
            row[..seen.start].fill(T::of(0.0));
            row[seen.end..].fill(T::of(0.0));
            let row = &mut row[seen];
            let high = highest(row, *top);
            let base = base(high);
            let fade = (*top - base).exponential();
            for y in y {
                *y *= fade;
            }
            *sum = *sum * fade + weigh(row, base);
            *top = high;
        }
    }

    /// Scores to weights p, from L of each row, and what is in `d` to $p (d - a)$, from a of each row.
    fn through<T: Real>(
        s: &mut [T], d: &mut [T], seen: &[Range<usize>], start: usize, logs: &[T], along: &[T],
    ) {
        let keys = (s.len() / seen.len().max(1)).max(1);
        let rows = s.chunks_exact_mut(keys).zip(d.chunks_exact_mut(keys)).zip(seen);
        for (((s, d), seen), (&log, &along)) in rows.zip(logs.iter().zip(along)) {
            let seen = here(seen, start, keys);
            let base = base(log);
            for (s, d) in s[seen.clone()].iter_mut().zip(&mut d[seen.clone()]) {
                let p = (*s - base).exponential();
                *s = p;
                *d = p * (*d - along);
            }
            for row in [s, d] {
                row[..seen.start].fill(T::of(0.0));
                row[seen.end..].fill(T::of(0.0));
            }
        }
    }
}
