//! Reading any box of any tensor of a checkpoint.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use advect_engine::{DType, Data};
use safetensors::tensor::Metadata;

use super::manifest::{Logical, Manifest, Placed, Progress};
use super::part::{Region, dtype_name, dtype_named};
use super::{bad, io};
use crate::error::{ConnectorError, Result};

/// The longest header of a part that is read.
const LONGEST: u64 = 100_000_000;

/// A checkpoint, open for reading.
#[derive(Debug)]
pub struct Checkpoint {
    directory: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// Opens the checkpoint in a directory.
    ///
    /// # Errors
    /// If there is no manifest or it is damaged.
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Checkpoint {
            directory: directory.to_owned(),
            manifest: Manifest::read(directory)?,
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How far training had come.
    pub fn progress(&self) -> &Progress {
        &self.manifest.progress
    }

    /// Names of all tensors with their extents.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let all = self.manifest.tensors.iter();
        all.map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
    }

    /// The elements of a box of a tensor, in row-major order, whoever wrote them.
    ///
    /// # Errors
    /// [`ConnectorError`] that names the tensor if there is none of that name, type and extents, and
    /// the file if a part is missing, cut short or changed.
    pub fn read(&self, name: &str, dtype: DType, shape: &[usize], want: &Region) -> Result<Data> {
        let tensor = self.tensor(name, dtype, shape)?;
        let mut out = Data::zeros(dtype, want.len());
        for placed in &tensor.pieces {
            if let Some(common) = placed.region.meet(want) {
                let bytes = self.piece(name, dtype, placed)?;
                copy(
                    &bytes,
                    &placed.region,
                    out.as_bytes_mut(),
                    want,
                    &common,
                    dtype.size(),
                );
            }
        }
        Ok(out)
    }

    fn tensor(&self, name: &str, dtype: DType, shape: &[usize]) -> Result<&Logical> {
        let fail = |detail: String| ConnectorError::Format {
            place: self.directory.display().to_string(),
            format: "a checkpoint of this model",
            detail,
            mend: "give the model and the optimizer that it was written with",
        };
        let Some(tensor) = self.manifest.tensors.get(name) else {
            return Err(fail(format!("it has no tensor '{name}'")));
        };
        if dtype_named(&tensor.dtype) != Some(dtype) || tensor.shape != shape {
            return Err(fail(format!(
                "'{name}' is {} {:?}, not {} {shape:?}",
                tensor.dtype,
                tensor.shape,
                dtype_name(dtype)
            )));
        }
        Ok(tensor)
    }

    /// The bytes of a piece, as they were written.
    fn piece(&self, name: &str, dtype: DType, placed: &Placed) -> Result<Vec<u8>> {
        let plain = Path::new(&placed.file).components().count() == 1;
        let path = self.directory.join(&placed.file);
        if !plain {
            return Err(bad(&path, "a part lies beside its manifest"));
        }
        let mut file = File::open(&path).map_err(|source| ConnectorError::Io {
            action: "open",
            path: path.clone(),
            source,
            mend: "bring back this part of the checkpoint, or take another checkpoint",
        })?;
        let length = file.metadata().map_err(io("read", &path))?.len();
        let mut size = [0u8; 8];
        file.read_exact(&mut size)
            .map_err(|_| bad(&path, "it is cut short"))?;
        let header = u64::from_le_bytes(size);
        if header > LONGEST || header.saturating_add(8) > length {
            return Err(bad(&path, "it is cut short, or no safetensors file"));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(io("read", &path))?;
        let meta: Metadata =
            serde_json::from_slice(&text).map_err(|e| bad(&path, e.to_string()))?;
        let info = meta
            .info(name)
            .ok_or_else(|| bad(&path, format!("it has no '{name}'")))?;
        let (from, to) = info.data_offsets;
        let want = placed.region.len() * dtype.size();
        if to.checked_sub(from) != Some(want) || 8 + header + to as u64 > length {
            return Err(bad(
                &path,
                format!("it is cut short, or '{name}' has another size"),
            ));
        }
        file.seek(SeekFrom::Start(8 + header + from as u64))
            .map_err(io("read", &path))?;
        let mut bytes = vec![0; want];
        file.read_exact(&mut bytes).map_err(io("read", &path))?;
        match crc32fast::hash(&bytes) == placed.crc32 {
            true => Ok(bytes),
            false => Err(bad(
                &path,
                format!("'{name}' was changed after it was written"),
            )),
        }
    }
}

/// Copies the box `common` from a box of elements to another.
fn copy(from: &[u8], has: &Region, to: &mut [u8], want: &Region, common: &Region, size: usize) {
    let rank = common.start.len();
    let Some(inner) = rank.checked_sub(1) else {
        to.copy_from_slice(from);
        return;
    };
    let offset = |of: &Region, at: &[usize]| {
        (0..rank).fold(0, |sum, d| sum * of.extent[d] + at[d] - of.start[d]) * size
    };
    let run = common.extent[inner] * size;
    let rows: usize = common.extent[..inner].iter().product();
    let mut at = common.start.clone();
    for _ in 0..rows {
        let (a, b) = (offset(has, &at), offset(want, &at));
        to[b..b + run].copy_from_slice(&from[a..a + run]);
        for d in (0..inner).rev() {
            at[d] += 1;
            if at[d] < common.start[d] + common.extent[d] {
                break;
            }
            at[d] = common.start[d];
        }
    }
}
