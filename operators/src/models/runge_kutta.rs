//! The classical Runge–Kutta scheme of order four, with the tangent and adjoint of the scheme.
//!
//! The derivative is that of the discrete step, not of the continuous equation, so the adjoint
//! holds to rounding at any step length.

use std::fmt::Debug;

use super::Model;
use crate::OperatorError;

/// An autonomous ordinary differential equation $\dot x = f(x)$ with the derivative of $f$.
///
/// All slices have length [`Tendency::dimension`].
pub trait Tendency: Debug + Send + Sync {
    /// The number of state variables, `d`.
    fn dimension(&self) -> usize;

    /// A state from which experiments start, shape `[d]`.
    fn reference_state(&self) -> Vec<f64>;

    /// Writes $f(x)$.
    fn tendency(&self, state: &[f64], out: &mut [f64]);

    /// Writes $f'(x)\,\delta x$.
    fn tendency_tangent(&self, state: &[f64], perturbation: &[f64], out: &mut [f64]);

    /// Writes $f'(x)^\top \lambda$.
    fn tendency_adjoint(&self, state: &[f64], cotangent: &[f64], out: &mut [f64]);
}

/// The model that integrates a [`Tendency`] with classical Runge–Kutta steps.
#[derive(Debug, Clone)]
pub struct RungeKutta4<T> {
    equation: T,
    time_step: f64,
}

impl<T: Tendency> RungeKutta4<T> {
    /// Integrates `equation` with steps of `time_step` (the equation's time unit).
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if `time_step` is not positive and finite.
    pub fn try_new(equation: T, time_step: f64) -> Result<Self, OperatorError> {
        if !(time_step.is_finite() && time_step > 0.0) {
            return Err(OperatorError::parameter(
                "RungeKutta4",
                "time_step",
                time_step,
                "a positive number of time units",
            ));
        }
        Ok(Self {
            equation,
            time_step,
        })
    }

    /// The equation that is integrated.
    pub fn equation(&self) -> &T {
        &self.equation
    }

    /// The four stage states at which the tendency is evaluated, `[4][d]`.
    fn stages(&self, state: &[f64]) -> [Vec<f64>; 4] {
        let h = self.time_step;
        let mut slope = vec![0.0; state.len()];
        let mut stage = |base: &[f64], fraction: f64| -> Vec<f64> {
            self.equation.tendency(base, &mut slope);
            state
                .iter()
                .zip(&slope)
                .map(|(x, k)| x + fraction * h * k)
                .collect()
        };
        let second = stage(state, 0.5);
        let third = stage(&second, 0.5);
        let fourth = stage(&third, 1.0);
        [state.to_vec(), second, third, fourth]
    }
}

impl<T: Tendency> Model for RungeKutta4<T> {
    fn dimension(&self) -> usize {
        self.equation.dimension()
    }

    fn time_step(&self) -> f64 {
        self.time_step
    }

    fn reference_state(&self) -> Vec<f64> {
        self.equation.reference_state()
    }

    fn advance(&self, states: &mut [f64], steps: usize) {
        let (d, h) = (self.dimension(), self.time_step);
        assert_eq!(states.len() % d, 0, "states must be whole rows of {d}");
        let (mut slope, mut stage, mut sum) = (vec![0.0; d], vec![0.0; d], vec![0.0; d]);
        for state in states.chunks_exact_mut(d) {
            for _ in 0..steps {
                self.equation.tendency(state, &mut slope);
                for i in 0..d {
                    sum[i] = slope[i];
                    stage[i] = state[i] + 0.5 * h * slope[i];
                }
                for next in [0.5, 1.0] {
                    self.equation.tendency(&stage, &mut slope);
                    for i in 0..d {
                        sum[i] += 2.0 * slope[i];
                        stage[i] = state[i] + next * h * slope[i];
                    }
                }
                self.equation.tendency(&stage, &mut slope);
                for i in 0..d {
                    state[i] += h / 6.0 * (sum[i] + slope[i]);
                }
            }
        }
    }

    fn tangent(&self, state: &[f64], perturbation: &mut [f64]) {
        let h = self.time_step;
        let stages = self.stages(state);
        let start = perturbation.to_vec();
        let mut stage = start.clone();
        let mut slope = vec![0.0; start.len()];
        for ((base, weight), next) in stages
            .iter()
            .zip([1.0, 2.0, 2.0, 1.0])
            .zip([0.5, 0.5, 1.0, 0.0])
        {
            self.equation.tendency_tangent(base, &stage, &mut slope);
            for i in 0..start.len() {
                perturbation[i] += h / 6.0 * weight * slope[i];
                stage[i] = start[i] + next * h * slope[i];
            }
        }
    }

    fn adjoint(&self, state: &[f64], cotangent: &mut [f64]) {
        let h = self.time_step;
        let stages = self.stages(state);
        let end = cotangent.to_vec();
        // The cotangent that stage s + 1 sends to the slope of stage s; stage 4 receives none.
        let mut from_next = vec![0.0; end.len()];
        let mut slope_bar = vec![0.0; end.len()];
        for ((base, weight), next) in stages
            .iter()
            .zip([1.0, 2.0, 2.0, 1.0])
            .zip([0.5, 0.5, 1.0, 0.0])
            .rev()
        {
            for i in 0..end.len() {
                slope_bar[i] = h / 6.0 * weight * end[i] + next * h * from_next[i];
            }
            self.equation
                .tendency_adjoint(base, &slope_bar, &mut from_next);
            for (out, stage_bar) in cotangent.iter_mut().zip(&from_next) {
                *out += stage_bar;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Lorenz63;

    /// Halving the step divides the error by 2⁴: the scheme has order four.
    #[test]
    fn order_is_four() {
        let at = |steps: usize| {
            let model = RungeKutta4::try_new(Lorenz63::default(), 0.2 / steps as f64).unwrap();
            let mut x = model.reference_state();
            model.advance(&mut x, steps);
            x
        };
        let exact = at(4096);
        let error = |steps| {
            at(steps)
                .iter()
                .zip(&exact)
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let order = (error(64) / error(128)).log2();
        assert!((order - 4.0).abs() < 0.2, "observed order {order}");
    }

    /// A step that is not positive is refused, with the value in the message.
    #[test]
    fn refuses_a_bad_step() {
        let error = RungeKutta4::try_new(Lorenz63::default(), -0.5).unwrap_err();
        assert!(error.to_string().contains("-0.5"), "{error}");
    }
}
