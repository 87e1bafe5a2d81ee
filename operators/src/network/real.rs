//! Single and double precision behind one trait, so that an operator is written once.

use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};

use advect_engine::{Data, Element};
use faer::traits::ComplexField;

/// `f32` or `f64`.
pub(crate) trait Real:
    Element
    + ComplexField
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
    /// `self a + b`, rounded once.
    fn times_plus(self, a: Self, b: Self) -> Self;
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
            fn data(numbers: Vec<Self>) -> Data {
                numbers.into()
            }
        }
    };
}
real!(f32, crate::kernels::exponential);
real!(f64, f64::exp);

/// Runs `$body` with `$T` as the real type of `$dtype`; other types were refused by `infer`.
macro_rules! with_real {
    ($site:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            advect_engine::DType::F32 => {
                type $T = f32;
                $body
            }
            advect_engine::DType::F64 => {
                type $T = f64;
                $body
            }
            other => Err($site.error(format!("{other:?} is not f32 or f64"))),
        }
    };
}
pub(crate) use with_real;
