//! Attention of the rows of one head, by blocks of queries and keys.

use std::ops::Range;

use faer::{Accum, MatMut, MatRef};

use super::view::{Part, View};
use crate::kernels::{dot, highest, weigh, wide};
use crate::network::real::Real;

/// Queries and keys that are taken at once: their scores, cotangents of these and the bias between them
/// fit into a second-level cache of 1 MiB.
const QUERIES: usize = 128;
const KEYS: usize = 384;

/// The tensors that attention is of.
pub(super) struct Inputs<'a, T> {
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) mask: Option<&'a [i64]>,
    /// Head by head ([`View::by_head`]).
    pub(super) bias: Option<Vec<T>>,
}

/// What was made on the way forward.
#[derive(Clone, Copy)]
pub(super) struct Made<'a, T> {
    pub(super) y: &'a [T],
    /// L of every query, cell by cell.
    pub(super) logs: &'a [T],
}

/// Where the cotangents of a part go.
pub(super) struct Back<'a, T> {
    pub(super) q: Vec<MatMut<'a, T>>,
    pub(super) k: Vec<MatMut<'a, T>>,
    pub(super) v: Vec<MatMut<'a, T>>,
    /// Gathers the sum over the rows of the part; empty where it is not asked for.
    pub(super) bias: &'a mut [T],
}

/// Memory for a row, and a block of it; what it holds means nothing between uses.
pub(super) struct Tile<T> {
    /// Scores, and then weights.
    scores: Vec<T>,
    /// Tangents or cotangents of weights, and then of scores.
    along: Vec<T>,
    /// Keys and values of the row at hand.
    k: Vec<T>,
    v: Vec<T>,
    /// Their tangents or cotangents.
    dk: Vec<T>,
    dv: Vec<T>,
    shut: Vec<bool>,
    /// Blocks of queries, of what belongs to them, and of what is made of them.
    q: Vec<T>,
    given: Vec<T>,
    y: Vec<T>,
    made: Vec<T>,
}

/// Rows of `d` numbers as a matrix.
fn matrix<T: Real>(rows: &[T], d: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice(rows, rows.len() / d.max(1), d)
}

fn matrix_mut<T: Real>(rows: &mut [T], d: usize) -> MatMut<'_, T> {
    let n = rows.len() / d.max(1);
    MatMut::from_row_major_slice_mut(rows, n, d)
}

/// Writes rows from `first` on.
fn put<T: Real>(to: &mut MatMut<'_, T>, first: usize, rows: &[T]) {
    for (i, row) in rows.chunks_exact(to.ncols().max(1)).enumerate() {
        if let Some(to) = to.as_mut().row_mut(first + i).try_as_row_major_mut() {
            to.as_slice_mut().copy_from_slice(row);
        }
    }
}

fn blocks(len: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len)
        .step_by(size)
        .map(move |first| first..len.min(first + size))
}

/// What is added to the scores of a block: the bias from its first query and key on, and which keys are shut.
#[derive(Clone, Copy)]
struct Added<'a, T> {
    bias: Option<&'a [T]>,
    /// From one query to the next in the bias.
    stride: usize,
    shut: Option<&'a [bool]>,
}

impl<'a, T: Real> Added<'a, T> {
    fn of(
        view: &View,
        bias: Option<&'a [T]>,
        shut: Option<&'a [bool]>,
        queries: &Range<usize>,
        keys: &Range<usize>,
    ) -> Self {
        Added {
            bias: bias.map(|bias| &bias[queries.start * view.t + keys.start..]),
            stride: view.t,
            shut: shut.map(|shut| &shut[keys.clone()]),
        }
    }
}

impl<T: Real> Tile<T> {
    pub(super) fn new(view: &View) -> Self {
        let n = QUERIES.min(view.n);
        let scores = n * KEYS.min(view.t);
        let zeros = |len| vec![T::of(0.0); len];
        let [k, v, dk, dv] = [(); 4].map(|()| zeros(view.t * view.d));
        let [q, given, y, made] = [(); 4].map(|()| zeros(n * view.d));
        Tile {
            scores: zeros(scores),
            along: zeros(scores),
            k,
            v,
            dk,
            dv,
            shut: vec![false; view.t],
            q,
            given,
            y,
            made,
        }
    }

    /// Takes keys and values of a row; whether it sees any.
    fn open(&mut self, view: &View, inputs: &Inputs<'_, T>, cell: [usize; 3]) -> bool {
        let [b, row, _] = cell;
        let all = inputs
            .mask
            .is_some_and(|mask| view.shut(mask, b, row, &mut self.shut));
        if all || view.t == 0 {
            return false;
        }
        let shut = inputs.mask.map(|_| self.shut.as_slice());
        view.keys(inputs.k, cell, shut, &mut self.k);
        view.keys(inputs.v, cell, shut, &mut self.v);
        true
    }

    /// Outputs of a part into `y`, and L of its queries into `logs`.
    pub(super) fn attend(
        &mut self,
        view: &View,
        inputs: &Inputs<'_, T>,
        part: &Part,
        y: Vec<MatMut<'_, T>>,
        logs: Vec<&mut [T]>,
    ) {
        let (d, scale) = (view.d, T::of(view.scale()));
        let bias = bias_of(view, inputs.bias.as_deref(), part);
        for ((row, mut y), logs) in part.rows.clone().zip(y).zip(logs) {
            let cell = [part.b, row, part.head];
            if !self.open(view, inputs, cell) {
                y.fill(T::of(0.0));
                logs.fill(T::LOWEST);
                continue;
            }
            let shut = inputs.mask.map(|_| self.shut.as_slice());
            for queries in blocks(view.n, QUERIES) {
                let n = queries.len();
                let q = &mut self.q[..n * d];
                view.queries(inputs.q, cell, &queries, q);
                let made = &mut self.made[..n * d];
                made.fill(T::of(0.0));
                let (mut top, mut sums) = ([T::LOWEST; QUERIES], [T::of(0.0); QUERIES]);
                let (top, sums) = (&mut top[..n], &mut sums[..n]);
                for keys in blocks(view.t, KEYS) {
                    let s = &mut self.scores[..n * keys.len()];
                    let of = keys.start * d..keys.end * d;
                    let k = matrix(&self.k[of.clone()], d);
                    let to = matrix_mut(s, keys.len());
                    T::multiply(to, Accum::Replace, matrix(q, d), k.transpose(), scale);
                    let added = Added::of(view, bias, shut, &queries, &keys);
                    absorb(s, added, made, top, sums);
                    let (s, v) = (matrix(s, keys.len()), matrix(&self.v[of], d));
                    T::multiply(matrix_mut(made, d), Accum::Add, s, v, T::of(1.0));
                }
                let states = top.iter().zip(sums).zip(&mut logs[queries.clone()]);
                for (made, ((&top, &mut sum), log)) in made.chunks_exact_mut(d).zip(states) {
                    if sum > T::of(0.0) {
                        made.iter_mut().for_each(|y| *y /= sum);
                    }
                    *log = top + sum.logarithm();
                }
                put(&mut y, queries.start, made);
            }
        }
    }

    /// The derivative of the outputs of a part, from those of its inputs.
    pub(super) fn change(
        &mut self,
        view: &View,
        [inputs, changes]: [&Inputs<'_, T>; 2],
        made: Made<'_, T>,
        part: &Part,
        dy: Vec<MatMut<'_, T>>,
    ) {
        let (d, scale, one) = (view.d, T::of(view.scale()), T::of(1.0));
        let bias = bias_of(view, inputs.bias.as_deref(), part);
        let slope = bias_of(view, changes.bias.as_deref(), part);
        for (row, mut dy) in part.rows.clone().zip(dy) {
            let cell = [part.b, row, part.head];
            if !self.open(view, inputs, cell) {
                dy.fill(T::of(0.0));
                continue;
            }
            let shut = inputs.mask.map(|_| self.shut.as_slice());
            view.keys(changes.k, cell, shut, &mut self.dk);
            view.keys(changes.v, cell, shut, &mut self.dv);
            for queries in blocks(view.n, QUERIES) {
                let n = queries.len();
                let [q, dq, y] =
                    [&mut self.q, &mut self.given, &mut self.y].map(|of| &mut of[..n * d]);
                view.queries(inputs.q, cell, &queries, q);
                view.queries(changes.q, cell, &queries, dq);
                view.queries(made.y, cell, &queries, y);
                let rows = &mut self.made[..n * d];
                rows.fill(T::of(0.0));
                let mut totals = [T::of(0.0); QUERIES];
                for keys in blocks(view.t, KEYS) {
                    let len = keys.len();
                    let (s, ds) = (&mut self.scores[..n * len], &mut self.along[..n * len]);
                    let of = keys.start * d..keys.end * d;
                    let [k, v, dk, dv] = [&self.k, &self.v, &self.dk, &self.dv]
                        .map(|rows| matrix(&rows[of.clone()], d));
                    let replaced = Accum::Replace;
                    T::multiply(
                        matrix_mut(s, len),
                        replaced,
                        matrix(q, d),
                        k.transpose(),
                        scale,
                    );
                    T::multiply(
                        matrix_mut(ds, len),
                        replaced,
                        matrix(dq, d),
                        k.transpose(),
                        scale,
                    );
                    let to = matrix_mut(ds, len);
                    T::multiply(to, Accum::Add, matrix(q, d), dk.transpose(), scale);
                    if let Some(slope) = slope {
                        let slope = &slope[queries.start * view.t + keys.start..];
                        plus_rows(ds, len, slope, view.t);
                    }
                    let added = Added::of(view, bias, shut, &queries, &keys);
                    let nothing = [T::of(0.0); QUERIES];
                    let logs = &view.logs(made.logs, cell)[queries.clone()];
                    through(s, ds, added, logs, &nothing[..n], &mut []);
                    for (total, row) in totals.iter_mut().zip(ds.chunks_exact(len)) {
                        row.iter().for_each(|&ds| *total += ds);
                    }
                    let (s, ds) = (matrix(s, len), matrix(ds, len));
                    T::multiply(matrix_mut(rows, d), Accum::Add, ds, v, one);
                    T::multiply(matrix_mut(rows, d), Accum::Add, s, dv, one);
                }
                let outputs = rows.chunks_exact_mut(d).zip(y.chunks_exact(d));
                for ((row, y), &total) in outputs.zip(&totals) {
                    let pairs = row.iter_mut().zip(y);
                    pairs.for_each(|(row, y)| *row += -(total * *y));
                }
                put(&mut dy, queries.start, rows);
            }
        }
    }

    /// Cotangents of the inputs of a part, from those of its outputs.
    pub(super) fn transpose(
        &mut self,
        view: &View,
        inputs: &Inputs<'_, T>,
        (made, given): (Made<'_, T>, &[T]),
        part: &Part,
        to: Back<'_, T>,
    ) {
        let (d, scale, one) = (view.d, T::of(view.scale()), T::of(1.0));
        let bias = bias_of(view, inputs.bias.as_deref(), part);
        let to_bias = to.bias;
        let outputs = to.q.into_iter().zip(to.k).zip(to.v);
        for (row, ((mut to_q, mut to_k), mut to_v)) in part.rows.clone().zip(outputs) {
            let cell = [part.b, row, part.head];
            if !self.open(view, inputs, cell) {
                [to_q, to_k, to_v]
                    .iter_mut()
                    .for_each(|to| to.fill(T::of(0.0)));
                continue;
            }
            let shut = inputs.mask.map(|_| self.shut.as_slice());
            self.dk.fill(T::of(0.0));
            self.dv.fill(T::of(0.0));
            for queries in blocks(view.n, QUERIES) {
                let n = queries.len();
                let [q, g, y] =
                    [&mut self.q, &mut self.given, &mut self.y].map(|of| &mut of[..n * d]);
                view.queries(inputs.q, cell, &queries, q);
                view.queries(given, cell, &queries, g);
                view.queries(made.y, cell, &queries, y);
                let mut along = [T::of(0.0); QUERIES];
                dots(g, y, &mut along[..n]);
                let (q, g) = (matrix(q, d), matrix(g, d));
                let rows = &mut self.made[..n * d];
                rows.fill(T::of(0.0));
                for keys in blocks(view.t, KEYS) {
                    let len = keys.len();
                    let (s, ds) = (&mut self.scores[..n * len], &mut self.along[..n * len]);
                    let of = keys.start * d..keys.end * d;
                    let [k, v] = [&self.k, &self.v].map(|rows| matrix(&rows[of.clone()], d));
                    T::multiply(matrix_mut(s, len), Accum::Replace, q, k.transpose(), scale);
                    T::multiply(matrix_mut(ds, len), Accum::Replace, g, v.transpose(), one);
                    let added = Added::of(view, bias, shut, &queries, &keys);
                    let logs = &view.logs(made.logs, cell)[queries.clone()];
                    let first = queries.start * view.t + keys.start;
                    let to_bias = to_bias.get_mut(first..).unwrap_or_default();
                    through(s, ds, added, logs, &along[..n], to_bias);
                    let (s, ds) = (matrix(s, len), matrix(ds, len));
                    let dv = matrix_mut(&mut self.dv[of.clone()], d);
                    T::multiply(dv, Accum::Add, s.transpose(), g, one);
                    T::multiply(matrix_mut(rows, d), Accum::Add, ds, k, scale);
                    let dk = matrix_mut(&mut self.dk[of], d);
                    T::multiply(dk, Accum::Add, ds.transpose(), q, scale);
                }
                put(&mut to_q, queries.start, rows);
            }
            put(&mut to_k, 0, &self.dk);
            put(&mut to_v, 0, &self.dv);
        }
    }
}

/// The bias of the head of a part, `[n, t]`.
fn bias_of<'a, T>(view: &View, bias: Option<&'a [T]>, part: &Part) -> Option<&'a [T]> {
    let pairs = view.n * view.t;
    bias.map(|bias| &bias[(part.b * view.h + part.head) * pairs..][..pairs])
}

/// What scores are measured from: `high`, and 0 where nothing is seen.
#[inline(always)]
fn base<T: Real>(high: T) -> T {
    if high == T::LOWEST { T::of(0.0) } else { high }
}

/// Scores of query `i` of a block with what is added to them.
#[inline(always)]
fn add<T: Real>(row: &mut [T], added: Added<'_, T>, i: usize) {
    if let Some(bias) = added.bias {
        let bias = &bias[i * added.stride..];
        for (s, &bias) in row.iter_mut().zip(bias) {
            // elements, not sums
            *s = bias + *s;
        }
    }
    if let Some(shut) = added.shut {
        for (s, &shut) in row.iter_mut().zip(shut) {
            *s = if shut { T::LOWEST } else { *s };
        }
    }
}

wide! {
    /// Products of rows.
    fn dots<T: Real>(a: &[T], b: &[T], to: &mut [T]) {
        let d = (a.len() / to.len().max(1)).max(1);
        for ((a, b), to) in a.chunks_exact(d).zip(b.chunks_exact(d)).zip(to) {
            *to = dot(a, b);
        }
    }

    /// Adds rows that are `stride` apart to rows of `len`.
    fn plus_rows<T: Real>(to: &mut [T], len: usize, rows: &[T], stride: usize) {
        for (i, to) in to.chunks_exact_mut(len).enumerate() {
            for (to, &x) in to.iter_mut().zip(&rows[i * stride..]) {
                *to = x + *to;
            }
        }
    }

    /// Scores of a block of keys to weights below the highest score so far; what there was before is
    /// brought to the same height.
    fn absorb<T: Real>(
        s: &mut [T], added: Added<'_, T>, y: &mut [T], top: &mut [T], sums: &mut [T],
    ) {
        let n = top.len().max(1);
        let (keys, d) = ((s.len() / n).max(1), (y.len() / n).max(1));
        let rows = s.chunks_exact_mut(keys).zip(y.chunks_exact_mut(d)).enumerate();
        for ((i, (row, y)), (top, sum)) in rows.zip(top.iter_mut().zip(sums)) {
            add(row, added, i);
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

    /// Scores to weights p, from L of each row, and what is in `d` to $p (d - a)$, from a of each row; this is
    /// added to the bias's where there is one.
    fn through<T: Real>(
        s: &mut [T], d: &mut [T], added: Added<'_, T>, logs: &[T], along: &[T], to_bias: &mut [T],
    ) {
        let keys = (s.len() / logs.len().max(1)).max(1);
        let rows = s.chunks_exact_mut(keys).zip(d.chunks_exact_mut(keys)).enumerate();
        for ((i, (s, d)), (&log, &along)) in rows.zip(logs.iter().zip(along)) {
            add(s, added, i);
            let base = base(log);
            for (s, d) in s.iter_mut().zip(d.iter_mut()) {
                let p = (*s - base).exponential();
                *s = p;
                *d = p * (*d - along);
            }
            if let Some(to) = to_bias.get_mut(i * added.stride..) {
                for (to, &d) in to.iter_mut().zip(d.iter()) {
                    *to += d;
                }
            }
        }
    }
}
