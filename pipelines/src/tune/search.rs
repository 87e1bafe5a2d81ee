//! Which candidate is tried next. Nothing here runs anything: it is asked and told.
//!
//! The first trials are the planner's first choice and a few that are drawn, faster ones more often. From
//! then on a trial goes where the expected improvement of the logarithm of time, times the chance of
//! success, is largest. Trials in flight count as if they had ended where the surrogate expects them: the
//! kriging believer of Ginsbourger et al. (2010). So a new one starts whenever one ends.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::acquire::improvement;
use super::chance::Votes;
use super::surrogate::Posterior;

/// Trials before the surrogate chooses.
const STARTS: usize = 3;
/// Trials that were measured before the search may end by itself.
const ENOUGH: usize = 8;
/// An expected improvement that is worth no trial, as a part of the time of a step.
pub const LEAST: f64 = 0.005;

/// A candidate as the search sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its features.
    pub features: Vec<f64>,
    /// Seconds of a step that are predicted, above 0.
    pub predicted: f64,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Seconds of a step that were measured, above 0.
    Took(f64),
    /// It did not reach its end.
    Failed,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// Try this candidate; of those that the surrogate chose, the part of a step that it may save.
    Try(usize, Option<f64>),
    /// Wait for a trial in flight: it may change what is worth one.
    Wait,
    /// Nothing is left that is worth a trial.
    End(End),
}

/// Why there is nothing left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// Every candidate was tried.
    All,
    /// The largest part of a step that any other is expected to save.
    Gain(f64),
}

/// The state of a search.
#[derive(Debug, Clone)]
pub struct Search {
    points: Vec<Point>,
    /// Candidates in the order in which equal ones are taken.
    order: Vec<usize>,
    starts: Vec<usize>,
    flying: Vec<usize>,
    told: Vec<(usize, Outcome)>,
}

impl Search {
    /// A search over `points`; all its choices follow from them, the seed, and what it is told.
    pub fn new(points: Vec<Point>, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|a, b| points[*a].predicted.total_cmp(&points[*b].predicted));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let starts = starts(&order, &mut random);
        Search {
            points,
            order,
            starts,
            flying: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Takes the end of a trial.
    pub fn tell(&mut self, point: usize, outcome: Outcome) {
        self.flying.retain(|other| *other != point);
        self.told.push((point, outcome));
    }

    /// Whether a candidate was tried, or is in flight.
    fn taken(&self, point: usize) -> bool {
        self.flying.contains(&point) || self.told.iter().any(|(other, _)| *other == point)
    }

    /// Chooses; what it says to try is in flight until its end is told.
    pub fn ask(&mut self) -> Next {
        let left = self.order.iter().copied().filter(|p| !self.taken(*p));
        let left: Vec<usize> = left.collect();
        if left.is_empty() {
            return match self.flying.is_empty() {
                true => Next::End(End::All),
                false => Next::Wait,
            };
        }
        if let Some(point) = self.starts.iter().copied().find(|p| !self.taken(*p)) {
            self.flying.push(point);
            return Next::Try(point, None);
        }
        let Some((point, gain)) = self.choose(&left) else {
            // nothing was measured yet: the prediction is all there is
            let votes = self.votes();
            let hope = |p: &usize| {
                let Point {
                    features,
                    predicted,
                } = &self.points[*p];
                predicted / votes.chance(features)
            };
            let first = left.into_iter().min_by(|a, b| hope(a).total_cmp(&hope(b)));
            return match first {
                Some(point) => {
                    self.flying.push(point);
                    Next::Try(point, None)
                }
                None => Next::Wait,
            };
        };
        if gain < LEAST && self.measured().count() >= ENOUGH {
            return match self.flying.is_empty() {
                true => Next::End(End::Gain(gain)),
                false => Next::Wait,
            };
        }
        self.flying.push(point);
        Next::Try(point, Some(gain))
    }

    fn measured(&self) -> impl Iterator<Item = (usize, f64)> {
        self.told
            .iter()
            .filter_map(|(point, outcome)| match outcome {
                Outcome::Took(seconds) => Some((*point, *seconds)),
                Outcome::Failed => None,
            })
    }

    /// What trials that ended say of the chance of others.
    fn votes(&self) -> Votes<'_> {
        let ended = self.told.iter().map(|(point, outcome)| {
            let features = self.points[*point].features.as_slice();
            (features, matches!(outcome, Outcome::Took(_)))
        });
        Votes::new(ended.collect())
    }

    /// Of those that are left, the one that is worth most, and what it is worth; `None` if nothing was
    /// measured.
    fn choose(&self, left: &[usize]) -> Option<(usize, f64)> {
        let prior = |p: usize| self.points[p].predicted.ln();
        let features = |p: &usize| self.points[*p].features.as_slice();
        let (mut seen, mut values): (Vec<usize>, Vec<f64>) = self
            .measured()
            .map(|(p, seconds)| (p, seconds.ln() - prior(p)))
            .unzip();
        if seen.is_empty() {
            return None;
        }
        let points = |of: &[usize]| of.iter().map(features).collect::<Vec<_>>();
        let mut posterior = Posterior::fit(&points(&seen), &values)?;
        if !self.flying.is_empty() {
            let believed = posterior.predict(&points(&self.flying));
            values.extend(believed.into_iter().map(|(mean, _)| mean));
            seen.extend(&self.flying);
            posterior = Posterior::new(posterior.kernel().clone(), &points(&seen), &values)?;
        }
        // the best that the surrogate believes in: the best that was measured had luck
        let believed = posterior.predict(&points(&seen));
        let times = seen
            .iter()
            .zip(&believed)
            .map(|(p, (mean, _))| prior(*p) + mean);
        let best = times.fold(f64::INFINITY, f64::min);
        let votes = self.votes();
        let worth = posterior.predict(&points(left)).into_iter().zip(left);
        let worth = worth.map(|((mean, deviation), p)| {
            let gain = improvement(prior(*p) + mean, deviation, best);
            (*p, gain * votes.chance(features(p)))
        });
        // of equal ones the first
        worth.reduce(|a, b| if b.1 > a.1 { b } else { a })
    }
}

/// The first of `order`, and others: the one at place k is drawn with a weight of 1/(k+1).
fn starts(order: &[usize], random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut left: Vec<(usize, f64)> = order
        .iter()
        .enumerate()
        .map(|(k, p)| (*p, 1.0 / (k as f64 + 1.0)))
        .collect();
    let mut starts = Vec::new();
    while starts.len() < STARTS && !left.is_empty() {
        let all: f64 = left.iter().map(|(_, weight)| weight).sum();
        let mut rest = match starts.is_empty() {
            true => 0.0,
            false => random.random::<f64>() * all,
        };
        let place = left.iter().position(|(_, weight)| {
            rest -= weight;
            rest < 0.0
        });
        let (point, _) = left.remove(place.unwrap_or(left.len() - 1));
        starts.push(point);
    }
    starts
}

#[cfg(test)]
mod tests;
