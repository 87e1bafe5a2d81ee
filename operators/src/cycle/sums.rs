//! Exact sums: the information of observations at a cell as a group element.
//!
//! $(A, b)$ of [`Information`], with departures and predicted
//! anomalies in units of the observation error. Rows and tapers are rounded once to steps of
//! $2^{-24}$; their products and sums are then exact integers in an `i128`. Addition is associative
//! and commutative to the bit and every element has an inverse, so that sums may be merged in any
//! order on any worker, and an observation that is retracted leaves no trace. As a *difference* of
//! differential dataflow it is what the arrangement of local sums accumulates.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};

use crate::OperatorError;
use crate::assimilation::Information;

/// Steps in which rows and tapers are kept.
const STEP: f64 = (1u64 << 24) as f64;
/// Rows are clipped here, in observation errors: no report that passed the checks comes near, and
/// the products then fit.
const CLIP: f64 = 8192.0;
/// Unit of the sums: two factors of a row and a taper.
const UNIT: f64 = STEP * STEP * STEP;

/// What one observation contributes to every cell that hears it, but for the taper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    anomalies: Vec<i64>,
    departure: i64,
}

impl Row {
    /// Predicted anomalies (`[N]`) and the departure, with the standard deviation `error` of the
    /// observation in the same unit.
    pub fn new(anomalies: &[f64], departure: f64, error: f64) -> Self {
        let steps = |x: f64| ((x / error).clamp(-CLIP, CLIP) * STEP).round() as i64;
        Row {
            anomalies: anomalies.iter().map(|&y| steps(y)).collect(),
            departure: steps(departure),
        }
    }
}

/// Exact sums of observation information; no terms at all is zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Sums {
    terms: Vec<i128>,
}

impl Sums {
    /// Adds (`sign` 1) or retracts (`sign` −1) one observation heard with `taper` in 0..1.
    pub fn add(&mut self, row: &Row, taper: f64, sign: i64) {
        let y = row.anomalies.as_slice();
        let len = Information::len(y.len());
        if self.terms.len() < len {
            self.terms.resize(len, 0);
        }
        let weight = sign * (taper.clamp(0.0, 1.0) * STEP).round() as i64;
        let mut rest = self.terms.as_mut_slice();
        for (i, &a) in y.iter().enumerate() {
            // below 2^24 · 2^37: fits, and the product with one more factor fits an i128
            let scaled = i128::from(weight * a);
            let (terms, below) = rest.split_at_mut(y.len() - i);
            for (term, &b) in terms.iter_mut().zip(&y[i..]) {
                *term += scaled * i128::from(b);
            }
            rest = below;
        }
        let scaled = i128::from(weight * row.departure);
        for (term, &a) in rest.iter_mut().zip(y) {
            *term += scaled * i128::from(a);
        }
    }

    /// The sums in floating point, for `members` members.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Shape`] if they were made for another number of members.
    pub fn information(&self, members: usize) -> Result<Information, OperatorError> {
        if self.terms.is_empty() {
            return Ok(Information::none(members));
        }
        let sums = self.terms.iter().map(|&t| t as f64 / UNIT).collect();
        Information::try_from_sums(members, sums)
    }
}

impl IsZero for Sums {
    fn is_zero(&self) -> bool {
        self.terms.iter().all(|&t| t == 0)
    }
}

impl Semigroup for Sums {
    fn plus_equals(&mut self, other: &Self) {
        if self.terms.len() < other.terms.len() {
            self.terms.resize(other.terms.len(), 0);
        }
        for (a, b) in self.terms.iter_mut().zip(&other.terms) {
            *a += b;
        }
    }
}

impl Monoid for Sums {
    fn zero() -> Self {
        Sums::default()
    }
}

impl Abelian for Sums {
    fn negate(&mut self) {
        for t in &mut self.terms {
            *t = -*t;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(k: usize) -> (Vec<f64>, f64, f64) {
        let y = (0..5)
            .map(|i| ((k * 5 + i) as f64 * 0.77).sin() * 3.0)
            .collect();
        (y, (k as f64).cos() * 4.0, (k % 7) as f64 / 7.0)
    }

    /// What was added and retracted is gone to the bit, in any order.
    #[test]
    fn retraction_leaves_no_trace() {
        let sum = |steps: &[(usize, i64)]| {
            let mut s = Sums::zero();
            for &(k, sign) in steps {
                let (y, d, taper) = row(k);
                s.add(&Row::new(&y, d, 1.5), taper, sign);
            }
            s
        };
        let plain = sum(&[(0, 1), (1, 1), (2, 1)]);
        assert_eq!(
            plain,
            sum(&[(9, 1), (2, 1), (1, 1), (8, 1), (9, -1), (0, 1), (8, -1)])
        );
        assert!(sum(&[(4, 1), (4, -1)]).is_zero());
        let mut merged = sum(&[(2, 1)]);
        merged.plus_equals(&sum(&[(0, 1), (1, 1)]));
        assert_eq!(merged, plain);
        merged.negate();
        merged.plus_equals(&plain);
        assert!(merged.is_zero());
    }

    /// The sums equal those in floating point to what rounding the rows allows.
    #[test]
    fn fixed_point_is_fine_enough() {
        let (mut exact, mut plain) = (Sums::zero(), Information::none(5));
        for k in 0..500 {
            let (y, d, taper) = row(k);
            exact.add(&Row::new(&y, d, 1.5), taper, 1);
            plain.add(&y, d, taper / (1.5 * 1.5));
        }
        for (a, b) in exact
            .information(5)
            .unwrap()
            .sums()
            .iter()
            .zip(plain.sums())
        {
            assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{a} {b}");
        }
        assert!(exact.information(6).is_err());
    }

    /// The largest row and taper do not overflow.
    #[test]
    fn extremes_fit() {
        let mut s = Sums::zero();
        let row = Row::new(&[1e300, -1e300], 1e300, 1e-3);
        for _ in 0..1000 {
            s.add(&row, 2.0, 1);
        }
        let sums = s.information(2).unwrap();
        assert_eq!(sums.sums()[0], 1000.0 * CLIP * CLIP);
    }
}
