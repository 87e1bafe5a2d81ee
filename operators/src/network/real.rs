//! Single and double precision, and numbers whose sums have no order, behind one trait, so that an
//! operator is written once.

use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};

use advect_engine::{Canonical, Data, Element};
use faer::{Accum, MatMut, MatRef, Par};

use crate::kernels;

/// `f32`, `f64` or [`Canonical`].
///
/// What is a sum in an operator is written with `+=`, [`Real::times_plus`] or [`Real::multiply`], and what
/// is the arithmetic of one element with the operators: so sums that may be cut have no order where that is
/// asked for.
pub(crate) trait Real:
    Element
    + Copy
    + PartialOrd
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + MulAssign
    + Div<Output = Self>
    + DivAssign
    + Neg<Output = Self>
{
    /// −∞.
    const LOWEST: Self;
    /// The nearest number of this type.
    fn of(x: f64) -> Self;
    /// eˣ.
    fn exponential(self) -> Self;
    /// ln x.
    fn logarithm(self) -> Self;
    /// √x.
    fn root(self) -> Self;
    /// tanh x.
    fn hyperbolic_tangent(self) -> Self;
    /// `self a + b`, rounded once; or `self a` added to the sum `b`.
    fn times_plus(self, a: Self, b: Self) -> Self;
    /// `to = a b` or `to += a b`, times `scale`, on this thread.
    fn multiply(
        to: MatMut<'_, Self>,
        how: Accum,
        a: MatRef<'_, Self>,
        b: MatRef<'_, Self>,
        scale: Self,
    );
    /// Numbers as the contents of a shard.
    fn data(numbers: Vec<Self>) -> Data;
}

macro_rules! real {
    ($t:ty, $exponential:path) => {
        impl Real for $t {
            const LOWEST: Self = <$t>::NEG_INFINITY;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn exponential(self) -> Self {
                $exponential(self)
            }
            #[inline(always)]
            fn times_plus(self, a: Self, b: Self) -> Self {
                self.mul_add(a, b)
            }
            fn logarithm(self) -> Self {
                self.ln()
            }
            #[inline(always)]
            fn root(self) -> Self {
                self.sqrt()
            }
            fn hyperbolic_tangent(self) -> Self {
                self.tanh()
            }
            fn multiply(
                to: MatMut<'_, Self>,
                how: Accum,
                a: MatRef<'_, Self>,
                b: MatRef<'_, Self>,
                scale: Self,
            ) {
                faer::linalg::matmul::matmul(to, how, a, b, scale, Par::Seq);
            }
            fn data(numbers: Vec<Self>) -> Data {
                numbers.into()
            }
        }
    };
}
real!(f32, kernels::exponential);
real!(f64, f64::exp);

impl Real for Canonical {
    const LOWEST: Self = Canonical(f64::NEG_INFINITY);
    #[inline(always)]
    fn of(x: f64) -> Self {
        Canonical(x)
    }
    #[inline(always)]
    fn exponential(self) -> Self {
        Canonical(self.0.exp())
    }
    #[inline(always)]
    fn times_plus(self, a: Self, b: Self) -> Self {
        self.product_onto(a, b)
    }
    fn logarithm(self) -> Self {
        Canonical(self.0.ln())
    }
    #[inline(always)]
    fn root(self) -> Self {
        Canonical(self.0.sqrt())
    }
    fn hyperbolic_tangent(self) -> Self {
        Canonical(self.0.tanh())
    }
    fn multiply(
        to: MatMut<'_, Self>,
        how: Accum,
        a: MatRef<'_, Self>,
        b: MatRef<'_, Self>,
        scale: Self,
    ) {
        kernels::canonical::multiply(to, how, a, b, scale);
    }
    fn data(numbers: Vec<Self>) -> Data {
        numbers.into()
    }
}

/// `Some($body)` with `$T` as the real type of `$dtype`, `None` for other types.
macro_rules! as_real {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            advect_engine::DType::F32 => {
                type $T = f32;
                Some($body)
            }
            advect_engine::DType::F64 => {
                type $T = f64;
                Some($body)
            }
            advect_engine::DType::Canonical => {
                type $T = advect_engine::Canonical;
                Some($body)
            }
            _ => None,
        }
    };
}
pub(crate) use as_real;

/// Runs `$body` with `$T` as the real type of `$dtype`; other types were refused by `infer`.
macro_rules! with_real {
    ($site:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $crate::network::real::as_real!($dtype, $T => $body) {
            Some(made) => made,
            None => Err($site.error(format!("{:?} is not f32, f64 or canonical", $dtype))),
        }
    };
}
pub(crate) use with_real;
