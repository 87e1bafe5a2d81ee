//! Kernels by name, with tensors as arguments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use advect_engine::shard::buffer;
use candle_core::cuda::cudarc::driver::{
    CudaContext, DevicePtr, LaunchConfig, PushKernelArg, sys::CUfunction_attribute_enum,
};
use candle_core::cuda::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::{CudaDevice, DType, Device, Error, Result, Shape, Storage, Tensor, bail};
use half::bf16;

use super::Brought;

/// What all kernels share.
const COMMON: &str = include_str!("common.cuh");
/// Shared memory that a block has without asking.
const SHARED: usize = 48 << 10;
/// `mma` on `bf16` and copies beside work are there from this capability on.
const CAPABILITY: i32 = 8;

/// The text of kernels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    /// Width of a head, for which it is compiled.
    pub(super) head: Option<usize>,
}

/// Blocks, threads of a block, and bytes of shared memory that it asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) grid: [usize; 3],
    pub(super) block: [usize; 2],
    pub(super) shared: usize,
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arg<'a> {
    /// Read or written; in row-major order, from a multiple of 16 bytes on.
    Tensor(&'a Tensor),
    /// A tensor that is not there.
    Absent,
    Int(usize),
    Count(usize),
    Real(f64),
}

impl<'a> Arg<'a> {
    pub(super) fn maybe(tensor: Option<&'a Tensor>) -> Self {
        tensor.map_or(Arg::Absent, Arg::Tensor)
    }
}

/// An argument as it is passed.
enum Passed {
    Address(u64),
    Int(i32),
    Real(f32),
}

/// Whether there are kernels for the device and the types of these tensors: the first is `bf16`.
pub(super) fn takes(tensors: &[&Tensor]) -> bool {
    let known = |t: &&Tensor| matches!(t.dtype(), DType::BF16 | DType::F32) && t.elem_count() > 0;
    let Some(Device::Cuda(device)) = tensors.first().map(|t| t.device()) else {
        return false;
    };
    tensors[0].dtype() == DType::BF16
        && tensors.iter().all(known)
        && capability(device.cuda_stream().context()).is_ok_and(|(major, _)| major >= CAPABILITY)
}

fn capability(context: &CudaContext) -> Result<(i32, i32)> {
    context.compute_capability().map_err(Error::wrap)
}

/// The tensor as kernels read it.
pub(super) fn rows(tensor: &Tensor) -> Result<Tensor> {
    let whole = tensor.contiguous()?;
    match address(&whole)?.is_multiple_of(16) {
        true => Ok(whole),
        false => whole.force_contiguous(),
    }
}

/// A tensor for a kernel that writes all of it.
pub(super) fn empty(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    #[allow(
        unsafe_code,
        reason = "the kernel that it is made for writes every element"
    )]
    // SAFETY: nothing reads it before that kernel, which is the next to work on it in its stream.
    unsafe {
        Tensor::empty(shape, dtype, device)
    }
}

/// Starts a kernel on the device of its first tensor.
pub(super) fn launch(code: Code, kernel: &str, extent: Extent, args: &[Arg<'_>]) -> Result<()> {
    let mut tensors = args.iter().filter_map(|arg| match arg {
        Arg::Tensor(tensor) => Some(tensor.device()),
        _ => None,
    });
    let Some(Device::Cuda(device)) = tensors.next() else {
        bail!("{kernel} has no tensor on a GPU");
    };
    let (module, text) = compiled(device, code)?;
    let function = device.get_or_load_custom_func(kernel, &module, &text)?;
    if extent.shared > SHARED {
        let most = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let bytes = extent.shared as i32;
        function.set_attribute(most, bytes).map_err(Error::wrap)?;
    }
    let passed = args.iter().map(|arg| {
        Ok(match *arg {
            Arg::Tensor(tensor) => Passed::Address(address(tensor)?),
            Arg::Absent => Passed::Address(0),
            Arg::Count(n) => Passed::Address(n as u64),
            Arg::Int(n) => Passed::Int(i32::try_from(n).map_err(Error::wrap)?),
            Arg::Real(x) => Passed::Real(x as f32),
        })
    });
    let passed = passed.collect::<Result<Vec<_>>>()?;
    let mut builder = function.builder();
    for arg in &passed {
        match arg {
            Passed::Address(n) => builder.arg(n),
            Passed::Int(n) => builder.arg(n),
            Passed::Real(x) => builder.arg(x),
        };
    }
    let [x, y, z] = extent.grid.map(|n| n as u32);
    let [across, down] = extent.block.map(|n| n as u32);
    let config = LaunchConfig {
        grid_dim: (x, y, z),
        block_dim: (across, down, 1),
        shared_mem_bytes: extent.shared as u32,
    };
    #[allow(unsafe_code, reason = "a kernel is foreign code")]
    // SAFETY: the arguments are those that the text of the kernel names, in its order; the extents come from the
    // tensors, which live until it is in the stream, and memory is freed in the order of the stream.
    unsafe { builder.launch(config) }.map_err(Error::wrap)?;
    Ok(())
}

/// What a text is called and what it is in the language of the driver; it is compiled if it was not yet.
fn compiled(device: &CudaDevice, code: Code) -> Result<(String, Arc<str>)> {
    static COMPILED: Mutex<BTreeMap<String, Arc<str>>> = Mutex::new(BTreeMap::new());
    let (major, minor) = capability(device.cuda_stream().context())?;
    let head = code.head.map_or(String::new(), |head| format!(" {head}"));
    let module = format!("{}{head} {major}.{minor}", code.name);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = compiled.get(&module) {
        return Ok((module, Arc::clone(known)));
    }
    let head = code
        .head
        .map_or(String::new(), |head| format!("#define HEAD {head}\n"));
    let text = [&head, COMMON, code.text].concat();
    let options = CompileOptions {
        options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
        ..CompileOptions::default()
    };
    let made = compile_ptx_with_opts(text, options);
    let made = made.map_err(|e| Error::msg(format!("{module}: {e}")))?;
    let made: Arc<str> = made.to_src().into();
    compiled.insert(module.clone(), Arc::clone(&made));
    Ok((module, made))
}

/// Where a tensor begins in the memory of its GPU.
fn address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("{tensor:?} is on no GPU");
    };
    let (stream, from) = (storage.device.cuda_stream(), layout.start_offset());
    let address = match tensor.dtype() {
        DType::BF16 => {
            let all = storage.as_cuda_slice::<bf16>()?.slice(from..);
            all.device_ptr(&stream).0
        }
        DType::F32 => {
            let all = storage.as_cuda_slice::<f32>()?.slice(from..);
            all.device_ptr(&stream).0
        }
        other => bail!("no kernel takes {other:?}"),
    };
    Ok(address)
}

/// The elements of a tensor, in memory of this worker that is used again.
pub(super) fn bring<T: Brought>(tensor: &Tensor) -> Result<Vec<T>> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("{tensor:?} is on no GPU");
    };
    let (from, count) = (layout.start_offset(), tensor.elem_count());
    let mut numbers = buffer(count);
    let all = storage.as_cuda_slice::<T>()?.slice(from..from + count);
    storage.device.memcpy_dtoh(&all, &mut numbers)?;
    Ok(numbers)
}
