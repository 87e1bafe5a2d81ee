//! Pieces of logical tensors as tensors of candle, and back.

use std::any::Any;
use std::sync::Arc;

use advect_engine::graph::Site;
use advect_engine::shard::Elsewhere;
use advect_engine::{DType, Data, Result, Shard};
use candle_core::{Device, Tensor, WithDType};
use half::bf16;

use crate::OperatorError;
use crate::gpu;

/// The type of the numbers there, if tensors of candle have it.
pub(super) fn known(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::BF16 | DType::I64)
}

/// What a shard holds of a device that is no processor.
struct OnDevice(Tensor);

impl Elsewhere for OnDevice {
    fn bring(&self) -> Data {
        numbers(&self.0)
            .unwrap_or_else(|e| panic!("a tensor cannot be brought from its device: {e}"))
    }

    fn plus(&self, other: &dyn Any) -> Option<Box<dyn Elsewhere>> {
        let OnDevice(other) = other.downcast_ref()?;
        let other = other.reshape(self.0.shape()).ok()?;
        Some(Box::new(OnDevice(self.0.add(&other).ok()?)))
    }
}

/// A piece whose contents are on a device, where operators on it find them.
///
/// # Errors
/// [`OperatorError::Tensor`] if tensors there have no such type, or the device refuses.
pub fn placed(piece: &Shard, device: &Device) -> std::result::Result<Shard, OperatorError> {
    let there = made(piece, device).map_err(|e| OperatorError::tensor("placed", e.to_string()))?;
    let (key, shape) = (piece.key, piece.shape.clone());
    Ok(match device.is_cpu() {
        true => piece.clone(),
        false => Shard::away(key, shape, piece.dtype(), OnDevice(there)),
    })
}

/// A piece on a device: as it is, if it is there.
pub(super) fn tensor(site: &Site, piece: &Shard, device: &Device) -> Result<Tensor> {
    if let Some(OnDevice(there)) = piece.elsewhere()
        && there.device().same_device(device)
    {
        let made = there.reshape(&*piece.shape);
        return made.map_err(|e| site.error(e.to_string()));
    }
    made(piece, device).map_err(|e| site.error(e.to_string()))
}

fn made(piece: &Shard, device: &Device) -> candle_core::Result<Tensor> {
    let shape = &*piece.shape;
    match piece.dtype() {
        DType::F32 => Tensor::from_slice(piece.elements::<f32>(), shape, device),
        DType::F64 => Tensor::from_slice(piece.elements::<f64>(), shape, device),
        DType::BF16 => Tensor::from_slice(piece.elements::<bf16>(), shape, device),
        DType::I64 => Tensor::from_slice(piece.elements::<i64>(), shape, device),
        other => candle_core::bail!("{other:?} is no type of tensors of candle"),
    }
}

/// A tensor as the piece that it stands for, which stays on its device until it is read.
pub(super) fn piece(site: &Site, tensor: &Tensor) -> Result<Shard> {
    let refused = |e: candle_core::Error| site.error(e.to_string());
    let Some(dtype) = kind(tensor.dtype()) else {
        let other = tensor.dtype();
        let why = format!("{other:?} is no type of shards; cast to F32, F64, BF16 or I64");
        return Err(site.error(why));
    };
    let (key, shape) = (site.key(), tensor.dims().to_vec());
    if tensor.device().is_cpu() || tensor.elem_count() == 0 {
        return Ok(Shard::new(key, shape, numbers(tensor).map_err(refused)?));
    }
    // row-major, as it is brought
    let whole = tensor.contiguous().map_err(refused)?;
    Ok(Shard::away(key, shape, dtype, OnDevice(whole)))
}

/// The type of shards with the numbers of a tensor, if there is one.
fn kind(of: candle_core::DType) -> Option<DType> {
    match of {
        candle_core::DType::F32 => Some(DType::F32),
        candle_core::DType::F64 => Some(DType::F64),
        candle_core::DType::BF16 => Some(DType::BF16),
        candle_core::DType::I64 => Some(DType::I64),
        _ => None,
    }
}

/// The elements in row-major order.
fn numbers(tensor: &Tensor) -> candle_core::Result<Data> {
    fn of<T: WithDType + gpu::Brought>(tensor: &Tensor) -> candle_core::Result<Arc<Vec<T>>> {
        Ok(Arc::new(match gpu::brought(tensor) {
            Some(numbers) => numbers?,
            None => tensor.flatten_all()?.to_vec1()?,
        }))
    }
    match tensor.dtype() {
        candle_core::DType::F32 => of(tensor).map(Data::F32),
        candle_core::DType::F64 => of(tensor).map(Data::F64),
        candle_core::DType::BF16 => of(tensor).map(Data::BF16),
        candle_core::DType::I64 => of(tensor).map(Data::I64),
        other => candle_core::bail!("{other:?} is no type of shards"),
    }
}
