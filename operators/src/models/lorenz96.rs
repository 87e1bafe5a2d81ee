//! Lorenz-96: $\dot x_i = (x_{i+1} - x_{i-2})\,x_{i-1} - x_i + F$ on a ring of $d$ sites.
//!
//! Source: Lorenz (1996), *Predictability: a problem partly solved*, equation (1).

use super::Tendency;
use crate::OperatorError;

/// The ring model of any dimension; with $F = 8$ one time unit stands for about five days.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lorenz96 {
    dimension: usize,
    forcing: f64,
}

impl Lorenz96 {
    /// A ring of `dimension` sites with forcing $F$ = `forcing`.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if `dimension < 4` (the stencil would overlap itself) or the
    /// forcing is not finite.
    pub fn try_new(dimension: usize, forcing: f64) -> Result<Self, OperatorError> {
        if dimension < 4 {
            return Err(OperatorError::parameter(
                "Lorenz96",
                "dimension",
                dimension,
                "at least 4 sites",
            ));
        }
        if !forcing.is_finite() {
            return Err(OperatorError::parameter(
                "Lorenz96",
                "forcing",
                forcing,
                "a finite number",
            ));
        }
        Ok(Self { dimension, forcing })
    }
}

impl Tendency for Lorenz96 {
    fn dimension(&self) -> usize {
        self.dimension
    }

    /// The unit vector $e_1$, the usual start of twin experiments with this model.
    fn reference_state(&self) -> Vec<f64> {
        let mut state = vec![0.0; self.dimension];
        state[0] = 1.0;
        state
    }

    fn tendency(&self, x: &[f64], out: &mut [f64]) {
        let (d, f) = (self.dimension, self.forcing);
        let (x, out) = (&x[..d], &mut out[..d]);
        out[0] = (x[1] - x[d - 2]) * x[d - 1] - x[0] + f;
        out[1] = (x[2] - x[d - 1]) * x[0] - x[1] + f;
        // Windows instead of indices, so that the inner loop carries no wrap and vectorizes.
        for (out, w) in out[2..d - 1].iter_mut().zip(x.windows(4)) {
            *out = (w[3] - w[0]) * w[1] - w[2] + f;
        }
        out[d - 1] = (x[0] - x[d - 3]) * x[d - 2] - x[d - 1] + f;
    }

    fn tendency_tangent(&self, x: &[f64], dx: &[f64], out: &mut [f64]) {
        let d = self.dimension;
        for i in 0..d {
            let (next, last, before) = ((i + 1) % d, (i + d - 1) % d, (i + d - 2) % d);
            out[i] = (dx[next] - dx[before]) * x[last] + (x[next] - x[before]) * dx[last] - dx[i];
        }
    }

    fn tendency_adjoint(&self, x: &[f64], w: &[f64], out: &mut [f64]) {
        let d = self.dimension;
        for j in 0..d {
            let (up1, up2) = ((j + 1) % d, (j + 2) % d);
            let (down1, down2) = ((j + d - 1) % d, (j + d - 2) % d);
            out[j] = x[down2] * w[down1] - x[up1] * w[up2] + (x[up2] - x[down1]) * w[up1] - w[j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Model, RungeKutta4, laws};

    /// Tangent, adjoint and independence of rows, also on the smallest ring.
    #[test]
    fn keeps_the_laws_of_a_model() {
        for d in [4, 5, 40] {
            let model = RungeKutta4::try_new(Lorenz96::try_new(d, 8.0).unwrap(), 0.05).unwrap();
            let mut state = model.reference_state();
            model.advance(&mut state, 200);
            laws::check(&model, &state);
        }
    }

    /// The quadratic terms neither make nor destroy energy: $\sum x_i \dot x_i = \sum (F-x_i) x_i$.
    #[test]
    fn advection_conserves_energy() {
        let model = Lorenz96::try_new(11, 8.0).unwrap();
        let x: Vec<f64> = (0..11)
            .map(|i| (i as f64 * 1.3).sin() * 4.0 + 1.0)
            .collect();
        let mut out = vec![0.0; 11];
        model.tendency(&x, &mut out);
        let (got, expected): (f64, f64) = (
            x.iter().zip(&out).map(|(a, b)| a * b).sum(),
            x.iter().map(|v| (8.0 - v) * v).sum(),
        );
        assert!((got - expected).abs() < 1e-11, "{got} against {expected}");
    }

    /// Turning the ring turns the tendency.
    #[test]
    fn commutes_with_rotation_of_the_ring() {
        let model = Lorenz96::try_new(9, 8.0).unwrap();
        let x: Vec<f64> = (0..9).map(|i| (i as f64 * 0.7).cos() * 3.0).collect();
        let mut turned = x.clone();
        turned.rotate_left(2);
        let (mut a, mut b) = (vec![0.0; 9], vec![0.0; 9]);
        model.tendency(&x, &mut a);
        model.tendency(&turned, &mut b);
        a.rotate_left(2);
        assert_eq!(a, b);
    }
}
