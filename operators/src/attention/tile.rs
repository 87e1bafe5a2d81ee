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

    /// Outputs of a head into `y`, and L of its queries into `logs`.
    pub(super) fn attend(
        &mut self,
        view: &View,
        head: Head,
        [q, kv]: [&[T]; 2],
        mut y: MatMut<'_, T>,
        logs: &mut [T],
    ) {
        let d = view.d;
        self.pair.take(view, kv, head);
        let pair = &self.pair;
        for queries in view.query_blocks() {
            let q = view.queries(q, head, &queries);
            let (seen, n) = (&view.seen[queries.clone()], queries.len());
            let rows = &mut self.rows[..n * d];
            rows.fill(T::of(0.0));
            let (mut top, mut sums) = ([T::LOWEST; QUERIES], [T::of(0.0); QUERIES]);
            let (top, sums) = (&mut top[..n], &mut sums[..n]);
            for keys in view.key_blocks(&queries) {
                let s = &mut self.scores[..n * keys.len()];
                let part = keys.start * d..keys.end * d;
                let k = matrix(&pair.k[part.clone()], d);
                let scale = T::of(view.scale());
                let to = matrix_mut(s, keys.len());
                T::multiply(to, Accum::Replace, matrix(&q, d), k.transpose(), scale);
                absorb(s, seen, keys.start, rows, top, sums);
                let (s, v) = (matrix(s, keys.len()), matrix(&pair.v[part], d));
                T::multiply(matrix_mut(rows, d), Accum::Add, s, v, T::of(1.0));
            }
            let states = top.iter().zip(sums).zip(&mut logs[queries.clone()]);
            for (row, ((&top, &mut sum), log)) in rows.chunks_exact_mut(d.max(1)).zip(states) {
                if sum > T::of(0.0) {
                    row.iter_mut().for_each(|y| *y /= sum);
                }
                *log = top + sum.logarithm();
            }
            put(&mut y, queries.start, rows);
        }
    }

    /// The derivative of the outputs of a head, from those of its queries, keys and values.
    pub(super) fn change(
        &mut self,
        view: &View,
        head: Head,
        [q, dq, y]: [&[T]; 3],
        [pair, change]: [&Pair<T>; 2],
        logs: &[T],
        mut dy: MatMut<'_, T>,
    ) {
        let d = view.d;
        for queries in view.query_blocks() {
            let n = queries.len();
            let [q, dq, y] = [q, dq, y].map(|of| view.queries(of, head, &queries));
            let rows = &mut self.rows[..n * d];
            rows.fill(T::of(0.0));
            let mut totals = [T::of(0.0); QUERIES];
            for keys in view.key_blocks(&queries) {
                let (s, ds) = (
                    &mut self.scores[..n * keys.len()],
                    &mut self.along[..n * keys.len()],
                );
                let part = keys.start * d..keys.end * d;
                let of = |rows| matrix::<T>(rows, d);
                let (k, dk) = (of(&pair.k[part.clone()]), of(&change.k[part.clone()]));
                let scale = T::of(view.scale());
                let len = keys.len();
                T::multiply(
                    matrix_mut(s, len),
                    Accum::Replace,
                    of(&q),
                    k.transpose(),
                    scale,
                );
                T::multiply(
                    matrix_mut(ds, len),
                    Accum::Replace,
                    of(&dq),
                    k.transpose(),
                    scale,
                );
                T::multiply(
                    matrix_mut(ds, len),
                    Accum::Add,
                    of(&q),
                    dk.transpose(),
                    scale,
                );
                let seen = &view.seen[queries.clone()];
                let nothing = [T::of(0.0); QUERIES];
                through(
                    s,
                    ds,
                    seen,
                    keys.start,
                    &logs[queries.clone()],
                    &nothing[..n],
                );
                for (total, row) in totals.iter_mut().zip(ds.chunks_exact(len)) {
                    row.iter().for_each(|&ds| *total += ds);
                }
                let (v, dv) = (of(&pair.v[part.clone()]), of(&change.v[part]));
                let (s, ds) = (matrix(s, len), matrix(ds, len));
                T::multiply(matrix_mut(rows, d), Accum::Add, ds, v, T::of(1.0));
                T::multiply(matrix_mut(rows, d), Accum::Add, s, dv, T::of(1.0));
            }
            let outputs = rows
                .chunks_exact_mut(d.max(1))
                .zip(y.chunks_exact(d.max(1)));
            for ((row, y), &total) in outputs.zip(&totals) {
                row.iter_mut()
                    .zip(y)
                    .for_each(|(row, &y)| *row += -(total * y));
            }
            put(&mut dy, queries.start, rows);
        }
    }

    /// Cotangents of the queries of a head into `to_q`, and what its keys and values gather into `to`.
    pub(super) fn transpose(
        &mut self,
        view: &View,
        head: Head,
        [q, kv, given, y]: [&[T]; 4],
        logs: &[T],
        mut to_q: MatMut<'_, T>,
        to: &mut Pair<T>,
    ) {
        let d = view.d;
        self.pair.take(view, kv, head);
        let pair = &self.pair;
        for queries in view.query_blocks() {
            let n = queries.len();
            let [q, given, y] = [q, given, y].map(|of| view.queries(of, head, &queries));
            let mut along = [T::of(0.0); QUERIES];
            dots(&given, &y, &mut along[..n]);
            let rows = &mut self.rows[..n * d];
            rows.fill(T::of(0.0));
            for keys in view.key_blocks(&queries) {
                let (s, ds) = (
                    &mut self.scores[..n * keys.len()],
                    &mut self.along[..n * keys.len()],
                );
                let part = keys.start * d..keys.end * d;
                let of = |rows| matrix::<T>(rows, d);
                let (k, v) = (of(&pair.k[part.clone()]), of(&pair.v[part.clone()]));
                let (scale, one, len) = (T::of(view.scale()), T::of(1.0), keys.len());
                T::multiply(
                    matrix_mut(s, len),
                    Accum::Replace,
                    of(&q),
                    k.transpose(),
                    scale,
                );
                T::multiply(
                    matrix_mut(ds, len),
                    Accum::Replace,
                    of(&given),
                    v.transpose(),
                    one,
                );
                let seen = &view.seen[queries.clone()];
                through(s, ds, seen, keys.start, &logs[queries.clone()], &along[..n]);
                let (s, ds) = (matrix(s, len), matrix(ds, len));
                let to_v = matrix_mut(&mut to.v[part.clone()], d);
                T::multiply(to_v, Accum::Add, s.transpose(), of(&given), one);
                T::multiply(matrix_mut(rows, d), Accum::Add, ds, k, scale);
                let to_k = matrix_mut(&mut to.k[part], d);
                T::multiply(to_k, Accum::Add, ds.transpose(), of(&q), scale);
            }
            put(&mut to_q, queries.start, rows);
        }
    }
}

/// Keys from `start` on that a query sees, of a row of `len`.
#[inline(always)]
fn here(seen: usize, start: usize, len: usize) -> Range<usize> {
    0..seen.saturating_sub(start).min(len)
}

/// What scores are measured from: `high`, and 0 where nothing is seen.
#[inline(always)]
fn base<T: Real>(high: T) -> T {
    if high == T::LOWEST { T::of(0.0) } else { high }
}

wide! {
    /// Products of rows.
    fn dots<T: Real>(a: &[T], b: &[T], to: &mut [T]) {
        let d = (a.len() / to.len().max(1)).max(1);
        for ((a, b), to) in a.chunks_exact(d).zip(b.chunks_exact(d)).zip(to) {
            *to = dot(a, b);
        }
    }

    /// Scores of a block of keys to weights below the highest score so far; what there was before is
    /// brought to the same height.
    fn absorb<T: Real>(
        s: &mut [T], seen: &[usize], start: usize, y: &mut [T], top: &mut [T], sums: &mut [T],
    ) {
        let (keys, d) = ((s.len() / seen.len().max(1)).max(1), (y.len() / seen.len().max(1)).max(1));
        let rows = s.chunks_exact_mut(keys).zip(seen).zip(y.chunks_exact_mut(d));
        for (((row, &seen), y), (top, sum)) in rows.zip(top.iter_mut().zip(sums)) {
            let (row, unseen) = row.split_at_mut(here(seen, start, keys).end);
            let high = highest(row, *top);
            let base = base(high);
            let fade = (*top - base).exponential();
            for y in y {
                *y *= fade;
            }
            *sum = *sum * fade + weigh(row, base);
            *top = high;
            unseen.fill(T::of(0.0));
        }
    }

    /// Scores to weights p, from L of each row, and what is in `d` to $p (d - a)$, from a of each row.
    fn through<T: Real>(
        s: &mut [T], d: &mut [T], seen: &[usize], start: usize, logs: &[T], along: &[T],
    ) {
        let keys = (s.len() / seen.len().max(1)).max(1);
        let rows = s.chunks_exact_mut(keys).zip(d.chunks_exact_mut(keys)).zip(seen);
        for (((s, d), &seen), (&log, &along)) in rows.zip(logs.iter().zip(along)) {
            let seen = here(seen, start, keys).end;
            let base = base(log);
            for (s, d) in s[..seen].iter_mut().zip(&mut d[..seen]) {
                let p = (*s - base).exponential();
                *s = p;
                *d = p * (*d - along);
            }
            s[seen..].fill(T::of(0.0));
            d[seen..].fill(T::of(0.0));
        }
    }
}
