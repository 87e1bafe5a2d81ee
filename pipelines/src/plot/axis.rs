//! Round steps and ticks.

/// The least of 1, 2, 2.5 and 5 times a power of ten that is not below `rough`.
pub fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    let fits = |f: &&f64| **f * power >= rough * (1.0 - 1e-9);
    factors.iter().find(fits).map_or(rough, |f| f * power)
}

/// All multiples of `step` from `low` to `high`.
pub fn ticks(low: f64, high: f64, step: f64) -> Vec<f64> {
    if !(step > 0.0 && step.is_finite() && high - low < 1e4 * step) {
        return Vec::new();
    }
    let first = (low / step - 1e-6).ceil() as i64;
    let last = (high / step + 1e-6).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// A number of an axis: as many decimals as the step needs, and a true minus sign.
pub(crate) fn label(value: f64, step: f64) -> String {
    let needed = |d: &usize| {
        let scaled = step * 10f64.powi(*d as i32);
        (scaled - scaled.round()).abs() < 1e-6 * scaled
    };
    let decimals = (0..6).find(needed).unwrap_or(6);
    let text = format!("{:.decimals$}", value.abs());
    let zero = text.chars().all(|c| c == '0' || c == '.');
    if value < 0.0 && !zero {
        format!("−{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_not_below_what_was_asked() {
        for rough in [0.003, 0.11, 0.9, 1.0, 2.1, 17.0, 4999.0] {
            let step = round_step(rough);
            assert!(
                step >= rough * 0.999 && step <= rough * 2.6,
                "{rough}: {step}"
            );
        }
        assert_eq!(round_step(3.0), 5.0);
        assert_eq!(round_step(2.2), 2.5);
    }

    #[test]
    fn ticks_hold_both_ends_and_labels_the_decimals_of_the_step() {
        assert_eq!(ticks(-1.0, 1.0, 0.5), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(label(-0.5, 0.5), "−0.5");
        assert_eq!(label(-1e-12, 0.25), "0.00");
        assert_eq!(label(20.0, 5.0), "20");
        assert!(ticks(0.0, 1.0, 0.0).is_empty());
    }
}
