//! Products of matrices with many rows, shared between threads.

use faer::{Accum, MatMut, MatRef};

use super::threads::each;
use crate::network::real::Real;

/// Rows that are taken at once: what is done to a block of a product finds it in the caches.
pub(crate) const ROWS: usize = 512;
/// Rows and columns of a task of a product over rows, at most.
const TILE: [usize; 2] = [256, 1024];

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
    T::multiply(y, Accum::Replace, x, w, T::of(1.0));
}

/// `to += aᵀ b`, by tiles of `to`.
pub(crate) fn over_rows<T: Real>(a: MatRef<'_, T>, b: MatRef<'_, T>, to: &mut [T]) {
    let (height, width) = (a.ncols(), b.ncols());
    // an even number of bands, so that two threads have the same to do
    let bands = height.div_ceil(TILE[0]).next_multiple_of(2);
    let tall = height.div_ceil(bands.max(1)).max(1);
    let mut rest = MatMut::from_row_major_slice_mut(to, height, width);
    let mut tiles = Vec::new();
    for row in (0..height).step_by(tall) {
        let (mut band, below) = rest.split_at_row_mut(tall.min(height - row));
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
            T::multiply(tile.as_mut(), Accum::Add, a.transpose(), b, T::of(1.0));
        },
    );
}
