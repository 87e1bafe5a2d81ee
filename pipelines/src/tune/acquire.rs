//! What a trial is worth: how much it may improve on the best.

/// The density of the normal distribution.
fn density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The part of the normal distribution below `z`.
fn below(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// How far a value of this mean and standard deviation is expected to lie below `best`, where above counts
/// as 0: Močkus (1975), Jones et al. (1998).
///
/// ```
/// use advect_pipelines::tune::acquire::improvement;
/// // a value that is as good as the best on average improves by σ/√(2π)
/// assert!((improvement(1.0, 0.5, 1.0) - 0.5 * 0.39894228).abs() < 1e-8);
/// assert_eq!(improvement(1.0, 0.0, 1.25), 0.25);
/// ```
pub fn improvement(mean: f64, deviation: f64, best: f64) -> f64 {
    let gain = best - mean;
    if deviation <= 0.0 {
        return gain.max(0.0);
    }
    let z = gain / deviation;
    (gain * below(z) + deviation * density(z)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula is the integral that it stands for.
    #[test]
    fn improvement_is_the_integral() {
        for (mean, deviation, best) in [
            (0.0, 1.0, 0.0),
            (0.3, 0.2, 0.1),
            (-1.0, 0.5, 0.2),
            (2.0, 0.7, 0.0),
        ] {
            let (steps, wide) = (200_000, 12.0);
            let width = 2.0 * wide * deviation / f64::from(steps);
            let at =
                |i: i32| mean + deviation * wide * (2.0 * f64::from(i) / f64::from(steps) - 1.0);
            let integral: f64 = (0..=steps)
                .map(|i| {
                    let value = at(i);
                    let z = (value - mean) / deviation;
                    (best - value).max(0.0) * density(z) / deviation * width
                })
                .sum();
            let formula = improvement(mean, deviation, best);
            assert!((formula - integral).abs() < 1e-7, "{formula} {integral}");
        }
    }
}
