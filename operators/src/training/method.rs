//! Optimizers: what one element of a parameter becomes, from its gradient and its own past.
//!
//! They work element by element, so that the layout in which a parameter is held is the layout of its
//! state: where it is cut over the workers of the data axis, that is ZeRO (Rajbhandari et al. 2020), and
//! nothing here knows of it.

use serde::{Deserialize, Serialize};

use crate::kernels::wide;
use crate::network::real::Real;

/// An optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Loshchilov and Hutter (2019), *Decoupled weight decay regularization*, algorithm 2.
    AdamW {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of their squares.
        beta2: f64,
        /// Added to the root of the mean of squares.
        epsilon: f64,
    },
    /// Sutskever et al. (2013): $v \leftarrow \mu v + g$, $w \leftarrow w - \alpha v$.
    Momentum {
        /// μ.
        momentum: f64,
    },
}

/// One step of all elements of a piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stride {
    /// The learning rate.
    pub(crate) rate: f64,
    /// Steps taken before this one.
    pub(crate) step: u64,
    /// What gradients are multiplied by before they are used.
    pub(crate) scale: f64,
    /// Weight decay: the part of a weight that is taken off, over the learning rate.
    pub(crate) decay: f64,
}

impl Method {
    /// AdamW with decays of 0.9 and 0.95 and ε = 1e-8, as language models are trained.
    pub const ADAMW: Method = Method::AdamW {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
    };

    /// Names of the numbers of state that are kept for each element.
    pub fn slots(&self) -> &'static [&'static str] {
        match self {
            Method::AdamW { .. } => &["mean", "square"],
            Method::Momentum { .. } => &["speed"],
        }
    }

    /// Takes a step: weights and the slots of state (a vector of their length for each of `slots()`) in place.
    pub(crate) fn step<T: Real>(
        &self,
        stride: Stride,
        weights: &mut [T],
        state: &mut [Vec<T>],
        gradient: &[T],
    ) {
        let scale = T::of(stride.scale);
        let keep = T::of(1.0 - stride.rate * stride.decay);
        match (*self, state) {
            (
                Method::AdamW {
                    beta1,
                    beta2,
                    epsilon,
                },
                [mean, square],
            ) => {
                let n = stride.step as f64 + 1.0;
                let (bias1, bias2) = (1.0 - beta1.powf(n), 1.0 - beta2.powf(n));
                let (b1, b2) = (T::of(beta1), T::of(beta2));
                let (c1, c2) = (T::of(1.0 - beta1), T::of(1.0 - beta2));
                let (rate, root) = (T::of(stride.rate / bias1), T::of(bias2.sqrt().recip()));
                let epsilon = T::of(epsilon);
                let by = AdamW {
                    scale,
                    keep,
                    b1,
                    b2,
                    c1,
                    c2,
                    rate,
                    root,
                    epsilon,
                };
                adam_w(by, weights, mean, square, gradient);
            }
            (Method::Momentum { momentum }, [speed]) => {
                let (momentum, rate) = (T::of(momentum), T::of(stride.rate));
                momentum_step([scale, keep, momentum, rate], weights, speed, gradient);
            }
            (_, state) => unreachable!("{} slots for {self:?}", state.len()),
        }
    }
}

/// The constants of a step of AdamW.
struct AdamW<T> {
    scale: T,
    keep: T,
    b1: T,
    b2: T,
    c1: T,
    c2: T,
    rate: T,
    root: T,
    epsilon: T,
}

wide! {
    fn adam_w<T: Real>(
        by: AdamW<T>, weights: &mut [T], mean: &mut [T], square: &mut [T], gradient: &[T],
    ) {
        let moments = mean.iter_mut().zip(square);
        for ((w, &g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
            let g = g * by.scale;
            *m = by.b1 * *m + by.c1 * g;
            *v = by.b2 * *v + by.c2 * g * g;
            *w = *w * by.keep - by.rate * *m / (v.root() * by.root + by.epsilon);
        }
    }

    fn momentum_step<T: Real>(by: [T; 4], weights: &mut [T], speed: &mut [T], gradient: &[T]) {
        let [scale, keep, momentum, rate] = by;
        for ((w, &g), v) in weights.iter_mut().zip(gradient).zip(speed) {
            *v = momentum * *v + g * scale;
            *w = *w * keep - rate * *v;
        }
    }
}
