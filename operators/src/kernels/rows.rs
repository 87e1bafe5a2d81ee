//! Sums and maxima of a row in a fixed number of lanes.

use crate::network::real::Real;

/// Lanes that are summed side by side; what is left over goes to the first ones.
const LANES: usize = 16;

/// The lanes of a fold, added pairwise.
#[inline(always)]
fn fold<T: Real>(mut lanes: [T; LANES], merge: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = merge(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of `x`.
#[inline(always)]
pub(crate) fn sum<T: Real>(x: &[T]) -> T {
    sum_of(x, |x| x)
}

/// The sum of `f` of `x`.
#[inline(always)]
pub(crate) fn sum_of<T: Real>(x: &[T], f: impl Fn(T) -> T) -> T {
    let mut lanes = [T::of(0.0); LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += f(chunk[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    fold(lanes, |a, b| a + b)
}

/// Replaces `x` by $e^{x - top}$, and gives their sum.
#[inline(always)]
pub(crate) fn weigh<T: Real>(x: &mut [T], top: T) -> T {
    let mut lanes = [T::of(0.0); LANES];
    let mut chunks = x.chunks_exact_mut(LANES);
    for chunk in chunks.by_ref() {
        for i in 0..LANES {
            chunk[i] = (chunk[i] - top).exponential();
            lanes[i] += chunk[i];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *x = (*x - top).exponential();
        *lane += *x;
    }
    fold(lanes, |a, b| a + b)
}

/// The sum of the products of `x` and `y`.
#[inline(always)]
pub(crate) fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    let mut lanes = [T::of(0.0); LANES];
    let n = x.len().min(y.len());
    let (x, y) = (x[..n].chunks_exact(LANES), y[..n].chunks_exact(LANES));
    let rest = x.remainder().iter().zip(y.remainder());
    for (x, y) in x.zip(y) {
        for i in 0..LANES {
            lanes[i] = x[i].times_plus(y[i], lanes[i]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(rest) {
        *lane = x.times_plus(y, *lane);
    }
    fold(lanes, |a, b| a + b)
}

/// The highest of `x` and `floor`.
#[inline(always)]
pub(crate) fn highest<T: Real>(x: &[T], floor: T) -> T {
    let higher = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [floor; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = higher(lanes[i], chunk[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = higher(*lane, x);
    }
    fold(lanes, higher)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of every length up to four times the lanes, compared with exact sums of small integers.
    #[test]
    fn rows_of_every_length() {
        for n in 0..4 * LANES {
            let x: Vec<f32> = (0..n).map(|i| ((i * 7 + n) % 13) as f32 - 6.0).collect();
            let y: Vec<f32> = (0..n).map(|i| ((i * 5 + 3) % 11) as f32).collect();
            assert_eq!(sum(&x), x.iter().sum::<f32>());
            assert_eq!(
                dot(&x, &y),
                x.iter().zip(&y).map(|(x, y)| x * y).sum::<f32>()
            );
            let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(highest(&x, f32::NEG_INFINITY), most);
            assert_eq!(highest(&x, 99.0), 99.0);
        }
    }
}
