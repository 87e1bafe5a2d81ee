//! Laws of the tape. Four families:
//!
//! * `primitives`: every operation against differences, at first and second order.
//! * `sweeps`: what a sweep lets go and gives, and when; that it needs no stack.
//! * `remade`: segments keep less and change no bit.
//! * `refusals`: nothing is lost silently, and what does not fit is named.

#[path = "../common/mod.rs"]
mod common;
mod primitives;
mod refusals;
mod remade;
mod sweeps;

use advect_operators::OperatorError;
use advect_operators::local::{Handle, Tape, Tensor};

pub(crate) use common::device;

pub(crate) type Result<T> = std::result::Result<T, OperatorError>;

/// Numbers from −1 to 1 that look like chance.
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let count = shape.iter().product();
    Tensor::from_vec(numbers(count, seed), shape, &device()).expect("a tensor")
}

pub(crate) fn flat(tensor: &Tensor) -> Vec<f64> {
    let numbers = tensor.flatten_all().and_then(|t| t.to_vec1());
    numbers.expect("numbers")
}

pub(crate) fn dot(a: &Tensor, b: &Tensor) -> f64 {
    flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum()
}

pub(crate) fn ids(tape: &mut Tape, ids: &[i64]) -> Handle {
    tape.constant(&Tensor::new(ids, &device()).expect("ids"))
}
