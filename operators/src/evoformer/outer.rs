//! The mean of outer products of two projections of an alignment, mapped to pairs:
//!
//! $$ o_{ij} = \frac1S \sum_s a_{si} \otimes b_{sj}, \qquad z_{ijm} = \sum_{ce} o_{ijce} W_{cem}, $$
//! $$ \bar o_{ij} = W \bar z_{ij}, \quad \bar W = \sum_{ij} o_{ij} \bar z_{ij}, \quad
//!    \bar a_{si} = \frac1S \sum_j \bar o_{ij} b_{sj}, \quad \bar b_{sj} = \frac1S \sum_i \bar o_{ij}^\top a_{si} . $$
//!
//! The products of some i at a time are there, and made again on the way back: all of them, of which every pair has
//! c × e, would be the largest tensor of an Evoformer. Source: Jumper et al. (2021), supplement 1.6.4, algorithm 10.
//!
//! | a | b | W | z | |
//! |---|---|---|---|---|
//! | cut by batch (0) | cut alike | Same | cut alike | |
//! | cut by i (2) | Same | Same | cut by i (1) | columns of the alignment cut, the others gathered |
//! | Same | cut by j (2) | Same | cut by j (2) | |
//! | cut by s (1) | cut alike | Same | Partial(Sum) | rows of the alignment cut |
//! | Same | Same | cut by m (2) | cut by m (3) | |
//! | cut by c (3) | Same | cut by c (0) | Partial(Sum) | |
//! | Same | cut by e (3) | cut by e (1) | Partial(Sum) | |

use std::ops::Range;

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};
use faer::{Accum, MatMut, MatRef};

use crate::kernels::{each, total, zeros};
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

const NAME: &str = "OuterProductMean";
/// Elements of outer products that are there at once, in a task.
const AT_ONCE: usize = 1 << 19;
/// Tasks with a sum for W of their own.
const TASKS: usize = 16;

/// a `[b, s, i, c]`, b `[b, s, j, e]` and W `[c, e, m]` to `[b, i, j, m]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct OuterProductMean;

/// Local extents, and one over all S.
#[derive(Clone, Copy)]
struct View {
    b: usize,
    s: usize,
    i: usize,
    j: usize,
    c: usize,
    e: usize,
    m: usize,
    mean: f64,
}

impl Operator for OuterProductMean {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let dtype = reals(NAME, inputs, &[4, 4, 3])?;
        let shapes = [0, 1, 2].map(|i| inputs[i].shape.as_slice());
        let [&[b, s, i, c], &[batch, rows, j, e], &[of_c, of_e, m]] = shapes else {
            return refuse(
                NAME,
                "a is [b, s, i, c], b is [b, s, j, e] and W is [c, e, m]",
            );
        };
        if (b, s, c, e) != (batch, rows, of_c, of_e) {
            let [a, b, w] = [0, 1, 2].map(|i| &inputs[i]);
            return refuse(NAME, format!("{a}, {b} and {w} do not match"));
        }
        let split = |dim| Placement::Split { dim };
        let sum = Placement::Partial(Monoid::Sum);
        let mend = "cut a and b by batch (0) or rows (1), one of them by columns (2), or W and what it multiplies";
        // of sums in two steps, the first is finished before the second
        let whole = dtype == DType::Canonical;
        let layout = layout(NAME, inputs, mend, |on| {
            use Placement::{Same, Split};
            match (on[0], on[1], on[2]) {
                (Same, Same, Same) => Some(Same),
                (Split { dim: 0 }, Split { dim: 0 }, Same) => Some(split(0)),
                (Split { dim: 2 }, Same, Same) => Some(split(1)),
                (Same, Split { dim: 2 }, Same) => Some(split(2)),
                _ if whole => None,
                (Split { dim: 1 }, Split { dim: 1 }, Same) => Some(sum),
                (Same, Same, Split { dim: 2 }) => Some(split(3)),
                (Split { dim: 3 }, Same, Split { dim: 0 }) => Some(sum),
                (Same, Split { dim: 3 }, Split { dim: 1 }) => Some(sum),
                _ => None,
            }
        })?;
        Ok(vec![Spec::new([b, i, j, m], dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let view = View::of(site);
        with_real!(site, inputs[0].dtype(), T => {
            let z = view.map(&inputs[0], &inputs[1], inputs[2].elements::<T>());
            let z = Shard::new(site.key(), site.output_shape(0), z.into());
            Ok((vec![z], Saved::nothing()))
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1, 2]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let view = View::of(site);
        let [a, b, w] = [
            saved.input(site, 0)?,
            saved.input(site, 1)?,
            saved.input(site, 2)?,
        ];
        with_real!(site, a.dtype(), T => {
            let mut dz = view.map::<T>(&tangents[0], b, w.elements());
            for more in [
                view.map::<T>(a, &tangents[1], w.elements()),
                view.map::<T>(a, b, tangents[2].elements()),
            ] {
                dz.iter_mut().zip(more).for_each(|(dz, more)| *dz += more);
            }
            Ok(vec![Shard::new(site.key(), site.output_shape(0), dz.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let view = View::of(site);
        let [a, b, w] = [
            saved.input(site, 0)?,
            saved.input(site, 1)?,
            saved.input(site, 2)?,
        ];
        with_real!(site, a.dtype(), T => {
            let (given, w) = (cotangents[0].elements::<T>(), w.elements::<T>());
            let shard = |i: usize, v: Vec<T>| Shard::new(site.key(), site.input_shape(i), v.into());
            let (to_a, to_w) = if wanted[0] || wanted[2] {
                let (to_a, to_w) = view.back_left(a, b, w, given);
                (Some(shard(0, to_a)), Some(shard(2, to_w)))
            } else {
                (None, None)
            };
            let to_b = wanted[1].then(|| shard(1, view.back_right(a, w, given)));
            Ok(vec![to_a, to_b, to_w])
        })
    }
}

/// A task of columns of the alignment: batch, which, and where their results go.
struct Task<'a, T> {
    b: usize,
    columns: Range<usize>,
    to: MatMut<'a, T>,
}

impl View {
    fn of(site: &Site) -> Self {
        let (a, b, w) = (
            site.input_shape(0),
            site.input_shape(1),
            site.input_shape(2),
        );
        View {
            b: a[0],
            s: a[1],
            i: a[2],
            j: b[2],
            c: w[0],
            e: w[1],
            m: w[2],
            mean: 1.0 / (site.inputs()[0].shape[1].max(1) as f64),
        }
    }

    /// A batch of an alignment as a matrix: its rows, and columns beside their numbers.
    fn rows<'a, T: Real>(&self, of: &'a Shard, b: usize, columns: usize) -> MatRef<'a, T> {
        let len = self.s * columns;
        MatRef::from_row_major_slice(&of.elements::<T>()[b * len..][..len], self.s, columns)
    }

    /// W of one number of a: `[e, m]`.
    fn weight<'a, T: Real>(&self, w: &'a [T], c: usize) -> MatRef<'a, T> {
        let len = self.e * self.m;
        MatRef::from_row_major_slice(&w[c * len..][..len], self.e, self.m)
    }

    /// How many columns are taken at once beside `others`.
    fn at_once(&self, others: usize) -> usize {
        (AT_ONCE / (self.c * self.e * others).max(1)).max(1)
    }

    /// Outer products of some i with all j: rows i and c, columns j and e.
    fn products<T: Real>(
        &self,
        a: &Shard,
        b: &Shard,
        at: usize,
        some: &Range<usize>,
        to: &mut [T],
    ) {
        let left = self.rows::<T>(a, at, self.i * self.c);
        let left = left.subcols(some.start * self.c, some.len() * self.c);
        let right = self.rows::<T>(b, at, self.j * self.e);
        let to = MatMut::from_row_major_slice_mut(to, some.len() * self.c, self.j * self.e);
        T::multiply(
            to,
            Accum::Replace,
            left.transpose(),
            right,
            T::of(self.mean),
        );
    }

    fn map<T: Real>(&self, a: &Shard, b: &Shard, w: &[T]) -> Vec<T> {
        let (row, at_once) = (self.j * self.m, self.at_once(self.j));
        let mut z = buffer(self.b * self.i * row);
        let mut tasks = Vec::new();
        for (at, z) in z.chunks_mut((self.i * row).max(1)).enumerate() {
            for (block, z) in z.chunks_mut((at_once * row).max(1)).enumerate() {
                let first = block * at_once;
                tasks.push((at, first..self.i.min(first + at_once), z));
            }
        }
        let (inner, outer) = (self.j * self.e, self.c * self.j * self.e);
        each(tasks, |(at, some, z): (usize, Range<usize>, &mut [T])| {
            let mut o = buffer(some.len() * outer);
            self.products(a, b, at, &some, &mut o);
            for (o, z) in o
                .chunks_exact(outer.max(1))
                .zip(z.chunks_exact_mut(row.max(1)))
            {
                let mut z = MatMut::from_row_major_slice_mut(z, self.j, self.m);
                z.fill(T::of(0.0));
                for (c, o) in o.chunks_exact(inner.max(1)).enumerate() {
                    let o = MatRef::from_row_major_slice(o, self.j, self.e);
                    T::multiply(z.as_mut(), Accum::Add, o, self.weight(w, c), T::of(1.0));
                }
            }
        });
        z
    }

    /// Cotangents of the products of the pairs from `i` on, `j` for each: rows i and c, columns j and e.
    fn of_products<T: Real>(
        &self,
        w: &[T],
        given: &[T],
        at: usize,
        [some, others]: [&Range<usize>; 2],
        to: &mut [T],
    ) {
        let inner = others.len() * self.e;
        let mut rows = to.chunks_exact_mut(inner.max(1));
        for i in some.clone() {
            let first = ((at * self.i + i) * self.j + others.start) * self.m;
            let given = &given[first..][..others.len() * self.m];
            let given = MatRef::from_row_major_slice(given, others.len(), self.m);
            for (c, row) in rows.by_ref().take(self.c).enumerate() {
                let row = MatMut::from_row_major_slice_mut(row, others.len(), self.e);
                let w = self.weight(w, c);
                T::multiply(row, Accum::Replace, given, w.transpose(), T::of(1.0));
            }
        }
    }

    /// The columns of an alignment in parts, each with where its cotangents go.
    fn tasks<'a, T: Real>(
        &self,
        to: &'a mut [T],
        columns: usize,
        width: usize,
    ) -> Vec<Task<'a, T>> {
        let parts = TASKS.min(columns).max(1);
        let mut tasks = Vec::new();
        for (b, to) in to.chunks_mut((self.s * columns * width).max(1)).enumerate() {
            let mut rest = MatMut::from_row_major_slice_mut(to, self.s, columns * width);
            for part in 0..parts {
                let columns = part * columns / parts..(part + 1) * columns / parts;
                let (to, more) = rest.split_at_col_mut(columns.len() * width);
                rest = more;
                tasks.push(Task { b, columns, to });
            }
        }
        tasks
    }

    /// Cotangents of a and W.
    fn back_left<T: Real>(&self, a: &Shard, b: &Shard, w: &[T], given: &[T]) -> (Vec<T>, Vec<T>) {
        let mut to_a = buffer(self.b * self.s * self.i * self.c);
        let tasks = self.tasks(&mut to_a, self.i, self.c);
        let weights = self.c * self.e * self.m;
        let mut parts = zeros(tasks.len().max(1) * weights);
        let outer = self.c * self.j * self.e;
        let tasks = tasks.into_iter().zip(parts.chunks_mut(weights.max(1)));
        each(tasks.collect(), |(task, to_w): (Task<'_, T>, &mut [T])| {
            let Task {
                b: at,
                columns,
                mut to,
            } = task;
            for some in blocks(&columns, self.at_once(self.j)) {
                let (mut o, mut slopes) = (buffer(some.len() * outer), buffer(some.len() * outer));
                self.products(a, b, at, &some, &mut o);
                self.of_products(w, given, at, [&some, &(0..self.j)], &mut slopes);
                for (i, o) in some.clone().zip(o.chunks_exact(outer.max(1))) {
                    let given = &given[(at * self.i + i) * self.j * self.m..][..self.j * self.m];
                    let given = MatRef::from_row_major_slice(given, self.j, self.m);
                    let products = o.chunks_exact((self.j * self.e).max(1));
                    for (o, to_w) in products.zip(to_w.chunks_exact_mut((self.e * self.m).max(1))) {
                        let o = MatRef::from_row_major_slice(o, self.j, self.e);
                        let to_w = MatMut::from_row_major_slice_mut(to_w, self.e, self.m);
                        T::multiply(to_w, Accum::Add, o.transpose(), given, T::of(1.0));
                    }
                }
                let slopes =
                    MatRef::from_row_major_slice(&slopes, some.len() * self.c, self.j * self.e);
                let right = self.rows::<T>(b, at, self.j * self.e);
                let first = (some.start - columns.start) * self.c;
                let to = to.as_mut().subcols_mut(first, some.len() * self.c);
                T::multiply(
                    to,
                    Accum::Replace,
                    right,
                    slopes.transpose(),
                    T::of(self.mean),
                );
            }
        });
        (to_a, total(parts, weights))
    }

    /// The cotangent of b.
    fn back_right<T: Real>(&self, a: &Shard, w: &[T], given: &[T]) -> Vec<T> {
        let mut to_b = buffer(self.b * self.s * self.j * self.e);
        let tasks = self.tasks(&mut to_b, self.j, self.e);
        each(tasks, |task: Task<'_, T>| {
            let Task {
                b: at,
                columns,
                mut to,
            } = task;
            for some in blocks(&columns, self.at_once(self.i)) {
                let inner = some.len() * self.e;
                let mut slopes = buffer(self.i * self.c * inner);
                self.of_products(w, given, at, [&(0..self.i), &some], &mut slopes);
                let slopes = MatRef::from_row_major_slice(&slopes, self.i * self.c, inner);
                let left = self.rows::<T>(a, at, self.i * self.c);
                let first = (some.start - columns.start) * self.e;
                let to = to.as_mut().subcols_mut(first, inner);
                T::multiply(to, Accum::Replace, left, slopes, T::of(self.mean));
            }
        });
        to_b
    }
}

fn blocks(range: &Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = range.end;
    range
        .clone()
        .step_by(size)
        .map(move |first| first..end.min(first + size))
}
