//! Nonlinear functions of each element: $y_i = f(x_i)$, $\bar x_i = f'(x_i)\,\bar y_i$.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Operator, Overlap, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::{RUN, each, wide};

/// A function of each element; `f32` or `f64`, in any layout but sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointwise {
    /// $\tanh x$.
    Tanh,
    /// $x\,\sigma(x)$ (Elfwing et al. 2018; also called swish).
    Silu,
    /// $\sigma(x) = 1 / (1 + e^{-x})$.
    Sigmoid,
    /// $\max(x, 0)$.
    Relu,
    /// $\tfrac12 x\,(1 + \tanh(\sqrt{2/\pi}\,(x + 0.044715\,x^3)))$ (Hendrycks and Gimpel 2016).
    Gelu,
}

/// $f(x)$ and $f'(x)$.
type Both<T> = (T, T);

#[inline(always)]
fn tanh<T: Real>(x: T) -> Both<T> {
    let y = x.hyperbolic_tangent();
    (y, T::of(1.0) - y * y)
}

/// $\sigma(x)$.
#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    let one = T::of(1.0);
    one / (one + (-x).exponential())
}

#[inline(always)]
fn silu<T: Real>(x: T) -> Both<T> {
    let (one, s) = (T::of(1.0), sigmoid(x));
    (x * s, s * (one + x * (one - s)))
}

#[inline(always)]
fn gate<T: Real>(x: T) -> Both<T> {
    let s = sigmoid(x);
    (s, s * (T::of(1.0) - s))
}

/// The slope at 0 is 0.
#[inline(always)]
fn relu<T: Real>(x: T) -> Both<T> {
    let zero = T::of(0.0);
    if x > zero {
        (x, T::of(1.0))
    } else {
        (zero, zero)
    }
}

/// $\tfrac12 (1 + \tanh u) = \sigma(2 u)$.
#[inline(always)]
fn gelu<T: Real>(x: T) -> Both<T> {
    const SCALE: f64 = 2.0 * 0.797_884_560_802_865_4; // 2 √(2/π)
    const CUBIC: f64 = 0.044715;
    let (one, square) = (T::of(1.0), x * x);
    let s = sigmoid(T::of(SCALE) * x * (one + T::of(CUBIC) * square));
    let inner = T::of(SCALE) * (one + T::of(3.0 * CUBIC) * square);
    (x * s, s * (one + x * (one - s) * inner))
}

macro_rules! loops {
    ($f:ident, $of:ident, $along:ident) => {
        wide! {
            fn $of<T: Real>(x: &[T], y: &mut [T]) {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = $f(x).0;
                }
            }
            fn $along<T: Real>(x: &[T], d: &[T], y: &mut [T]) {
                for ((y, &d), &x) in y.iter_mut().zip(d).zip(x) {
                    *y = d * $f(x).1;
                }
            }
        }
    };
}
loops!(tanh, of_tanh, along_tanh);
loops!(silu, of_silu, along_silu);
loops!(gelu, of_gelu, along_gelu);
loops!(gate, of_gate, along_gate);
loops!(relu, of_relu, along_relu);

impl Pointwise {
    /// $f(x)$ for each element.
    pub(crate) fn values<T: Real>(self, x: &[T], y: &mut [T]) {
        match self {
            Pointwise::Tanh => of_tanh(x, y),
            Pointwise::Silu => of_silu(x, y),
            Pointwise::Gelu => of_gelu(x, y),
            Pointwise::Sigmoid => of_gate(x, y),
            Pointwise::Relu => of_relu(x, y),
        }
    }

    /// $f'(x)\,d$ for each element.
    pub(crate) fn slopes<T: Real>(self, x: &[T], d: &[T], y: &mut [T]) {
        match self {
            Pointwise::Tanh => along_tanh(x, d, y),
            Pointwise::Silu => along_silu(x, d, y),
            Pointwise::Gelu => along_gelu(x, d, y),
            Pointwise::Sigmoid => along_gate(x, d, y),
            Pointwise::Relu => along_relu(x, d, y),
        }
    }

    fn along(self, site: &Site, saved: &Saved, d: &Shard) -> Result<Shard> {
        let x = saved.input(site, 0)?;
        with_real!(site, d.dtype(), T => {
            let mut out = buffer(d.len());
            let runs = x.elements().chunks(RUN).zip(d.elements().chunks(RUN));
            let runs = runs.zip(out.chunks_mut(RUN)).collect();
            each(runs, |((x, d), y): ((&[T], &[T]), &mut [T])| self.slopes(x, d, y));
            Ok(Shard::new(site.key(), d.shape.clone(), out.into()))
        })
    }
}

impl Operator for Pointwise {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        reals("Pointwise", inputs, &[0])?;
        if inputs[0].rows != Rows::Plain {
            return refuse("Pointwise", "scaled rows are finished first");
        }
        let mend = "finish sums first: a function of a sum is not the sum of the function";
        let layout = layout("Pointwise", inputs, mend, |on| match on[0] {
            Placement::Partial(_)
            | Placement::Halo {
                overlap: Overlap::Sums,
                ..
            } => None,
            p => Some(p),
        })?;
        Ok(vec![inputs[0].with_layout(layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let x = &inputs[0];
        let y = with_real!(site, x.dtype(), T => {
            let mut y = buffer(x.len());
            let runs = x.elements().chunks(RUN).zip(y.chunks_mut(RUN)).collect();
            each(runs, |(x, y): (&[T], &mut [T])| self.values(x, y));
            Ok(Shard::new(site.key(), x.shape.clone(), y.into()))
        })?;
        Ok((vec![y], Saved::nothing()))
    }

    fn keeps(&self) -> &[usize] {
        &[0]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![self.along(site, saved, &tangents[0])?])
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        Ok(vec![Some(self.along(site, saved, &cotangents[0])?)])
    }
}
