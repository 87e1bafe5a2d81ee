//! Pieces of logical tensors as tensors of candle, and back.

use std::sync::Arc;

use advect_engine::graph::Site;
use advect_engine::{DType, Data, Result, Shard};
use candle_core::{Device, Tensor, WithDType};
use half::bf16;

/// The type of the numbers there, if tensors of candle have it.
pub(super) fn known(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::BF16 | DType::I64)
}

/// A piece on a device.
pub(super) fn tensor(site: &Site, piece: &Shard, device: &Device) -> Result<Tensor> {
    let made = match piece.dtype() {
        DType::F32 => Tensor::from_slice(piece.elements::<f32>(), &*piece.shape, device),
        DType::F64 => Tensor::from_slice(piece.elements::<f64>(), &*piece.shape, device),
        DType::BF16 => Tensor::from_slice(piece.elements::<bf16>(), &*piece.shape, device),
        DType::I64 => Tensor::from_slice(piece.elements::<i64>(), &*piece.shape, device),
        other => return Err(site.error(format!("{other:?} is no type of tensors of candle"))),
    };
    made.map_err(|e| site.error(e.to_string()))
}

/// A tensor as the piece that it stands for.
pub(super) fn piece(site: &Site, tensor: &Tensor) -> Result<Shard> {
    fn numbers<T: WithDType>(tensor: &Tensor) -> candle_core::Result<Arc<Vec<T>>> {
        Ok(Arc::new(tensor.flatten_all()?.to_vec1()?))
    }
    let made = match tensor.dtype() {
        candle_core::DType::F32 => numbers(tensor).map(Data::F32),
        candle_core::DType::F64 => numbers(tensor).map(Data::F64),
        candle_core::DType::BF16 => numbers(tensor).map(Data::BF16),
        candle_core::DType::I64 => numbers(tensor).map(Data::I64),
        other => {
            let why = format!("{other:?} is no type of shards; cast to F32, F64, BF16 or I64");
            return Err(site.error(why));
        }
    };
    let data = made.map_err(|e| site.error(e.to_string()))?;
    Ok(Shard::new(site.key(), tensor.dims().to_vec(), data))
}
