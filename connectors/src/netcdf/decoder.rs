//! One chunk of an HDF5 file: reading its bytes, inflating and unshuffling them.

use std::os::unix::fs::FileExt;
use std::path::Path;

use libdeflater::Decompressor;

use super::hdf::HdfFile;
use super::model::Variable;
use crate::error::{ConnectorError, Result};

/// deflate cannot shrink by more than this factor (RFC 1951: 258 bytes in 2 bits).
pub(super) const MAX_RATIO: u64 = 1032;
/// The largest chunk that is decoded here: 1 GiB.
const MAX_CHUNK: u64 = 1 << 30;

/// The bytes of a chunk in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) address: u64,
    pub(super) size: u64,
}

impl Extent {
    pub(super) fn read(self, file: &HdfFile, variable: &Variable, into: &mut [u8]) -> Result<()> {
        if self
            .address
            .checked_add(self.size)
            .is_none_or(|end| end > file.bytes)
        {
            return Err(file.damaged(variable, "its bytes go beyond the end of the file"));
        }
        let io = ConnectorError::io("read", Path::new(&variable.name), "check the disk");
        file.raw.read_exact_at(into, self.address).map_err(io)
    }
}

/// Inflates and unshuffles chunks; one for each thread.
pub(super) struct Decoder {
    inflater: Decompressor,
    raw: Vec<u8>,
    shuffled: Vec<u8>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            inflater: Decompressor::new(),
            raw: Vec::new(),
            shuffled: Vec::new(),
        }
    }

    /// Reads a chunk of `bytes` bytes into `out`; the flags are (deflate, shuffle).
    pub(super) fn decode(
        &mut self,
        file: &HdfFile,
        variable: &Variable,
        (deflate, shuffle): (bool, bool),
        extent: Extent,
        out: &mut Vec<u8>,
        bytes: usize,
    ) -> Result<()> {
        let least = if deflate {
            (bytes as u64) / MAX_RATIO
        } else {
            bytes as u64
        };
        if extent.size < least || extent.size > file.bytes || bytes as u64 > MAX_CHUNK {
            return Err(file.damaged(variable, "a chunk has an impossible size"));
        }
        let stored = &mut self.raw;
        stored.resize(extent.size as usize, 0);
        extent.read(file, variable, stored)?;
        out.resize(bytes, 0);
        let flat = match (deflate, shuffle) {
            (false, _) => stored.get(..bytes),
            (true, false) => {
                return match self.inflater.zlib_decompress(stored, out) {
                    Ok(n) if n == bytes => Ok(()),
                    _ => Err(file.damaged(variable, "a chunk does not inflate to its size")),
                };
            }
            (true, true) => {
                self.shuffled.resize(bytes, 0);
                let n = self.inflater.zlib_decompress(stored, &mut self.shuffled);
                n.is_ok_and(|n| n == bytes).then_some(&self.shuffled[..])
            }
        };
        let flat =
            flat.ok_or_else(|| file.damaged(variable, "a chunk does not inflate to its size"))?;
        if shuffle {
            unshuffle(flat, out, variable.number_type.size());
        } else {
            out.copy_from_slice(flat);
        }
        Ok(())
    }
}

/// Undoes the HDF5 shuffle filter: byte planes back to numbers of `size` bytes.
fn unshuffle(planes: &[u8], out: &mut [u8], size: usize) {
    fn weave<const N: usize>(planes: &[u8], out: &mut [u8]) {
        let n = out.len() / N;
        let plane: [&[u8]; N] = std::array::from_fn(|k| &planes[k * n..(k + 1) * n]);
        let (numbers, _) = out.as_chunks_mut::<N>();
        for (i, number) in numbers.iter_mut().enumerate() {
            *number = std::array::from_fn(|k| plane[k][i]);
        }
    }
    match size {
        2 => weave::<2>(planes, out),
        4 => weave::<4>(planes, out),
        8 => weave::<8>(planes, out),
        _ => out.copy_from_slice(planes),
    }
}
