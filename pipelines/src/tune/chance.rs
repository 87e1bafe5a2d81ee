//! The chance that a trial reaches its end, from those that did and those that did not.
//!
//! Every trial votes by how near it was, and a belief stands where none is near:
//!
//! $$ p(x) = \frac{g + \sum_i k(x, x_i)\, s_i}{g + b + \sum_i k(x, x_i)\, (s_i + 3 (1 - s_i))} $$
//!
//! with $s_i$ = 1 for a success and 0 for a failure, the kernel of the surrogate, and g and b the trials that
//! are believed to have gone well and badly. Lengths are those by which trials would have told each other best.

use super::surrogate::matern;

/// Trials that are believed to have succeeded, and failed, before any has run.
const BELIEVED: [f64; 2] = [0.27, 0.03];
/// Votes of a failure: what lacks memory once lacks it again, where a success says less of what is larger.
const AGAINST: f64 = 3.0;
/// Lengths that are tried for a feature: from one that counts to one that does not.
const LENGTHS: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 16.0];
/// The length of a feature of which nothing is known.
const UNKNOWN: f64 = 4.0;
/// Passes over all features.
const PASSES: usize = 3;

/// Trials that ended, and how near is near.
#[derive(Debug, Clone, PartialEq)]
pub struct Votes<'a> {
    trials: Vec<(&'a [f64], bool)>,
    lengths: Vec<f64>,
}

impl<'a> Votes<'a> {
    /// The votes of `trials`, each a point and whether it succeeded.
    pub fn new(trials: Vec<(&'a [f64], bool)>) -> Self {
        let features = trials.first().map_or(0, |(point, _)| point.len());
        let mut votes = Votes {
            trials,
            lengths: vec![UNKNOWN; features],
        };
        if votes.trials.iter().all(|(_, succeeded)| *succeeded) {
            return votes;
        }
        let mut cost = votes.surprise();
        for _ in 0..PASSES {
            let before = cost;
            for feature in 0..features {
                for length in LENGTHS {
                    let kept = std::mem::replace(&mut votes.lengths[feature], length);
                    let other = votes.surprise();
                    match other < cost - 1e-9 {
                        true => cost = other,
                        false => votes.lengths[feature] = kept,
                    }
                }
            }
            if before - cost < 1e-6 {
                break;
            }
        }
        votes
    }

    /// Minus the logarithm of what the others say of every trial, and of a log-normal prior of lengths.
    fn surprise(&self) -> f64 {
        let told = (0..self.trials.len()).map(|i| {
            let (point, succeeded) = self.trials[i];
            let chance = self.without(point, Some(i));
            -(if succeeded { chance } else { 1.0 - chance }).ln()
        });
        let away = self
            .lengths
            .iter()
            .map(|l| 0.25 * (l / UNKNOWN).ln().powi(2));
        told.sum::<f64>() + away.sum::<f64>()
    }

    /// The chance of a trial at `point`.
    pub fn chance(&self, point: &[f64]) -> f64 {
        self.without(point, None)
    }

    fn without(&self, point: &[f64], left_out: Option<usize>) -> f64 {
        let [mut good, mut bad] = BELIEVED;
        for (i, (other, succeeded)) in self.trials.iter().enumerate() {
            if left_out == Some(i) {
                continue;
            }
            let scaled = point.iter().zip(*other).zip(&self.lengths);
            let square: f64 = scaled.map(|((x, y), l)| ((x - y) / l).powi(2)).sum();
            let vote = matern(square.sqrt());
            match succeeded {
                true => good += vote,
                false => bad += AGAINST * vote,
            }
        }
        good / (good + bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failure makes its neighbours less likely, a success more, and neither says much of what is far.
    #[test]
    fn neighbours_vote() {
        let (here, beside, far) = ([0.0, 0.0], [1.0, 0.0], [190.0, 190.0]);
        let after = |at: &[f64], good: bool| Votes::new(vec![(&here[..], good)]).chance(at);
        assert!((Votes::new(Vec::new()).chance(&here) - 0.9).abs() < 1e-12);
        assert!(after(&here, false) < after(&beside, false));
        assert!(after(&beside, false) < 0.3 && after(&beside, true) > 0.9);
        assert!((after(&far, false) - 0.9).abs() < 1e-6);
    }

    /// Where one of two features decides, trials tell others of the same value of it, and no other.
    #[test]
    fn what_decides_is_learned() {
        let grid = (0..12).map(|n| [f64::from(n % 3), f64::from(n / 3)]);
        let grid: Vec<[f64; 2]> = grid.collect();
        let trials = grid.iter().map(|p| (&p[..], p[0] < 2.0));
        let votes = Votes::new(trials.collect());
        assert!(votes.lengths[0] < votes.lengths[1], "{votes:?}");
        let far = [0.0, 2.0].map(|x| votes.chance(&[x, 5.0]));
        assert!(far[0] > 0.9 && far[1] < 0.2, "{far:?} {votes:?}");
    }
}
