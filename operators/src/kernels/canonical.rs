//! Products of matrices whose sums have no order.

use advect_engine::Canonical;
use faer::{Accum, MatMut, MatRef};

use super::wide;
use crate::network::real::Real;

/// Rows of the result that are taken at once.
const ROWS: usize = 4;

/// `to = a b` or `to += a b`, times `scale`: every term is brought to the grid, so that an element does
/// not know how rows, columns or the sum are cut.
pub(crate) fn multiply(
    mut to: MatMut<'_, Canonical>,
    how: Accum,
    a: MatRef<'_, Canonical>,
    b: MatRef<'_, Canonical>,
    scale: Canonical,
) {
    let (depth, width) = (a.ncols(), b.ncols());
    let mut rows = Vec::with_capacity(depth * width);
    for k in 0..depth {
        rows.extend((0..width).map(|j| *b.get(k, j)));
    }
    let mut factors = vec![Canonical(0.0); ROWS * depth];
    let mut sums = vec![Canonical(0.0); ROWS * width];
    for first in (0..a.nrows()).step_by(ROWS) {
        let here = ROWS.min(a.nrows() - first);
        for (k, factors) in factors.chunks_exact_mut(ROWS).enumerate() {
            for (i, factor) in factors.iter_mut().take(here).enumerate() {
                *factor = scale * *a.get(first + i, k);
            }
        }
        sums.fill(Canonical(0.0));
        if width > 0 {
            add_products(&factors, &rows, &mut sums);
        }
        for i in 0..here {
            for (j, &sum) in sums[i * width..][..width].iter().enumerate() {
                let to = to.as_mut().get_mut(first + i, j);
                *to = match how {
                    Accum::Replace => sum,
                    Accum::Add => to.merged(sum),
                };
            }
        }
    }
}

wide! {
    /// Adds the products of four factors with each row to four rows of sums.
    fn add_products<T: Real>(factors: &[T], rows: &[T], sums: &mut [T]) {
        let width = sums.len() / ROWS;
        let (s0, rest) = sums.split_at_mut(width);
        let (s1, rest) = rest.split_at_mut(width);
        let (s2, s3) = rest.split_at_mut(width);
        for (f, row) in factors.chunks_exact(ROWS).zip(rows.chunks_exact(width)) {
            let sums = s0.iter_mut().zip(s1.iter_mut()).zip(s2.iter_mut()).zip(s3.iter_mut());
            for (&x, (((s0, s1), s2), s3)) in row.iter().zip(sums) {
                *s0 = f[0].times_plus(x, *s0);
                *s1 = f[1].times_plus(x, *s1);
                *s2 = f[2].times_plus(x, *s2);
                *s3 = f[3].times_plus(x, *s3);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: usize, n: usize) -> Vec<Canonical> {
        let number = |i| Canonical((((i * 37 + seed * 101) % 199) as f64 - 99.0) / 71.0);
        (0..n).map(number).collect()
    }

    fn product(a: &[Canonical], b: &[Canonical], [m, k, n]: [usize; 3]) -> Vec<Canonical> {
        let mut to = vec![Canonical(7.0); m * n];
        let matrix = MatMut::from_row_major_slice_mut(&mut to, m, n);
        let (a, b) = (
            MatRef::from_row_major_slice(a, m, k),
            MatRef::from_row_major_slice(b, k, n),
        );
        multiply(matrix, Accum::Replace, a, b, Canonical(0.5));
        to
    }

    /// Any number of rows and columns, and the parts of a cut sum, have the bits of the whole, which is right.
    #[test]
    fn products_do_not_know_how_they_are_cut() {
        for [m, k, n] in [[1, 1, 1], [5, 7, 3], [4, 16, 9], [6, 0, 2]] {
            let (a, b) = (numbers(1, m * k), numbers(2, k * n));
            let whole = product(&a, &b, [m, k, n]);
            for i in 0..m {
                let row = product(&a[i * k..][..k], &b, [1, k, n]);
                assert_eq!(whole[i * n..][..n], row[..]);
                for j in 0..n {
                    let terms = (0..k).map(|l| 0.5 * a[i * k + l].0 * b[l * n + j].0);
                    let error = (whole[i * n + j].0 - terms.sum::<f64>()).abs();
                    assert!(error <= k as f64 * Canonical::STEP, "{error}");
                }
            }
            let cut = k / 3;
            let left = |range: std::ops::Range<usize>| -> Vec<Canonical> {
                let rows = (0..m).flat_map(|i| a[i * k..][range.clone()].to_vec());
                rows.collect()
            };
            let parts = [
                product(&left(0..cut), &b[..cut * n], [m, cut, n]),
                product(&left(cut..k), &b[cut * n..], [m, k - cut, n]),
            ];
            for (i, &whole) in whole.iter().enumerate() {
                assert_eq!(whole, parts[0][i] + parts[1][i]);
            }
        }
    }

    /// A sum that is too large to be exact is no number.
    #[test]
    fn refuse_sums_that_are_too_large() {
        let (a, b) = (vec![Canonical(300.0); 8], vec![Canonical(300.0); 8]);
        assert!(product(&a, &b, [1, 8, 1])[0].0.is_finite());
        let (a, b) = (vec![Canonical(400.0); 8], vec![Canonical(400.0); 8]);
        assert!(product(&a, &b, [1, 8, 1])[0].0.is_nan());
    }
}
