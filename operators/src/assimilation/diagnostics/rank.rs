//! The rank histogram: where the truth falls among the sorted members.
//!
//! A reliable ensemble of $N$ members gives $N+1$ equally likely ranks; a U shape shows too
//! little spread, a slope shows bias (Hamill 2001).

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::assimilation::Stream;

/// Counts of the $N+1$ ranks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankHistogram {
    counts: Vec<u64>,
}

impl RankHistogram {
    /// An empty histogram for ensembles of `members`.
    pub fn new(members: usize) -> Self {
        Self {
            counts: vec![0; members + 1],
        }
    }

    /// Adds one cell: its members `sorted` upwards (`[N]`) and the `truth`; ties are broken at
    /// random by `stream`, uniformly over the ranks that the truth shares.
    pub fn add(&mut self, sorted: &[f64], truth: f64, stream: &mut Stream) {
        let below = sorted.partition_point(|x| *x < truth);
        let ties = sorted[below..].partition_point(|x| *x <= truth);
        let rank = below
            + if ties == 0 {
                0
            } else {
                stream.random_range(0..=ties)
            };
        if let Some(count) = self.counts.get_mut(rank) {
            *count += 1;
        }
    }

    /// Adds the counts of `other`; both must count ensembles of one size.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(
            self.counts.len(),
            other.counts.len(),
            "ensembles of one size only"
        );
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(a, b)| *a += b);
    }

    /// The counts, `[N + 1]`, rank 0 (truth below all members) first.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// $\chi^2 = \sum_r (c_r - e)^2 / e$ with $e$ the mean count; about $N$ for a flat histogram
    /// of independent cells. `None` without cells.
    pub fn chi_squared(&self) -> Option<f64> {
        let total: u64 = self.counts.iter().sum();
        (total > 0).then(|| {
            let expected = total as f64 / self.counts.len() as f64;
            self.counts
                .iter()
                .map(|c| (*c as f64 - expected).powi(2) / expected)
                .sum()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assimilation::{Purpose, stream};
    use crate::models::laws::normals;

    /// A reliable ensemble is flat and a narrow one is not, also when rounding makes many ties.
    #[test]
    fn tells_reliable_from_narrow() {
        let mut rng = stream(9, Purpose::Ties, 0);
        let mut chi = |scale: f64| {
            let mut histogram = RankHistogram::new(9);
            for _ in 0..5_000 {
                let mut x: Vec<f64> = normals(&mut rng, 9)
                    .iter()
                    .map(|v| (scale * v).round())
                    .collect();
                x.sort_by(f64::total_cmp);
                let truth = normals(&mut rng, 1)[0].round();
                histogram.add(&x, truth, &mut rng);
            }
            histogram.chi_squared().unwrap()
        };
        let (reliable, narrow) = (chi(1.0), chi(0.5));
        // The 0.999 quantile of χ² with 9 degrees of freedom is 27.9.
        assert!(reliable < 27.9, "{reliable}");
        assert!(narrow > 100.0, "{narrow}");
    }

    /// The ends: a truth below or above all members.
    #[test]
    fn counts_the_ends() {
        let mut rng = stream(9, Purpose::Ties, 1);
        let mut histogram = RankHistogram::new(2);
        histogram.add(&[1.0, 2.0], 0.0, &mut rng);
        histogram.add(&[1.0, 2.0], 3.0, &mut rng);
        histogram.add(&[1.0, 2.0], 1.5, &mut rng);
        assert_eq!(histogram.counts(), [1, 1, 1]);
        assert_eq!(histogram.chi_squared(), Some(0.0));
    }
}
