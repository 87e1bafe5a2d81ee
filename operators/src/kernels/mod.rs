//! Loops that operators spend their time in, for the widest instructions that the processor has.
//!
//! What a loop computes does not depend on these instructions: elementary functions are the same
//! polynomials everywhere, products are fused by definition, and sums have a fixed number of lanes. So
//! the numbers are the same on every processor.

pub(crate) mod canonical;
mod elementary;
pub(crate) mod product;
mod rows;
mod threads;

use advect_engine::shard::buffer;

use crate::network::real::Real;

pub(crate) use elementary::exponential;
pub(crate) use rows::{dot, highest, sum, sum_of, weigh};
pub(crate) use threads::{each, each_with};

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
    #[allow(clippy::assign_op_pattern, reason = "`+=` adds a term to a sum, and these are elements")]
    pub(crate) fn add_to_rows<T: Real>(x: &mut [T], b: &[T]) {
        for row in x.chunks_exact_mut(b.len().max(1)) {
            for (x, &b) in row.iter_mut().zip(b) {
                *x = *x + b;
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

    /// $x + y$ into `to`.
    fn plus<T: Real>(x: &[T], y: &[T], to: &mut [T]) {
        for ((to, &x), &y) in to.iter_mut().zip(x).zip(y) {
            *to = x + y;
        }
    }

    /// $x + b$ into `to`, b to each row.
    fn plus_row<T: Real>(x: &[T], b: &[T], to: &mut [T]) {
        let rows = x.chunks_exact(b.len().max(1)).zip(to.chunks_exact_mut(b.len().max(1)));
        for (x, to) in rows {
            for ((to, &x), &b) in to.iter_mut().zip(x).zip(b) {
                *to = x + b;
            }
        }
    }

    /// $x + y + b$ into `to`, b to each row.
    fn plus_both<T: Real>(x: &[T], y: &[T], b: &[T], to: &mut [T]) {
        let width = b.len().max(1);
        let rows = x.chunks_exact(width).zip(y.chunks_exact(width));
        for ((x, y), to) in rows.zip(to.chunks_exact_mut(width)) {
            for (((to, &x), &y), &b) in to.iter_mut().zip(x).zip(y).zip(b) {
                *to = x + (y + b);
            }
        }
    }
}

/// Elements of a loop that are worth a task.
pub(crate) const RUN: usize = 1 << 16;

/// Elements of a task that holds whole rows of `width`.
pub(crate) fn run_of_rows(width: usize) -> usize {
    (RUN / width.max(1)).max(1) * width.max(1)
}

/// $x + y$.
pub(crate) fn sum_of_both<T: Real>(x: &[T], y: &[T]) -> Vec<T> {
    let mut to = buffer(x.len());
    let parts = x.chunks(RUN).zip(y.chunks(RUN)).zip(to.chunks_mut(RUN));
    each(parts.collect(), |((x, y), to)| plus(x, y, to));
    to
}

/// $x + b$, or $x + y + b$, b to each row.
pub(crate) fn sum_with_row<T: Real>(x: &[T], y: Option<&[T]>, b: &[T]) -> Vec<T> {
    let mut to = buffer(x.len());
    let run = run_of_rows(b.len());
    let parts = to.chunks_mut(run).enumerate().collect();
    each(parts, |(at, to): (usize, &mut [T])| {
        let part = at * run..at * run + to.len();
        match y {
            Some(y) => plus_both(&x[part.clone()], &y[part], b, to),
            None => plus_row(&x[part], b, to),
        }
    });
    to
}

/// The sum of the rows of `x`: by blocks, which are added in their order.
pub(crate) fn sum_of_rows<T: Real>(x: &[T], width: usize) -> Vec<T> {
    let run = run_of_rows(width);
    let mut parts = vec![T::of(0.0); x.len().div_ceil(run).max(1) * width];
    let tasks = x.chunks(run).zip(parts.chunks_mut(width.max(1)));
    each(tasks.collect(), |(x, sums)| add_rows(x, sums));
    total(parts, width)
}

/// The sum of sums of `width` columns, in their order.
pub(crate) fn total<T: Real>(mut parts: Vec<T>, width: usize) -> Vec<T> {
    let (sums, more) = parts.split_at_mut(width);
    more.chunks_exact(width.max(1))
        .for_each(|part| add_to_rows(sums, part));
    parts.truncate(width);
    parts
}

/// Zeros, in memory that is used again.
pub(crate) fn zeros<T: Real>(len: usize) -> Vec<T> {
    let mut numbers = buffer(len);
    numbers.fill(T::of(0.0));
    numbers
}
