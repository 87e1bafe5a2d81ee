//! Loops that operators spend their time in, for the widest instructions that the processor has.
//!
//! What a loop computes does not depend on these instructions: elementary functions are the same
//! polynomials everywhere, products are fused by definition, and sums have a fixed number of lanes. So
//! the numbers are the same on every processor.

mod elementary;
mod rows;

use crate::network::real::Real;

pub(crate) use elementary::exponential;
pub(crate) use rows::{dot, highest, sum, sum_of};

/// Defines functions that are compiled three times, for processors with AVX-512, with AVX2 and FMA, and
/// with neither, and choose at run time. What they call is only compiled with them if it is
/// `#[inline(always)]`; closures are not, so that their loops are plain ones.
macro_rules! wide {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<T: Real>($($arg:ident: $type:ty),* $(,)?) $body:block
    )*) => {$(
        $(#[$meta])*
        #[allow(unsafe_code, reason = "instructions that were looked for are there")]
        $vis fn $name<T: Real>($($arg: $type),*) {
            #[inline(always)]
            fn body<T: Real>($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn with_avx512<T: Real>($($arg: $type),*) {
                    body($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn with_avx2<T: Real>($($arg: $type),*) {
                    body($($arg),*);
                }
                match $crate::kernels::level() {
                    // SAFETY: the processor has the instructions, or the level would be another.
                    $crate::kernels::Level::Avx512 => return unsafe { with_avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::Level::Avx2 => return unsafe { with_avx2($($arg),*) },
                    $crate::kernels::Level::Plain => {}
                }
            }
            body($($arg),*);
        }
    )*};
}
pub(crate) use wide;

/// What the processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Avx512,
    Avx2,
    Plain,
}

/// What this processor has; a look at memory after the first call.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn level() -> Level {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        return Level::Plain;
    }
    let wider = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    if wider { Level::Avx512 } else { Level::Avx2 }
}

wide! {
    /// Adds `b` to each row of `x`.
    pub(crate) fn add_to_rows<T: Real>(x: &mut [T], b: &[T]) {
        for row in x.chunks_exact_mut(b.len().max(1)) {
            for (x, &b) in row.iter_mut().zip(b) {
                *x += b;
            }
        }
    }

    /// Adds up the rows of `x` in `sums`.
    pub(crate) fn add_rows<T: Real>(x: &[T], sums: &mut [T]) {
        for row in x.chunks_exact(sums.len().max(1)) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}
