//! Kernels for NVIDIA GPUs of what takes many operations of candle and one sweep of memory, or scores of all pairs.
//!
//! A kernel gives the value and the cotangents of a segment of a tape, in `bf16` with sums in `f32`; what it computes is
//! what the segment records, which second derivatives use, and everything where there is no kernel: on processors, in
//! other types, on GPUs before compute capability 8.0. Sums have a fixed order, so that bits repeat. The text of the
//! kernels is compiled when one is first used; each file says how it is launched.

#[cfg(feature = "cuda")]
mod attention;
#[cfg(feature = "cuda")]
mod ended;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
mod norm;
#[cfg(feature = "cuda")]
mod slabs;

use std::rc::Rc;

use advect_engine::Element;
use candle_core::{Result, Tensor};

use crate::local::Kernel;

/// What a kernel computes.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "kernels read it"))]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known {
    /// Norm of the last dimension of x, from x, gain and, unless `rms`, shift.
    Norm { epsilon: f64, rms: bool },
    /// f(u + b), from u and, if there is one, b of the last dimension.
    Ended(Of),
    /// f(a) b.
    Gated(Of),
    /// Attention of queries from position `first` on, `[b, n, g, r, d]`, to keys with values `[b, t, 2, g, d]`.
    Attention { causal: bool, first: usize },
}

/// Functions of each element, by their numbers in the kernels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Gelu = 1,
    Silu = 2,
    Sigmoid = 3,
    Relu = 4,
    Tanh = 5,
}

/// The kernel, if this was built with kernels.
#[cfg(feature = "cuda")]
pub(crate) fn kernel(of: Known) -> Option<Rc<dyn Kernel>> {
    Some(match of {
        Known::Norm { epsilon, rms } => Rc::new(norm::Norm { epsilon, rms }),
        Known::Ended(of) => Rc::new(ended::Ended(of)),
        Known::Gated(of) => Rc::new(ended::Gated(of)),
        Known::Attention { causal, first } => Rc::new(attention::Attention { causal, first }),
    })
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn kernel(_: Known) -> Option<Rc<dyn Kernel>> {
    None
}

/// x + y + b, where y and b may be absent, x and y are alike and b has the last dimensions of x; `None` if there is no
/// kernel for it.
#[cfg(feature = "cuda")]
pub(crate) fn total(x: &Tensor, y: Option<&Tensor>, b: Option<&Tensor>) -> Option<Result<Tensor>> {
    ended::takes_total(x, y, b).then(|| ended::total(x, y, b))
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn total(_: &Tensor, _: Option<&Tensor>, _: Option<&Tensor>) -> Option<Result<Tensor>> {
    None
}

/// The sum over the dimensions before the last `shape`, in `f32`; `None` if there is no kernel for it.
#[cfg(feature = "cuda")]
pub(crate) fn column_sums(x: &Tensor, shape: &[usize]) -> Option<Result<Tensor>> {
    launch::takes(&[x]).then(|| ended::column_sums(x, shape))
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn column_sums(_: &Tensor, _: &[usize]) -> Option<Result<Tensor>> {
    None
}

/// Numbers that come from a GPU.
#[cfg(feature = "cuda")]
pub(crate) trait Brought:
    Element + candle_core::cuda::CudaDType + candle_core::cuda::cudarc::driver::DeviceRepr
{
}

#[cfg(feature = "cuda")]
impl<T: Element + candle_core::cuda::CudaDType + candle_core::cuda::cudarc::driver::DeviceRepr>
    Brought for T
{
}

/// Numbers that come from a GPU.
#[cfg(not(feature = "cuda"))]
pub(crate) trait Brought: Element {}

#[cfg(not(feature = "cuda"))]
impl<T: Element> Brought for T {}

/// The elements of a tensor on a GPU in row-major order, in memory that is used again; `None` if it is on none.
#[cfg(feature = "cuda")]
pub(crate) fn brought<T: Brought>(tensor: &Tensor) -> Option<Result<Vec<T>>> {
    tensor.device().is_cuda().then(|| launch::bring(tensor))
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn brought<T: Brought>(_: &Tensor) -> Option<Result<Vec<T>>> {
    None
}
