//! The fair continuous ranked probability score.
//!
//! $$\text{CRPS} = \frac1N \sum_j |x_j - y| - \frac{1}{2N(N-1)} \sum_{j,k} |x_j - x_k|,$$
//!
//! whose expectation does not depend on the size of a reliable ensemble (Ferro 2014, equation 5).

use serde::{Deserialize, Serialize};

/// The mean fair CRPS of the cells that were added, in the unit of the variable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct FairCrps {
    count: u64,
    sum: f64,
}

impl FairCrps {
    /// Adds one cell: its members `sorted` upwards (`[N]`, at least two) and the `truth`.
    ///
    /// A single member has no fair score and is not counted.
    pub fn add(&mut self, sorted: &[f64], truth: f64) {
        let n = sorted.len();
        if n < 2 {
            return;
        }
        let mut error = 0.0;
        // In sorted order the member of rank i stands in i differences with plus and in
        // N - 1 - i with minus, so that one pass replaces N² differences.
        let mut pairs = 0.0;
        for (i, x) in sorted.iter().enumerate() {
            error += (x - truth).abs();
            pairs += (2.0 * i as f64 - (n - 1) as f64) * x;
        }
        self.count += 1;
        self.sum += error / n as f64 - pairs / (n * (n - 1)) as f64;
    }

    /// Adds the sums of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
    }

    /// The mean score; `None` without cells.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assimilation::{Purpose, stream};
    use crate::models::laws::normals;

    /// The sorted form equals the definition.
    #[test]
    fn equals_the_definition() {
        let mut rng = stream(2, Purpose::Initial, 0);
        for n in [2, 3, 10] {
            let mut x = normals(&mut rng, n);
            x.sort_by(f64::total_cmp);
            let truth = normals(&mut rng, 1)[0];
            let size = n as f64;
            let error: f64 = x.iter().map(|x| (x - truth).abs()).sum();
            let pairs: f64 = x
                .iter()
                .flat_map(|a| x.iter().map(move |b| (a - b).abs()))
                .sum();
            let expected = error / size - pairs / (2.0 * size * (size - 1.0));
            let mut score = FairCrps::default();
            score.add(&x, truth);
            assert!((score.value().unwrap() - expected).abs() < 1e-14);
        }
    }

    /// Fairness: for a reliable ensemble the mean score does not depend on the ensemble's size;
    /// for standard normal numbers it is $1/\sqrt\pi$.
    #[test]
    fn is_fair() {
        let mut rng = stream(4, Purpose::Initial, 0);
        for n in [2, 20] {
            let mut score = FairCrps::default();
            for _ in 0..40_000 {
                let mut x = normals(&mut rng, n);
                let truth = normals(&mut rng, 1)[0];
                x.sort_by(f64::total_cmp);
                score.add(&x, truth);
            }
            let expected = 1.0 / std::f64::consts::PI.sqrt();
            assert!(
                (score.value().unwrap() - expected).abs() < 0.015,
                "{n}: {score:?}"
            );
        }
    }
}
