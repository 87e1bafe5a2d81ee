//! The surrogate: a Gaussian process with a Matérn kernel and a length for every feature.
//!
//! $$ k(x, y) = o^2 + a^2 \left(1 + \sqrt5 r + \tfrac53 r^2\right) e^{-\sqrt5 r}, \qquad
//!    r^2 = \sum_i (x_i - y_i)^2 / l_i^2 $$
//!
//! What is modelled is a logarithm of measured over predicted time, so $o$ is how far a prediction is off
//! as a whole, and the process learns it like all else. Lengths, amplitude and noise maximise the marginal
//! likelihood times a prior that holds them where few points say little: Rasmussen and Williams (2006).

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, Side};

/// Standard deviation of the offset: a prediction may be wrong by a factor of e, and by its square if the
/// points say so.
const OFFSET: f64 = 1.0;
/// Where a prior centres lengths, amplitude and noise, and the bounds of each.
const LENGTH: [f64; 3] = [2.0, 0.25, 16.0];
const AMPLITUDE: [f64; 3] = [0.3, 0.1, 2.0];
const NOISE: [f64; 3] = [0.03, 0.005, 0.3];
/// Factors by which one number is changed at a time, coarse ones first.
const STEPS: [f64; 2] = [2.0, std::f64::consts::SQRT_2];
/// Passes over all numbers with one factor, at most.
const PASSES: usize = 6;
/// Values that the kernel is chosen by, the last ones; all of them are seen.
const CHOSEN_BY: usize = 200;

/// A kernel: what is learned of the space before any value is seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// l, over how much of each feature values stay alike.
    pub lengths: Vec<f64>,
    /// a, how far values vary.
    pub amplitude: f64,
    /// Standard deviation of a measurement.
    pub noise: f64,
}

impl Kernel {
    /// The kernel of points with so many features of which nothing is known.
    pub fn unknown(features: usize) -> Self {
        Kernel {
            lengths: vec![LENGTH[0]; features],
            amplitude: AMPLITUDE[0],
            noise: NOISE[0],
        }
    }

    /// The covariance of the values at two points, without noise.
    pub fn covariance(&self, x: &[f64], y: &[f64]) -> f64 {
        let scaled = x.iter().zip(y).zip(&self.lengths);
        let square: f64 = scaled.map(|((x, y), l)| ((x - y) / l).powi(2)).sum();
        OFFSET.powi(2) + self.amplitude.powi(2) * matern(square.sqrt())
    }

    /// The number at `place`: the lengths, then the amplitude, then the noise; with its prior and bounds.
    fn number(&mut self, place: usize) -> (&mut f64, [f64; 3]) {
        let lengths = self.lengths.len();
        match place {
            _ if place < lengths => (&mut self.lengths[place], LENGTH),
            _ if place == lengths => (&mut self.amplitude, AMPLITUDE),
            _ => (&mut self.noise, NOISE),
        }
    }

    /// Minus the logarithm of its prior, up to a constant: all numbers are log-normal.
    fn penalty(&self) -> f64 {
        let away = |x: f64, [centre, ..]: [f64; 3]| 0.5 * (x / centre).ln().powi(2);
        let lengths = self.lengths.iter().map(|l| away(*l, LENGTH));
        lengths.sum::<f64>() + away(self.amplitude, AMPLITUDE) + away(self.noise, NOISE)
    }
}

/// Matérn 5/2 at distance `r`, 1 at 0.
pub fn matern(r: f64) -> f64 {
    let s = 5f64.sqrt() * r;
    (1.0 + s + s * s / 3.0) * (-s).exp()
}

/// A Gaussian process that has seen values at points.
#[derive(Debug, Clone)]
pub struct Posterior<'a> {
    kernel: Kernel,
    points: Vec<&'a [f64]>,
    factor: Llt<f64>,
    /// $K^{-1} y$.
    weights: Mat<f64>,
    /// Minus the logarithm of the marginal likelihood.
    surprise: f64,
}

impl<'a> Posterior<'a> {
    /// The process with `kernel` after `values` at `points`; `None` if a number is not finite, or there are
    /// not as many of both.
    pub fn new(kernel: Kernel, points: &[&'a [f64]], values: &[f64]) -> Option<Self> {
        let n = points.len();
        if n != values.len() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let covariances = Mat::from_fn(n, n, |i, j| {
            let noise = if i == j { kernel.noise.powi(2) } else { 0.0 };
            kernel.covariance(points[i], points[j]) + noise
        });
        let factor = covariances.llt(Side::Lower).ok()?;
        let right = Mat::from_fn(n, 1, |i, _| values[i]);
        let weights = factor.solve(&right);
        let lower = factor.L();
        let determinant: f64 = (0..n).map(|i| lower[(i, i)].ln()).sum();
        let fit: f64 = (0..n).map(|i| values[i] * weights[(i, 0)]).sum();
        let constant = 0.5 * n as f64 * (2.0 * std::f64::consts::PI).ln();
        let surprise = 0.5 * fit + determinant + constant;
        surprise.is_finite().then_some(Posterior {
            kernel,
            points: points.to_vec(),
            factor,
            weights,
            surprise,
        })
    }

    /// The same with the kernel that explains the values best: one number changed at a time, as long as that
    /// helps.
    pub fn fit(points: &[&'a [f64]], values: &[f64]) -> Option<Self> {
        if points.len() > CHOSEN_BY && points.len() == values.len() {
            let first = points.len() - CHOSEN_BY;
            let chosen = Self::fit(&points[first..], &values[first..])?;
            return Self::new(chosen.kernel, points, values);
        }
        let features = points.first().map_or(0, |p| p.len());
        let mut best = Self::new(Kernel::unknown(features), points, values)?;
        let mut cost = best.surprise + best.kernel.penalty();
        for step in STEPS {
            for _ in 0..PASSES {
                let before = cost;
                for place in 0..features + 2 {
                    for factor in [step, 1.0 / step] {
                        let mut kernel = best.kernel.clone();
                        let (number, [_, low, high]) = kernel.number(place);
                        *number = (*number * factor).clamp(low, high);
                        let penalty = kernel.penalty();
                        let Some(other) = Self::new(kernel, points, values) else {
                            continue;
                        };
                        if other.surprise + penalty < cost - 1e-9 {
                            cost = other.surprise + penalty;
                            best = other;
                        }
                    }
                }
                if before - cost < 1e-3 {
                    break;
                }
            }
        }
        Some(best)
    }

    /// Its kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Minus the logarithm of the marginal likelihood of the values.
    pub fn surprise(&self) -> f64 {
        self.surprise
    }

    /// Mean and standard deviation of the value at each of `points`, without noise.
    pub fn predict(&self, points: &[&[f64]]) -> Vec<(f64, f64)> {
        let n = self.points.len();
        let across = Mat::from_fn(n, points.len(), |i, j| {
            self.kernel.covariance(self.points[i], points[j])
        });
        let solved = self.factor.solve(&across);
        let at = |j: usize| {
            let sum = |with: &dyn Fn(usize) -> f64| -> f64 {
                (0..n).map(|i| across[(i, j)] * with(i)).sum()
            };
            let mean = sum(&|i| self.weights[(i, 0)]);
            let known = sum(&|i| solved[(i, j)]);
            let variance = self.kernel.covariance(points[j], points[j]) - known;
            (mean, variance.max(0.0).sqrt())
        };
        (0..points.len()).map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Kernel {
        Kernel {
            lengths: vec![1.5, 0.7],
            amplitude: 0.8,
            noise: 0.1,
        }
    }

    /// Three points, the inverse written out by cofactors: mean, deviation and likelihood are those of the
    /// closed form.
    #[test]
    fn three_points_are_the_closed_form() {
        let (kernel, points) = (kernel(), [[0.0, 0.0], [1.0, 0.0], [0.5, 2.0]]);
        let (values, at) = ([0.3, -0.2, 0.9], [0.4, 0.6]);
        let points: Vec<&[f64]> = points.iter().map(|p| p.as_slice()).collect();
        let k = |i: usize, j: usize| {
            kernel.covariance(points[i], points[j]) + if i == j { 0.01 } else { 0.0 }
        };
        let minor = |i: usize, j: usize| {
            let (a, b) = ((i + 1) % 3, (i + 2) % 3);
            let (c, d) = ((j + 1) % 3, (j + 2) % 3);
            k(a, c) * k(b, d) - k(a, d) * k(b, c)
        };
        let determinant: f64 = (0..3).map(|j| k(0, j) * minor(0, j)).sum();
        let inverse = |i: usize, j: usize| minor(j, i) / determinant;
        let cross = points.iter().map(|p| kernel.covariance(p, &at));
        let cross: Vec<f64> = cross.collect();
        let form = |x: &[f64], y: &[f64]| -> f64 {
            let pairs = (0..3).flat_map(|i| (0..3).map(move |j| (i, j)));
            pairs.map(|(i, j)| x[i] * inverse(i, j) * y[j]).sum()
        };
        let posterior = Posterior::new(kernel.clone(), &points, &values).unwrap();
        let (mean, deviation) = posterior.predict(&[&at])[0];
        let variance = kernel.covariance(&at, &at) - form(&cross, &cross);
        assert!((mean - form(&cross, &values)).abs() < 1e-12, "{mean}");
        assert!((deviation - variance.sqrt()).abs() < 1e-12, "{deviation}");
        let constant = 1.5 * (2.0 * std::f64::consts::PI).ln();
        let surprise = 0.5 * form(&values, &values) + 0.5 * determinant.ln() + constant;
        assert!((posterior.surprise() - surprise).abs() < 1e-12);
    }

    /// Without noise values are met and nothing is doubted there; far away the offset and the amplitude are
    /// left.
    #[test]
    fn values_are_met() {
        let exact = Kernel {
            noise: 1e-6,
            ..kernel()
        };
        let points: Vec<Vec<f64>> = (0..8).map(|i| vec![0.6 * f64::from(i), 0.0]).collect();
        let points: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
        let values: Vec<f64> = points.iter().map(|p| (1.3 * p[0]).sin()).collect();
        let posterior = Posterior::new(exact, &points, &values).unwrap();
        for ((mean, deviation), value) in posterior.predict(&points).iter().zip(&values) {
            assert!((mean - value).abs() < 1e-6 && *deviation < 1e-4);
        }
        let (_, far) = posterior.predict(&[&[1e3, 1e3]])[0];
        assert!((far - 0.8).abs() < 0.3, "{far}");
    }

    /// A value that depends on one of two features gives the other a longer length, and a likelihood that no
    /// other length beats by much; nothing is fitted to what is no number.
    #[test]
    fn lengths_are_learned() {
        let grid = (0..36).map(|n| vec![f64::from(n % 6), f64::from(n / 6)]);
        let grid: Vec<Vec<f64>> = grid.collect();
        let points: Vec<&[f64]> = grid.iter().map(Vec::as_slice).collect();
        let values: Vec<f64> = points.iter().map(|p| 0.5 * (1.5 * p[0]).sin()).collect();
        let fitted = Posterior::fit(&points, &values).unwrap();
        let lengths = &fitted.kernel().lengths;
        assert!(lengths[1] > 3.0 * lengths[0], "{lengths:?}");
        let plain = Posterior::new(Kernel::unknown(2), &points, &values).unwrap();
        assert!(fitted.surprise() < plain.surprise());
        let mut swapped = fitted.kernel().clone();
        swapped.lengths.swap(0, 1);
        let swapped = Posterior::new(swapped, &points, &values).unwrap();
        assert!(fitted.surprise() + 10.0 < swapped.surprise());
        assert!(Posterior::fit(&points[..2], &[f64::NAN, 0.0]).is_none());
    }
}
