//! Attention in its plain form: row by row in double precision, which results are measured against, and with the
//! weights of all rows at once in single precision, as automatic differentiation keeps them.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Sub};
use std::thread;

use super::Case;

/// `f32` or `f64`.
pub(super) trait Number:
    Copy
    + Debug
    + Default
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    fn of(x: f64) -> Self;
    fn exponential(self) -> Self;
}

macro_rules! number {
    ($t:ty) => {
        impl Number for $t {
            fn of(x: f64) -> Self {
                x as $t
            }
            fn exponential(self) -> Self {
                self.exp()
            }
        }
    };
}
number!(f32);
number!(f64);

/// What attention is of; the mask is 0 or 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensors<'a, T> {
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) mask: &'a [T],
    pub(super) bias: &'a [T],
    pub(super) given: &'a [T],
}

/// One row and head, each tensor with its columns first: `[d, l]`.
struct Cell<T> {
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    given: Vec<T>,
}

/// Outputs and cotangents of a row and head, `[d, l]`.
pub(super) struct Found<T> {
    pub(super) y: Vec<T>,
    pub(super) q: Vec<T>,
    pub(super) k: Vec<T>,
    pub(super) v: Vec<T>,
}

/// Where number `c` of a position of a row and head is.
pub(super) fn place(case: &Case, [b, row, head]: [usize; 3], i: usize, c: usize) -> usize {
    ((((b * case.rows + row) * case.length + i) * case.heads) + head) * case.width + c
}

fn columns<T: Number>(case: &Case, of: &[T], cell: [usize; 3]) -> Vec<T> {
    let (l, d) = (case.length, case.width);
    let number = |at: usize| of[place(case, cell, at % l, at / l)];
    (0..l * d).map(number).collect()
}

fn add<T: Number>(by: T, x: &[T], to: &mut [T]) {
    for (to, &x) in to.iter_mut().zip(x) {
        *to += by * x;
    }
}

fn product<T: Number>(a: &[T], b: &[T]) -> T {
    let mut sum = T::default();
    a.iter().zip(b).for_each(|(&a, &b)| sum += a * b);
    sum
}

impl<T: Number> Cell<T> {
    fn of(case: &Case, tensors: &Tensors<'_, T>, cell: [usize; 3]) -> Self {
        let of = |tensor| columns(case, tensor, cell);
        Cell {
            q: of(tensors.q),
            k: of(tensors.k),
            v: of(tensors.v),
            given: of(tensors.given),
        }
    }

    /// The weights of all queries, `[l, l]`.
    fn weights(
        &self,
        case: &Case,
        tensors: &Tensors<'_, T>,
        [b, row, head]: [usize; 3],
        p: &mut [T],
    ) {
        let (l, d, h) = (case.length, case.width, case.heads);
        let scale = T::of(1.0 / (d as f64).sqrt());
        let mask = &tensors.mask[(b * case.rows + row) * l..][..l];
        for (i, p) in p.chunks_exact_mut(l).enumerate() {
            let bias = &tensors.bias[(b * l + i) * l * h + head..];
            for (j, p) in p.iter_mut().enumerate() {
                *p = bias[j * h];
            }
            for c in 0..d {
                add(scale * self.q[c * l + i], &self.k[c * l..][..l], p);
            }
            let zero = T::default();
            let mut top = T::of(f64::MIN_POSITIVE.ln());
            for (&p, _) in p.iter().zip(mask).filter(|(_, seen)| **seen != zero) {
                top = if p > top { p } else { top };
            }
            let mut sum = zero;
            for (p, &seen) in p.iter_mut().zip(mask) {
                *p = if seen == zero {
                    zero
                } else {
                    (*p - top).exponential()
                };
                sum += *p;
            }
            if sum > zero {
                p.iter_mut().for_each(|p| *p = *p / sum);
            }
        }
    }

    fn outputs(&self, case: &Case, p: &[T]) -> Vec<T> {
        let l = case.length;
        let number = |at: usize| product(&p[at % l * l..][..l], &self.v[at / l * l..][..l]);
        (0..l * case.width).map(number).collect()
    }

    /// Cotangents from weights; `ds` becomes those of the scores.
    fn back(&self, case: &Case, p: &[T], ds: &mut [T]) -> [Vec<T>; 3] {
        let (l, d) = (case.length, case.width);
        let scale = T::of(1.0 / (d as f64).sqrt());
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![T::default(); l * d]);
        for (i, (p, ds)) in p.chunks_exact(l).zip(ds.chunks_exact_mut(l)).enumerate() {
            ds.fill(T::default());
            for c in 0..d {
                add(self.given[c * l + i], &self.v[c * l..][..l], ds);
            }
            let mean = product(p, ds);
            for (ds, &p) in ds.iter_mut().zip(p) {
                *ds = p * (*ds - mean);
            }
            for c in 0..d {
                dq[c * l + i] = scale * product(ds, &self.k[c * l..][..l]);
                add(scale * self.q[c * l + i], ds, &mut dk[c * l..][..l]);
                add(self.given[c * l + i], p, &mut dv[c * l..][..l]);
            }
        }
        [dq, dk, dv]
    }
}

/// Gives outputs and cotangents of every row and head to `take`, and the cotangent of the bias, `[b, h, l, l]`: a
/// row at a time, by two threads.
pub(super) fn by_row<T: Number>(
    case: &Case,
    tensors: &Tensors<'_, T>,
    take: impl Fn([usize; 3], Found<T>) + Sync,
) -> Vec<T> {
    let (l, h) = (case.length, case.heads);
    let mut to_bias = vec![T::default(); case.batch * h * l * l];
    let heads: Vec<_> = to_bias.chunks_exact_mut(l * l).enumerate().collect();
    let mut crews = [Vec::new(), Vec::new()];
    for (i, head) in heads.into_iter().enumerate() {
        crews[i % 2].push(head);
    }
    thread::scope(|scope| {
        for crew in crews {
            let take = &take;
            scope.spawn(move || {
                let [mut p, mut ds] = [(); 2].map(|()| vec![T::default(); l * l]);
                for (at, to_bias) in crew {
                    for row in 0..case.rows {
                        let which = [at / h, row, at % h];
                        let cell = Cell::of(case, tensors, which);
                        cell.weights(case, tensors, which, &mut p);
                        let y = cell.outputs(case, &p);
                        let [q, k, v] = cell.back(case, &p, &mut ds);
                        add(T::of(1.0), &ds, to_bias);
                        take(which, Found { y, q, k, v });
                    }
                }
            });
        }
    });
    to_bias
}

/// All rows at once: weights are kept from the way forward to the way back. Gives all results.
pub(super) fn whole<T: Number>(
    case: &Case,
    tensors: &Tensors<'_, T>,
    threads: usize,
) -> [Vec<T>; 5] {
    let (l, d, h) = (case.length, case.width, case.heads);
    let cells = case.batch * case.rows * h;
    let of = |at: usize| [at / h / case.rows, at / h % case.rows, at % h];
    let share = cells.div_ceil(threads).max(1);
    let zeros = |len: usize| vec![T::default(); len];
    let (mut p, mut y) = (zeros(cells * l * l), zeros(cells * l * d));
    thread::scope(|scope| {
        let parts = p.chunks_mut(share * l * l).zip(y.chunks_mut(share * l * d));
        for (i, (p, y)) in parts.enumerate() {
            scope.spawn(move || {
                let cells = p.chunks_mut(l * l).zip(y.chunks_mut(l * d));
                for (at, (p, y)) in cells.enumerate() {
                    let which = of(i * share + at);
                    let cell = Cell::of(case, tensors, which);
                    cell.weights(case, tensors, which, p);
                    y.copy_from_slice(&cell.outputs(case, p));
                }
            });
        }
    });
    let mut ds = zeros(cells * l * l);
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| zeros(cells * l * d));
    thread::scope(|scope| {
        let to = dq
            .chunks_mut(share * l * d)
            .zip(dk.chunks_mut(share * l * d));
        let to = to.zip(dv.chunks_mut(share * l * d));
        let parts = p.chunks(share * l * l).zip(ds.chunks_mut(share * l * l));
        for (i, ((p, ds), ((dq, dk), dv))) in parts.zip(to).enumerate() {
            scope.spawn(move || {
                let to = dq.chunks_mut(l * d).zip(dk.chunks_mut(l * d));
                let to = to.zip(dv.chunks_mut(l * d));
                let cells = p.chunks(l * l).zip(ds.chunks_mut(l * l)).zip(to);
                for (at, ((p, ds), ((to_q, to_k), to_v))) in cells.enumerate() {
                    let cell = Cell::of(case, tensors, of(i * share + at));
                    let [q, k, v] = cell.back(case, p, ds);
                    to_q.copy_from_slice(&q);
                    to_k.copy_from_slice(&k);
                    to_v.copy_from_slice(&v);
                }
            });
        }
    });
    let mut to_bias = zeros(case.batch * h * l * l);
    for (at, ds) in ds.chunks_exact(l * l).enumerate() {
        let [b, _, head] = of(at);
        add(
            T::of(1.0),
            ds,
            &mut to_bias[(b * h + head) * l * l..][..l * l],
        );
    }
    [y, dq, dk, dv, to_bias]
}
