//! Lorenz-63: $\dot x = \sigma(y-x)$, $\dot y = \rho x - y - xz$, $\dot z = xy - \beta z$.
//!
//! Source: Lorenz (1963), *Deterministic nonperiodic flow*, equations (25)–(27).

use super::Tendency;

/// The three-variable convection model; one time unit is about 1.1 e-foldings of error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lorenz63 {
    /// Prandtl number $\sigma$.
    pub sigma: f64,
    /// Normalized Rayleigh number $\rho$.
    pub rho: f64,
    /// Aspect parameter $\beta$.
    pub beta: f64,
}

impl Default for Lorenz63 {
    /// The chaotic parameters of the paper: $\sigma = 10$, $\rho = 28$, $\beta = 8/3$.
    fn default() -> Self {
        Self {
            sigma: 10.0,
            rho: 28.0,
            beta: 8.0 / 3.0,
        }
    }
}

impl Tendency for Lorenz63 {
    fn dimension(&self) -> usize {
        3
    }

    /// A point of the attractor, the usual start of twin experiments with this model.
    fn reference_state(&self) -> Vec<f64> {
        vec![1.509, -1.531, 25.46]
    }

    fn tendency(&self, state: &[f64], out: &mut [f64]) {
        let (x, y, z) = (state[0], state[1], state[2]);
        out[0] = self.sigma * (y - x);
        out[1] = self.rho * x - y - x * z;
        out[2] = x * y - self.beta * z;
    }

    fn tendency_tangent(&self, state: &[f64], perturbation: &[f64], out: &mut [f64]) {
        let (x, y, z) = (state[0], state[1], state[2]);
        let (dx, dy, dz) = (perturbation[0], perturbation[1], perturbation[2]);
        out[0] = self.sigma * (dy - dx);
        out[1] = (self.rho - z) * dx - dy - x * dz;
        out[2] = y * dx + x * dy - self.beta * dz;
    }

    fn tendency_adjoint(&self, state: &[f64], cotangent: &[f64], out: &mut [f64]) {
        let (x, y, z) = (state[0], state[1], state[2]);
        let (a, b, c) = (cotangent[0], cotangent[1], cotangent[2]);
        out[0] = -self.sigma * a + (self.rho - z) * b + y * c;
        out[1] = self.sigma * a - b + x * c;
        out[2] = -x * b - self.beta * c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Model, RungeKutta4, laws};

    /// Tangent, adjoint and independence of rows.
    #[test]
    fn keeps_the_laws_of_a_model() {
        let model = RungeKutta4::try_new(Lorenz63::default(), 0.01).unwrap();
        let mut state = model.reference_state();
        model.advance(&mut state, 500);
        laws::check(&model, &state);
    }

    /// The three fixed points of the equations have no tendency.
    #[test]
    fn fixed_points_stand_still() {
        let model = Lorenz63::default();
        let r = (model.beta * (model.rho - 1.0)).sqrt();
        for point in [[0.0; 3], [r, r, model.rho - 1.0], [-r, -r, model.rho - 1.0]] {
            let mut out = [1.0; 3];
            model.tendency(&point, &mut out);
            assert!(
                out.iter().all(|v| v.abs() < 1e-12),
                "{point:?} moves by {out:?}"
            );
        }
    }
}
