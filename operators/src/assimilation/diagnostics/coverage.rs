//! Coverage: how often the central 95 % interval of the ensemble holds the truth.
//!
//! The ends are the quantiles at plotting positions $k/(N+1)$, interpolated linearly; a truth
//! exchangeable with the members lies below the $k$-th of them with just that probability. Below
//! 39 members the positions 2.5 % and 97.5 % lie outside the ensemble: the interval is then the
//! whole range and its nominal level is $(N-1)/(N+1)$.

use serde::{Deserialize, Serialize};

/// The probability that the interval aims at.
pub const CENTRAL_LEVEL: f64 = 0.95;

/// Counts of truths inside the central interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    count: u64,
    inside: u64,
}

impl Coverage {
    /// Adds one cell: its members `sorted` upwards (`[N]`) and the `truth`.
    ///
    /// A single member has no interval and is not counted.
    pub fn add(&mut self, sorted: &[f64], truth: f64) {
        if sorted.len() < 2 {
            return;
        }
        let tail = (1.0 - CENTRAL_LEVEL) / 2.0;
        let range = quantile(sorted, tail)..=quantile(sorted, 1.0 - tail);
        self.count += 1;
        self.inside += u64::from(range.contains(&truth));
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.inside += other.inside;
    }

    /// The fraction inside; `None` without cells.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.inside as f64 / self.count as f64)
    }

    /// The coverage of a reliable ensemble of `members`.
    pub fn nominal(members: usize) -> f64 {
        let n = members as f64;
        CENTRAL_LEVEL.min((n - 1.0) / (n + 1.0))
    }
}

/// The quantile at `probability` with plotting positions $k/(N+1)$, held within the range.
fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let last = sorted.len() - 1;
    let position = (probability * (sorted.len() + 1) as f64 - 1.0).clamp(0.0, last as f64);
    let (from, fraction) = (position.floor() as usize, position.fract());
    sorted[from] + fraction * (sorted[(from + 1).min(last)] - sorted[from])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assimilation::{Purpose, stream};
    use crate::models::laws::normals;

    /// A reliable ensemble covers its nominal level, small or large.
    #[test]
    fn reliable_ensembles_reach_the_nominal_level() {
        let mut rng = stream(6, Purpose::Initial, 0);
        for n in [5, 20, 60] {
            let mut coverage = Coverage::default();
            for _ in 0..20_000 {
                let mut x = normals(&mut rng, n);
                x.sort_by(f64::total_cmp);
                coverage.add(&x, normals(&mut rng, 1)[0]);
            }
            let (got, nominal) = (coverage.value().unwrap(), Coverage::nominal(n));
            assert!(
                (got - nominal).abs() < 0.01,
                "{n} members: {got} against {nominal}"
            );
        }
    }

    /// The nominal level of ten members is 9/11, of a hundred 0.95.
    #[test]
    fn nominal_levels() {
        assert!((Coverage::nominal(10) - 9.0 / 11.0).abs() < 1e-15);
        assert_eq!(Coverage::nominal(100), CENTRAL_LEVEL);
    }
}
