//! Where the queries and keys of a row and head lie in tensors.

use std::ops::Range;

use advect_engine::Shard;
use faer::MatMut;

use super::Along;
use crate::kernels::each;
use crate::network::real::Real;

/// Tasks that have sums of their own, at least, if there are so many rows.
const WITH_SUMS: usize = 16;
/// Tasks that have none.
const WITHOUT: usize = 64;

/// One row and head: batch, row, head.
pub(super) type Cell = [usize; 3];

/// Local extents.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) along: Along,
    pub(super) b: usize,
    /// Rows: what attends by itself.
    pub(super) rows: usize,
    /// Queries of a row.
    pub(super) n: usize,
    /// Keys of a row.
    pub(super) t: usize,
    pub(super) h: usize,
    pub(super) d: usize,
}

/// Rows of one head of one batch, in their order: what a task does.
pub(super) struct Part {
    pub(super) b: usize,
    pub(super) head: usize,
    pub(super) rows: Range<usize>,
}

impl View {
    pub(super) fn of(along: Along, q: &Shard, k: &Shard) -> Self {
        let (position, row) = (along.positions(), along.rows());
        View {
            along,
            b: q.shape[0],
            rows: q.shape[row],
            n: q.shape[position],
            t: k.shape[position],
            h: q.shape[3],
            d: q.shape[4],
        }
    }

    pub(super) fn scale(&self) -> f64 {
        1.0 / (self.d.max(1) as f64).sqrt()
    }

    /// Into how many parts the rows of a head are cut; `sums` where each part has a sum of its own.
    fn parts(&self, sums: bool) -> usize {
        let tasks = if sums { WITH_SUMS } else { WITHOUT };
        let heads = (self.b * self.h).max(1);
        tasks.div_ceil(heads).min(self.rows).max(1)
    }

    /// All tasks: batch by batch, head by head, part by part.
    pub(super) fn tasks(&self, sums: bool) -> Vec<Part> {
        let parts = self.parts(sums);
        let mut tasks = Vec::with_capacity(self.b * self.h * parts);
        for b in 0..self.b {
            for head in 0..self.h {
                for i in 0..parts {
                    let rows = i * self.rows / parts..(i + 1) * self.rows / parts;
                    tasks.push(Part { b, head, rows });
                }
            }
        }
        tasks
    }

    /// What is there for every cell, batch by batch, row by row, head by head, sorted to the tasks.
    pub(super) fn sorted<I>(&self, cells: impl IntoIterator<Item = I>, sums: bool) -> Vec<Vec<I>> {
        let parts = self.parts(sums);
        let mut sorted: Vec<Vec<I>> = Vec::new();
        sorted.resize_with(self.b * self.h * parts, Vec::new);
        // the part of each row, as they are cut in `tasks`
        let of_row: Vec<usize> = (0..parts)
            .flat_map(|i| {
                let rows = i * self.rows / parts..(i + 1) * self.rows / parts;
                rows.map(move |_| i)
            })
            .collect();
        for (at, cell) in cells.into_iter().enumerate() {
            let head = at % self.h;
            let (b, row) = (at / self.h / self.rows, at / self.h % self.rows);
            sorted[(b * self.h + head) * parts + of_row[row]].push(cell);
        }
        sorted
    }

    /// Where the number of a position of a row stands among those of all rows that have `len` positions.
    fn at(&self, b: usize, row: usize, len: usize, position: usize) -> usize {
        match self.along {
            Along::Rows => (b * self.rows + row) * len + position,
            Along::Columns => (b * len + position) * self.rows + row,
        }
    }

    /// Queries of a cell, contiguous.
    pub(super) fn queries<T: Real>(
        &self,
        of: &[T],
        [b, row, head]: Cell,
        queries: &Range<usize>,
        to: &mut [T],
    ) {
        for (i, to) in queries.clone().zip(to.chunks_exact_mut(self.d)) {
            let at = self.at(b, row, self.n, i) * self.h + head;
            to.copy_from_slice(&of[at * self.d..][..self.d]);
        }
    }

    /// Keys or values of a cell, contiguous; zeros for those that are shut.
    pub(super) fn keys<T: Real>(
        &self,
        of: &[T],
        [b, row, head]: Cell,
        shut: Option<&[bool]>,
        to: &mut [T],
    ) {
        for (j, to) in to.chunks_exact_mut(self.d).enumerate() {
            if shut.is_some_and(|shut| shut[j]) {
                to.fill(T::of(0.0));
                continue;
            }
            let at = self.at(b, row, self.t, j) * self.h + head;
            to.copy_from_slice(&of[at * self.d..][..self.d]);
        }
    }

    /// Which keys of a row are shut; whether all are.
    pub(super) fn shut(&self, mask: &[i64], b: usize, row: usize, to: &mut [bool]) -> bool {
        for (j, shut) in to.iter_mut().enumerate() {
            *shut = mask[self.at(b, row, self.t, j)] == 0;
        }
        to.iter().all(|shut| *shut)
    }

    /// The `[n, d]` numbers of every cell in a tensor like the queries.
    pub(super) fn queries_mut<'a, T: Real>(&self, of: &'a mut [T]) -> Vec<MatMut<'a, T>> {
        self.cells_mut(of, self.n)
    }

    /// The `[t, d]` numbers of every cell in a tensor like the keys.
    pub(super) fn keys_mut<'a, T: Real>(&self, of: &'a mut [T]) -> Vec<MatMut<'a, T>> {
        self.cells_mut(of, self.t)
    }

    /// A number for each query of every cell.
    pub(super) fn logs_mut<'a, T>(&self, of: &'a mut [T]) -> Vec<&'a mut [T]> {
        let mut all: Vec<&mut [T]> = of.chunks_mut(self.n.max(1)).collect();
        all.resize_with(self.b * self.rows * self.h, Default::default);
        all
    }

    /// The numbers of the queries of one cell.
    pub(super) fn logs<'a, T>(&self, of: &'a [T], [b, row, head]: Cell) -> &'a [T] {
        let at = (b * self.rows + row) * self.h + head;
        &of[at * self.n..][..self.n]
    }

    fn cells_mut<'a, T: Real>(&self, of: &'a mut [T], len: usize) -> Vec<MatMut<'a, T>> {
        let (width, mut all) = (self.h * self.d, Vec::new());
        let mut push = |mut rest: MatMut<'a, T>| {
            while rest.ncols() > 0 {
                let (cell, more) = rest.split_at_col_mut(self.d);
                all.push(cell);
                rest = more;
            }
        };
        for batch in of.chunks_exact_mut((self.rows * len * width).max(1)) {
            match self.along {
                Along::Rows => {
                    for row in batch.chunks_exact_mut((len * width).max(1)) {
                        push(MatMut::from_row_major_slice_mut(row, len, width));
                    }
                }
                Along::Columns => {
                    let columns = self.rows * width;
                    push(MatMut::from_row_major_slice_mut(batch, len, columns));
                }
            }
        }
        // where a row has no position it has a place all the same
        let cells = self.b * self.rows * self.h;
        all.resize_with(cells, || {
            MatMut::from_row_major_slice_mut(&mut [], 0, self.d)
        });
        all
    }

    /// The bias head by head, `[b, h, n, t]`.
    pub(super) fn by_head<T: Real>(&self, bias: &[T]) -> Vec<T> {
        let (n, t, h) = (self.n, self.t, self.h);
        let mut to = advect_engine::shard::buffer(bias.len());
        let tasks = to.chunks_mut((n * t).max(1)).enumerate().collect();
        each(tasks, |(at, to): (usize, &mut [T])| {
            let (b, head) = (at / h, at % h);
            for (i, to) in to.chunks_exact_mut(t.max(1)).enumerate() {
                for (j, to) in to.iter_mut().enumerate() {
                    *to = bias[self.pair(b, i, j) * h + head];
                }
            }
        });
        to
    }

    /// The sum of what every task has for the bias, in the order of the tasks, as the bias is.
    pub(super) fn sum_of_parts<T: Real>(&self, parts: &[T]) -> Vec<T> {
        let (n, t, h) = (self.n, self.t, self.h);
        let (each_head, pairs) = (self.parts(true), n * t);
        let mut to = advect_engine::shard::buffer(self.b * pairs * h);
        // the first dimension of a pair: queries, or keys
        let [outer, inner] = match self.along {
            Along::Rows => [n, t],
            Along::Columns => [t, n],
        };
        let tasks = to.chunks_mut((inner * h).max(1)).enumerate().collect();
        each(tasks, |(at, to): (usize, &mut [T])| {
            let (b, x) = (at / outer, at % outer);
            for (y, to) in to.chunks_exact_mut(h).enumerate() {
                let pair = match self.along {
                    Along::Rows => x * t + y,
                    Along::Columns => y * t + x,
                };
                for (head, to) in to.iter_mut().enumerate() {
                    let first = (b * h + head) * each_head;
                    *to = parts[first * pairs + pair];
                    for part in first + 1..first + each_head {
                        *to += parts[part * pairs + pair];
                    }
                }
            }
        });
        to
    }

    /// Where the pair of a query and a key stands among all pairs.
    fn pair(&self, b: usize, query: usize, key: usize) -> usize {
        match self.along {
            Along::Rows => (b * self.n + query) * self.t + key,
            Along::Columns => (b * self.t + key) * self.n + query,
        }
    }
}
