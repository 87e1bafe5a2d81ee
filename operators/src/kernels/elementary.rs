//! Elementary functions in single precision without branches, so that loops over them are vectorized.

/// eˣ to 2 units in the last place; 0 where it is below the smallest normal number, and finite where it
/// is above the largest number. NaN stays NaN.
///
/// Cody and Waite's reduction $x = n \ln 2 + r$ and the polynomial of Moshier's Cephes library (`expf`,
/// $|r| \le \ln 2 / 2$).
#[inline(always)]
pub(crate) fn exponential(x: f32) -> f32 {
    const LOWEST: f32 = -87.336_54;
    const HIGHEST: f32 = 88.376_26;
    /// Added to a number below 2²², it leaves the nearest integer in the last bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    // comparisons, not `clamp`: NaN passes
    let c = if x < LOWEST { LOWEST } else { x };
    let c = if c > HIGHEST { HIGHEST } else { c };
    let t = c.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = t - ROUND;
    let r = n.mul_add(-LN2.0, c);
    let r = n.mul_add(-LN2.1, r);
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    let power = t.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let y = p * f32::from_bits(power);
    if x < LOWEST { 0.0 } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 97th number of single precision, against double precision.
    #[test]
    fn exponential_is_exact_to_two_units() {
        for bits in (0..=u32::MAX).step_by(97) {
            let x = f32::from_bits(bits);
            let (got, want) = (exponential(x), f64::from(x).exp());
            if x.is_nan() {
                assert!(got.is_nan());
            } else if want < f64::from(f32::MIN_POSITIVE) {
                assert!(got < 1.3e-38, "{x}: {got}");
            } else if x > 88.376 {
                assert!(got > 2.3e38, "{x}: {got}");
            } else {
                let unit = f64::from(want as f32) * f64::from(f32::EPSILON);
                assert!(
                    (f64::from(got) - want).abs() <= 2.0 * unit,
                    "{x}: {got} and {want}"
                );
            }
        }
    }
}
