//! Tensors as files that both sides read and write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use advect_engine::{DType, Data};

use super::BenchError;

/// Ending of the files that each side writes.
const OURS: &str = "ours";
const THEIRS: &str = "torch";

/// A folder of single-precision tensors, one a file, gone when this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    bench: &'static str,
    place: tempfile::TempDir,
}

impl Folder {
    /// A new folder of a benchmark.
    pub(super) fn new(bench: &'static str) -> Result<Self, BenchError> {
        let place = tempfile::tempdir().map_err(|e| BenchError::failed(bench, e))?;
        Ok(Folder { bench, place })
    }

    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    fn failed(&self, why: impl std::fmt::Display) -> BenchError {
        BenchError::failed(self.bench, why)
    }

    /// Writes what both sides read.
    pub(super) fn write(&self, tensors: &BTreeMap<String, Data>) -> Result<(), BenchError> {
        for (name, data) in tensors {
            let path = self.path().join(name);
            std::fs::write(path, data.as_bytes()).map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// The greatest difference between what both sides wrote, relative to the largest entry of its
    /// tensor; an error above `tolerance`, or if the sides wrote different tensors.
    pub(super) fn difference(&self, tolerance: f64) -> Result<f64, BenchError> {
        let (ours, theirs) = (self.ending(OURS)?, self.ending(THEIRS)?);
        if !ours.keys().eq(theirs.keys()) {
            let (ours, theirs) = (ours.keys(), theirs.keys());
            return Err(self.failed(format!("we wrote {ours:?} and PyTorch {theirs:?}")));
        }
        let mut apart: f64 = 0.0;
        for (name, path) in &ours {
            let (a, b) = (
                read_file(self.bench, path)?,
                read_file(self.bench, &theirs[name])?,
            );
            let (a, b) = (numbers(&a), numbers(&b));
            let size = b.iter().fold(0f32, |m, x| m.max(x.abs()));
            let gaps = a.iter().zip(b).map(|(x, y)| (x - y).abs());
            // NaN is a difference
            let gap = gaps.fold(0f32, |m, g| if m.is_nan() || g <= m { m } else { g });
            let relative = f64::from(gap) / f64::from(size);
            if a.len() != b.len() || relative.is_nan() || relative > tolerance {
                return Err(self.failed(format!(
                    "'{name}' differs from PyTorch's by {relative:.1e} of its largest entry"
                )));
            }
            apart = apart.max(relative);
        }
        Ok(apart)
    }

    fn ending(&self, ending: &str) -> Result<BTreeMap<String, PathBuf>, BenchError> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(self.path()).map_err(|e| self.failed(e))? {
            let path = entry.map_err(|e| self.failed(e))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            if let Some(name) = name.strip_suffix(&format!(".{ending}")) {
                found.insert(name.to_owned(), path);
            }
        }
        Ok(found)
    }
}

/// A tensor that was written for both sides.
pub(super) fn read(bench: &'static str, folder: &Path, name: &str) -> Result<Data, BenchError> {
    read_file(bench, &folder.join(name))
}

/// Writes a result of ours.
pub(super) fn write_ours(
    bench: &'static str,
    folder: &Path,
    name: &str,
    data: &Data,
) -> Result<(), BenchError> {
    let path = folder.join(format!("{name}.{OURS}"));
    std::fs::write(path, data.as_bytes()).map_err(|e| BenchError::failed(bench, e))
}

fn read_file(bench: &'static str, path: &Path) -> Result<Data, BenchError> {
    let failed = |e| BenchError::failed(bench, format!("{}: {e}", path.display()));
    let bytes = std::fs::read(path).map_err(failed)?;
    let mut data = Data::zeros(DType::F32, bytes.len() / size_of::<f32>());
    data.as_bytes_mut().copy_from_slice(&bytes);
    Ok(data)
}

fn numbers(data: &Data) -> &[f32] {
    data.get().unwrap_or_default()
}
