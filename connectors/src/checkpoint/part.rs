//! Parts: what one worker writes.

use std::path::Path;

use advect_engine::{DType, Data};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use super::{bad, io};
use crate::error::Result;

/// A box of a logical tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// First index in each dimension.
    pub start: Vec<usize>,
    /// Extent in each dimension.
    pub extent: Vec<usize>,
}

impl Region {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.extent.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What two boxes have in common.
    pub(super) fn meet(&self, other: &Region) -> Option<Region> {
        let (mut start, mut extent) = (Vec::new(), Vec::new());
        for dim in 0..self.start.len() {
            let first = self.start[dim].max(other.start[dim]);
            let end =
                (self.start[dim] + self.extent[dim]).min(other.start[dim] + other.extent[dim]);
            if first >= end {
                return None;
            }
            start.push(first);
            extent.push(end - first);
        }
        Some(Region { start, extent })
    }
}

/// A piece of a logical tensor, in row-major order.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Name of the logical tensor.
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// Which box of it this is.
    pub region: Region,
    /// The elements of the box.
    pub data: Data,
}

/// A tensor of a part, as the manifest knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    #[serde(flatten)]
    pub(super) region: Region,
    pub(super) crc32: u32,
}

/// What was written: a receipt for the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub(super) file: String,
    pub(super) entries: Vec<Entry>,
}

/// The name of a type in safetensors.
pub(super) fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::BF16 => "BF16",
        DType::I64 => "I64",
        DType::I128 => "I128",
        DType::Canonical => "Canonical",
    }
}

pub(super) fn dtype_named(name: &str) -> Option<DType> {
    let held = |dtype: &DType| stored(*dtype).is_some() && dtype_name(*dtype) == name;
    DType::ALL.into_iter().find(held)
}

fn stored(dtype: DType) -> Option<Dtype> {
    match dtype {
        DType::F32 => Some(Dtype::F32),
        DType::F64 | DType::Canonical => Some(Dtype::F64),
        DType::BF16 => Some(Dtype::BF16),
        DType::I64 => Some(Dtype::I64),
        DType::I128 => None,
    }
}

/// Writes the pieces of worker `number` below `directory`, which is made; they are on the disk when
/// this returns. Pieces without elements are left out.
///
/// # Errors
/// If the system refuses, a name comes twice, or a type has no place in the format.
pub fn write_part(directory: &Path, number: usize, pieces: &[Piece]) -> Result<Part> {
    std::fs::create_dir_all(directory).map_err(io("create", directory))?;
    let file = format!("part-{number:04}.safetensors");
    let path = directory.join(&file);
    let (mut views, mut entries) = (Vec::new(), Vec::new());
    for piece in pieces.iter().filter(|piece| !piece.data.is_empty()) {
        let bytes = piece.data.as_bytes();
        let dtype = piece.data.dtype();
        let kind = stored(dtype).ok_or_else(|| {
            bad(
                &path,
                format!("'{}' is {dtype:?}, which it cannot hold", piece.name),
            )
        })?;
        let extent = piece.region.extent.clone();
        let view = TensorView::new(kind, extent, bytes)
            .map_err(|e| bad(&path, format!("'{}': {e}", piece.name)))?;
        views.push((piece.name.clone(), view));
        entries.push(Entry {
            name: piece.name.clone(),
            dtype: dtype_name(dtype).to_owned(),
            shape: piece.shape.clone(),
            region: piece.region.clone(),
            crc32: crc32fast::hash(bytes),
        });
    }
    let written = safetensors::serialize_to_file(views, None, &path);
    written.map_err(|e| match e {
        safetensors::SafeTensorError::IoError(source) => io("write", &path)(source),
        other => bad(&path, other.to_string()),
    })?;
    let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
    synced.map_err(io("write", &path))?;
    Ok(Part { file, entries })
}
