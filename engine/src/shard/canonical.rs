//! Numbers whose sums have no order.

use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};

use bytemuck::{Pod, Zeroable};

/// Double precision in which terms are added on a grid: `+=` brings the term to the nearest multiple of
/// $2^{-34}$ first, so that sums below $2^{19}$ are exact, and the same in any order and any grouping.
///
/// What is added up over samples, positions, columns or heads, and then over workers, has therefore the same
/// bits however these are cut. That is how ocean models make their budgets independent of the number of
/// processors: Hallberg and Adcroft (2014), *An order-invariant real-to-integer conversion sum*. Here the
/// multiples stay in a double, which adds as fast as others.
///
/// A term above [`Canonical::LARGEST`] and a sum, of parts too, from [`Canonical::BOUND`] on become NaN, so that
/// no sum is silently another one. `+`, `-`, `*` and `/` are those of `f64`: they belong to one element, not to
/// a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct Canonical(pub f64);

// SAFETY: it is an f64 and nothing else.
unsafe impl Zeroable for Canonical {}
// SAFETY: as above.
unsafe impl Pod for Canonical {}

impl Canonical {
    /// The distance of numbers on the grid.
    pub const STEP: f64 = 1.0 / (1_u64 << 34) as f64;
    /// The largest term.
    pub const LARGEST: f64 = (1_u64 << 17) as f64;
    /// Sums below this are exact, if those of their parts are below it.
    pub const BOUND: f64 = (1_u64 << 19) as f64;
    /// Numbers beside this one are a step apart: to add and subtract it rounds to the grid.
    const ANCHOR: f64 = 1.5 * (1_u64 << 18) as f64;

    /// The nearest number on the grid.
    #[inline(always)]
    #[must_use]
    pub fn on_grid(self) -> Self {
        Self::within((self.0 + Self::ANCHOR) - Self::ANCHOR)
    }

    /// `self a` on the grid, plus `sum`.
    #[inline(always)]
    #[must_use]
    pub fn product_onto(self, a: Self, sum: Self) -> Self {
        let term = self.0.mul_add(a.0, Self::ANCHOR) - Self::ANCHOR;
        Self::exact(sum.0 + Self::within(term).0)
    }

    /// The sum of two sums.
    #[inline(always)]
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self::exact(self.0 + other.0)
    }

    #[inline(always)]
    fn exact(sum: f64) -> Self {
        Canonical(if sum.abs() < Self::BOUND {
            sum
        } else {
            f64::NAN
        })
    }

    #[inline(always)]
    fn within(term: f64) -> Self {
        Canonical(if term.abs() <= Self::LARGEST {
            term
        } else {
            f64::NAN
        })
    }
}

impl AddAssign for Canonical {
    #[inline(always)]
    fn add_assign(&mut self, term: Self) {
        *self = Self::exact(self.0 + term.on_grid().0);
    }
}

macro_rules! of_an_element {
    ($($trait:ident $method:ident $op:tt),*) => {$(
        impl $trait for Canonical {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Canonical(self.0 $op other.0)
            }
        }
    )*};
}
of_an_element!(Add add +, Sub sub -, Mul mul *, Div div /);

impl MulAssign for Canonical {
    #[inline(always)]
    fn mul_assign(&mut self, other: Self) {
        self.0 *= other.0;
    }
}

impl DivAssign for Canonical {
    #[inline(always)]
    fn div_assign(&mut self, other: Self) {
        self.0 /= other.0;
    }
}

impl Neg for Canonical {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Canonical(-self.0)
    }
}

impl From<Canonical> for f64 {
    fn from(number: Canonical) -> f64 {
        number.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Terms of many magnitudes, from `seed` on.
    fn terms(seed: u64, n: usize) -> Vec<Canonical> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let term = |_| Canonical((next() - 0.5) * 10f64.powf(8.0 * next() - 6.0));
        (0..n).map(term).collect()
    }

    fn sum(terms: &[Canonical]) -> Canonical {
        let mut sum = Canonical(0.0);
        terms.iter().for_each(|&term| sum += term);
        sum
    }

    /// Sums forward, backward, and of parts of any size have the same bits, and are right to a half step a
    /// term; those of plain doubles differ.
    #[test]
    fn sums_have_no_order() {
        for seed in 0..20 {
            let terms = terms(seed, 1000);
            let forward = sum(&terms);
            let plain: f64 = terms.iter().map(|t| t.0).sum();
            assert!((forward.0 - plain).abs() <= 500.0 * Canonical::STEP);
            let backward: Vec<Canonical> = terms.iter().rev().copied().collect();
            assert_eq!(forward.0.to_bits(), sum(&backward).0.to_bits());
            for size in [1, 3, 7, 333] {
                let parts: Vec<Canonical> = terms.chunks(size).map(sum).collect();
                assert_eq!(forward.0.to_bits(), sum(&parts).0.to_bits());
            }
        }
        let other: f64 = terms(0, 1000).iter().rev().map(|t| t.0).sum();
        let plain: f64 = terms(0, 1000).iter().map(|t| t.0).sum();
        assert_ne!(plain.to_bits(), other.to_bits());
    }

    /// Halves of a step go to the even side whatever the sum is: products too.
    #[test]
    fn ties_do_not_depend_on_the_sum() {
        let half = Canonical(Canonical::STEP / 2.0);
        for sum in [0.0, Canonical::STEP, 1.0, 1.0 + Canonical::STEP] {
            let mut added = Canonical(sum);
            added += half;
            assert_eq!(added.0, sum);
            assert_eq!(half.product_onto(Canonical(1.0), Canonical(sum)).0, sum);
        }
    }

    /// What is too large is no number.
    #[test]
    fn refuse_what_is_too_large() {
        assert!(Canonical(Canonical::LARGEST).on_grid().0.is_finite());
        for large in [Canonical::LARGEST * 1.01, -1e6, 1e300, f64::INFINITY] {
            assert!(Canonical(large).on_grid().0.is_nan(), "{large}");
            let product = Canonical(large).product_onto(Canonical(1.0), Canonical(0.0));
            assert!(product.0.is_nan(), "{large}");
        }
        // a sum that comes back from where it was not exact
        let mut sum = Canonical(0.0);
        for term in [1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0] {
            sum += Canonical(term * Canonical::LARGEST);
        }
        assert!(sum.0.is_nan());
        let half = Canonical(Canonical::BOUND / 2.0);
        assert!(half.merged(half).0.is_nan());
    }
}
