//! Kuramoto–Sivashinsky: $u_t = -u u_x - u_{xx} - u_{xxxx}$ on a periodic line.
//!
//! Pseudo-spectral in space and ETDRK4 in time: the stiff linear part is integrated exactly and
//! the nonlinear part by a Runge–Kutta scheme whose coefficients are contour means. Source: Kassam
//! and Trefethen (2005), *Fourth-order time-stepping for stiff PDEs*, section 3 and figure 6.
//!
//! The domain has length $\pi\,D_L$, so the wave numbers are $2k/D_L$; $D_L = 32$ with 128 points
//! is the setting of Bocquet and Farchi (2019). The first derivative of the Nyquist wave is zero,
//! as it must be for a real field; its linear damping is kept.

use std::f64::consts::PI;
use std::fmt;
use std::sync::Arc;

use rustfft::num_complex::Complex64;
use rustfft::{Fft, FftPlanner};

use super::Model;
use crate::OperatorError;

/// Points of the upper half circle on which the coefficient functions are averaged.
const CONTOUR_POINTS: usize = 32;
/// Time after which the start of Kassam and Trefethen has reached the attractor.
const SPIN_UP_TIME: f64 = 150.0;

/// The flame-front equation on `points` grid points.
#[derive(Clone)]
pub struct KuramotoSivashinsky {
    points: usize,
    time_step: f64,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
    /// $k$ of $\partial_x = ik$, Nyquist zeroed.
    wave: Vec<f64>,
    /// $e^{hL}$, $e^{hL/2}$ and the coefficients $Q, f_1, f_2, f_3$ of the scheme.
    full: Vec<f64>,
    half: Vec<f64>,
    q: Vec<f64>,
    f1: Vec<f64>,
    f2: Vec<f64>,
    f3: Vec<f64>,
}

impl fmt::Debug for KuramotoSivashinsky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KuramotoSivashinsky")
            .field("points", &self.points)
            .field("time_step", &self.time_step)
            .finish_non_exhaustive()
    }
}

type Spectrum = Vec<Complex64>;

impl KuramotoSivashinsky {
    /// A periodic line of `points` points and length $\pi$ · `length`, with steps of `time_step`.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if `points` is odd or below 8, or if `length` or `time_step`
    /// is not positive and finite.
    pub fn try_new(points: usize, length: f64, time_step: f64) -> Result<Self, OperatorError> {
        const PLACE: &str = "KuramotoSivashinsky";
        if points < 8 || points % 2 == 1 {
            let expected = "an even number of points, at least 8";
            return Err(OperatorError::parameter(PLACE, "points", points, expected));
        }
        for (name, value) in [("length", length), ("time_step", time_step)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(OperatorError::parameter(
                    PLACE,
                    name,
                    value,
                    "a positive number",
                ));
            }
        }
        let mut planner = FftPlanner::new();
        let mut model = Self {
            points,
            time_step,
            forward: planner.plan_fft_forward(points),
            inverse: planner.plan_fft_inverse(points),
            wave: Vec::with_capacity(points),
            full: Vec::with_capacity(points),
            half: Vec::with_capacity(points),
            q: Vec::with_capacity(points),
            f1: Vec::with_capacity(points),
            f2: Vec::with_capacity(points),
            f3: Vec::with_capacity(points),
        };
        for index in 0..points {
            let signed = if index <= points / 2 {
                index as f64
            } else {
                index as f64 - points as f64
            };
            let k = 2.0 * signed / length;
            model.wave.push(if index == points / 2 { 0.0 } else { k });
            model.push_coefficients(time_step * (k.powi(2) - k.powi(4)));
        }
        Ok(model)
    }

    /// Appends the coefficients of one wave, with `z` = $hL$, equations (26)–(29) and (2.5).
    fn push_coefficients(&mut self, z: f64) {
        let h = self.time_step;
        let mut sums = [0.0; 4];
        for j in 0..CONTOUR_POINTS {
            let angle = PI * (j as f64 + 0.5) / CONTOUR_POINTS as f64;
            let c = Complex64::from_polar(1.0, angle) + z;
            let (e, cube) = (c.exp(), c * c * c);
            // L is real, so the lower half circle adds the conjugates: take real parts.
            sums[0] += (((c * 0.5).exp() - 1.0) / c).re;
            sums[1] += ((-4.0 - c + e * (4.0 - 3.0 * c + c * c)) / cube).re;
            sums[2] += ((2.0 + c + e * (c - 2.0)) / cube).re;
            sums[3] += ((-4.0 - 3.0 * c - c * c + e * (4.0 - c)) / cube).re;
        }
        let mean = sums.map(|s| h * s / CONTOUR_POINTS as f64);
        self.full.push(z.exp());
        self.half.push((z / 2.0).exp());
        self.q.push(mean[0]);
        self.f1.push(mean[1]);
        self.f2.push(mean[2]);
        self.f3.push(mean[3]);
    }

    fn spectrum(&self, field: &[f64], scratch: &mut [Complex64]) -> Spectrum {
        let mut v: Spectrum = field.iter().map(|&u| Complex64::new(u, 0.0)).collect();
        self.forward.process_with_scratch(&mut v, scratch);
        v
    }

    /// The field of a spectrum, written as complex numbers with negligible imaginary part.
    fn field(&self, v: &[Complex64], out: &mut [Complex64], scratch: &mut [Complex64]) {
        out.copy_from_slice(v);
        self.inverse.process_with_scratch(out, scratch);
        let scale = 1.0 / self.points as f64;
        out.iter_mut().for_each(|u| *u *= scale);
    }

    fn scratch(&self) -> Spectrum {
        let length = self
            .forward
            .get_inplace_scratch_len()
            .max(self.inverse.get_inplace_scratch_len());
        vec![Complex64::default(); length]
    }

    /// $-\tfrac12 \partial_x u^2$ of the spectrum `v`; also leaves the field in `u`.
    fn nonlinear(
        &self,
        v: &[Complex64],
        u: &mut [Complex64],
        out: &mut [Complex64],
        scratch: &mut [Complex64],
    ) {
        self.field(v, u, scratch);
        for (o, u) in out.iter_mut().zip(u.iter()) {
            *o = Complex64::new(u.re * u.re, 0.0);
        }
        self.forward.process_with_scratch(out, scratch);
        for (o, k) in out.iter_mut().zip(&self.wave) {
            *o *= Complex64::new(0.0, -0.5 * k);
        }
    }

    /// The fields at which the nonlinear term is evaluated within one step.
    fn stage_fields(&self, state: &[f64]) -> [Vec<f64>; 4] {
        let n = self.points;
        let (mut scratch, mut u) = (self.scratch(), vec![Complex64::default(); n]);
        let mut fields: [Vec<f64>; 4] = Default::default();
        let mut v = self.spectrum(state, &mut scratch);
        self.step_spectrum(
            &mut v,
            &mut Workspace::new(n),
            &mut u,
            &mut scratch,
            |stage, u| {
                fields[stage] = u.iter().map(|c| c.re).collect();
            },
        );
        fields
    }

    /// One ETDRK4 step of `v`; `observe` sees the field of every stage.
    #[expect(
        clippy::needless_range_loop,
        reason = "one index runs over many arrays, as in the paper"
    )]
    fn step_spectrum(
        &self,
        v: &mut [Complex64],
        w: &mut Workspace,
        u: &mut [Complex64],
        scratch: &mut [Complex64],
        mut observe: impl FnMut(usize, &[Complex64]),
    ) {
        let n = self.points;
        self.nonlinear(v, u, &mut w.n1, scratch);
        observe(0, u);
        for i in 0..n {
            w.a[i] = v[i] * self.half[i] + w.n1[i] * self.q[i];
        }
        self.nonlinear(&w.a, u, &mut w.n2, scratch);
        observe(1, u);
        for i in 0..n {
            w.b[i] = v[i] * self.half[i] + w.n2[i] * self.q[i];
        }
        self.nonlinear(&w.b, u, &mut w.n3, scratch);
        observe(2, u);
        for i in 0..n {
            w.b[i] = w.a[i] * self.half[i] + (w.n3[i] * 2.0 - w.n1[i]) * self.q[i];
        }
        self.nonlinear(&w.b, u, &mut w.n4, scratch);
        observe(3, u);
        for i in 0..n {
            v[i] = v[i] * self.full[i]
                + w.n1[i] * self.f1[i]
                + (w.n2[i] + w.n3[i]) * (2.0 * self.f2[i])
                + w.n4[i] * self.f3[i];
        }
    }

    /// The derivative of the nonlinear term at the real field `u`: $-\partial_x (u\,\delta u)$.
    fn nonlinear_tangent(
        &self,
        u: &[f64],
        dv: &[Complex64],
        scratch: &mut [Complex64],
    ) -> Spectrum {
        let mut out = self.times_field(u, dv, scratch);
        for (o, k) in out.iter_mut().zip(&self.wave) {
            *o *= Complex64::new(0.0, -k);
        }
        out
    }

    /// Its adjoint: $+u\,\partial_x \lambda$, because $\partial_x$ is skew.
    fn nonlinear_adjoint(&self, u: &[f64], w: &[Complex64], scratch: &mut [Complex64]) -> Spectrum {
        let derivative: Spectrum = w
            .iter()
            .zip(&self.wave)
            .map(|(w, k)| w * Complex64::new(0.0, *k))
            .collect();
        self.times_field(u, &derivative, scratch)
    }

    /// The spectrum of `u` times the field of `v`.
    fn times_field(&self, u: &[f64], v: &[Complex64], scratch: &mut [Complex64]) -> Spectrum {
        let mut product = vec![Complex64::default(); self.points];
        self.field(v, &mut product, scratch);
        product.iter_mut().zip(u).for_each(|(p, u)| *p *= *u);
        self.forward.process_with_scratch(&mut product, scratch);
        product
    }

    /// `a ⊙ x + b ⊙ y` with real multipliers.
    fn blend(a: &[f64], x: &[Complex64], b: &[f64], y: &[Complex64]) -> Spectrum {
        (0..x.len()).map(|i| x[i] * a[i] + y[i] * b[i]).collect()
    }
}

/// Buffers of one step, allocated once per call of `advance`.
struct Workspace {
    n1: Spectrum,
    n2: Spectrum,
    n3: Spectrum,
    n4: Spectrum,
    a: Spectrum,
    b: Spectrum,
}

impl Workspace {
    fn new(n: usize) -> Self {
        let zero = || vec![Complex64::default(); n];
        Self {
            n1: zero(),
            n2: zero(),
            n3: zero(),
            n4: zero(),
            a: zero(),
            b: zero(),
        }
    }
}

impl Model for KuramotoSivashinsky {
    fn dimension(&self) -> usize {
        self.points
    }

    fn time_step(&self) -> f64 {
        self.time_step
    }

    /// The start of Kassam and Trefethen, $\cos\theta\,(1 + \sin\theta)$ over one period, run for
    /// 150 time units so that it lies on the attractor.
    fn reference_state(&self) -> Vec<f64> {
        let mut state: Vec<f64> = (1..=self.points)
            .map(|i| 2.0 * PI * i as f64 / self.points as f64)
            .map(|angle| angle.cos() * (1.0 + angle.sin()))
            .collect();
        self.advance(&mut state, (SPIN_UP_TIME / self.time_step) as usize);
        state
    }

    fn advance(&self, states: &mut [f64], steps: usize) {
        let n = self.points;
        assert_eq!(states.len() % n, 0, "states must be whole rows of {n}");
        let (mut scratch, mut u) = (self.scratch(), vec![Complex64::default(); n]);
        let mut work = Workspace::new(n);
        for state in states.chunks_exact_mut(n) {
            let mut v = self.spectrum(state, &mut scratch);
            for _ in 0..steps {
                self.step_spectrum(&mut v, &mut work, &mut u, &mut scratch, |_, _| {});
            }
            self.field(&v, &mut u, &mut scratch);
            state.iter_mut().zip(&u).for_each(|(x, c)| *x = c.re);
        }
    }

    fn tangent(&self, state: &[f64], perturbation: &mut [f64]) {
        let [u0, u1, u2, u3] = self.stage_fields(state);
        let mut s = self.scratch();
        let dv = self.spectrum(perturbation, &mut s);
        let n1 = self.nonlinear_tangent(&u0, &dv, &mut s);
        let a = Self::blend(&self.half, &dv, &self.q, &n1);
        let n2 = self.nonlinear_tangent(&u1, &a, &mut s);
        let b = Self::blend(&self.half, &dv, &self.q, &n2);
        let n3 = self.nonlinear_tangent(&u2, &b, &mut s);
        let c: Spectrum = (0..self.points)
            .map(|i| a[i] * self.half[i] + (n3[i] * 2.0 - n1[i]) * self.q[i])
            .collect();
        let n4 = self.nonlinear_tangent(&u3, &c, &mut s);
        let end: Spectrum = (0..self.points)
            .map(|i| {
                dv[i] * self.full[i]
                    + n1[i] * self.f1[i]
                    + (n2[i] + n3[i]) * (2.0 * self.f2[i])
                    + n4[i] * self.f3[i]
            })
            .collect();
        self.write_field(&end, perturbation, &mut s);
    }

    fn adjoint(&self, state: &[f64], cotangent: &mut [f64]) {
        let [u0, u1, u2, u3] = self.stage_fields(state);
        let mut s = self.scratch();
        let w = self.spectrum(cotangent, &mut s);
        let times = |m: &[f64], x: &[Complex64], factor: f64| -> Spectrum {
            x.iter().zip(m).map(|(x, m)| x * (m * factor)).collect()
        };
        let add = |to: &mut Spectrum, what: Spectrum| {
            to.iter_mut().zip(what).for_each(|(t, w)| *t += w);
        };
        // Names as in `tangent`, barred: every line there is transposed here, last line first.
        let mut v_bar = times(&self.full, &w, 1.0);
        let mut n1_bar = times(&self.f1, &w, 1.0);
        let mut n2_bar = times(&self.f2, &w, 2.0);
        let mut n3_bar = n2_bar.clone();
        let c_bar = self.nonlinear_adjoint(&u3, &times(&self.f3, &w, 1.0), &mut s);
        let mut a_bar = times(&self.half, &c_bar, 1.0);
        add(&mut n3_bar, times(&self.q, &c_bar, 2.0));
        add(&mut n1_bar, times(&self.q, &c_bar, -1.0));
        let b_bar = self.nonlinear_adjoint(&u2, &n3_bar, &mut s);
        add(&mut v_bar, times(&self.half, &b_bar, 1.0));
        add(&mut n2_bar, times(&self.q, &b_bar, 1.0));
        add(&mut a_bar, self.nonlinear_adjoint(&u1, &n2_bar, &mut s));
        add(&mut v_bar, times(&self.half, &a_bar, 1.0));
        add(&mut n1_bar, times(&self.q, &a_bar, 1.0));
        add(&mut v_bar, self.nonlinear_adjoint(&u0, &n1_bar, &mut s));
        self.write_field(&v_bar, cotangent, &mut s);
    }
}

impl KuramotoSivashinsky {
    fn write_field(&self, v: &[Complex64], out: &mut [f64], scratch: &mut [Complex64]) {
        let mut u = vec![Complex64::default(); self.points];
        self.field(v, &mut u, scratch);
        out.iter_mut().zip(&u).for_each(|(x, c)| *x = c.re);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::laws;

    /// Tangent, adjoint and independence of rows.
    #[test]
    fn keeps_the_laws_of_a_model() {
        let model = KuramotoSivashinsky::try_new(128, 32.0, 0.5).unwrap();
        laws::check(&model, &model.reference_state());
    }

    /// The mean of the field is conserved, because every term is a derivative.
    #[test]
    fn conserves_the_mean() {
        let model = KuramotoSivashinsky::try_new(64, 32.0, 0.25).unwrap();
        let mut u = model.reference_state();
        let before: f64 = u.iter().sum();
        model.advance(&mut u, 100);
        assert!((u.iter().sum::<f64>() - before).abs() < 1e-10);
    }

    /// Halving the step divides the error by 2⁴: the scheme has order four.
    #[test]
    fn order_is_four() {
        let start = KuramotoSivashinsky::try_new(64, 32.0, 0.25)
            .unwrap()
            .reference_state();
        let at = |steps: usize| {
            let model = KuramotoSivashinsky::try_new(64, 32.0, 2.0 / steps as f64).unwrap();
            let mut u = start.clone();
            model.advance(&mut u, steps);
            u
        };
        let exact = at(2048);
        let error = |steps| {
            at(steps)
                .iter()
                .zip(&exact)
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let order = (error(64) / error(128)).log2();
        assert!((order - 4.0).abs() < 0.3, "observed order {order}");
    }
}
