//! Products of matrices with many rows, shared between threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::threads::each;
use crate::network::real::Real;

/// Rows that are taken at once: what is done to a block of a product finds it in the caches.
pub(crate) const ROWS: usize = 256;
/// Rows and columns of a task of a product over rows.
const TILE: [usize; 2] = [256, 512];

/// `to = a b` or `to += a b`, times `scale`, on this thread.
pub(crate) fn multiply<T: Real>(
    to: MatMut<'_, T>,
    how: Accum,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    scale: T,
) {
    matmul(to, how, a, b, scale, Par::Seq);
}

/// `y = x w`, by blocks of rows.
pub(crate) fn by_rows<T: Real>(x: MatRef<'_, T>, w: MatRef<'_, T>, y: &mut [T]) {
    let width = w.ncols();
    let blocks = y.chunks_mut((ROWS * width).max(1)).enumerate().collect();
    each(blocks, |(at, y): (usize, &mut [T])| {
        block_of_rows(x, w, at, y);
    });
}

/// Block `at` of the rows of `x w`.
pub(crate) fn block_of_rows<T: Real>(x: MatRef<'_, T>, w: MatRef<'_, T>, at: usize, y: &mut [T]) {
    let (rows, width) = (y.len() / w.ncols().max(1), w.ncols());
    let y = MatMut::from_row_major_slice_mut(y, rows, width);
    let x = x.subrows(at * ROWS, rows);
    multiply(y, Accum::Replace, x, w, T::of(1.0));
}

/// `to += aᵀ b`, by tiles of `to` and in each by blocks of rows.
pub(crate) fn over_rows<T: Real>(a: MatRef<'_, T>, b: MatRef<'_, T>, to: &mut [T]) {
    let (height, width) = (a.ncols(), b.ncols());
    let mut rest = MatMut::from_row_major_slice_mut(to, height, width);
    let mut tiles = Vec::new();
    for row in (0..height).step_by(TILE[0]) {
        let (mut band, below) = rest.split_at_row_mut(TILE[0].min(height - row));
        rest = below;
        for column in (0..width).step_by(TILE[1]) {
            let (tile, beside) = band.split_at_col_mut(TILE[1].min(width - column));
            band = beside;
            tiles.push((row, column, tile));
        }
    }
    each(
        tiles,
        |(row, column, mut tile): (usize, usize, MatMut<'_, T>)| {
            let (a, b) = (
                a.subcols(row, tile.nrows()),
                b.subcols(column, tile.ncols()),
            );
            for first in (0..a.nrows()).step_by(2 * ROWS) {
                let rows = (2 * ROWS).min(a.nrows() - first);
                let (a, b) = (a.subrows(first, rows), b.subrows(first, rows));
                multiply(tile.as_mut(), Accum::Add, a.transpose(), b, T::of(1.0));
            }
        },
    );
}
