//! Manifests: which boxes of which tensors are where.

use std::collections::BTreeMap;
use std::path::Path;

use advect_engine::{EngineError, snapshot::whole};
use serde::{Deserialize, Serialize};

use super::part::{Entry, Part, Region};
use super::{MANIFEST, bad, io};
use crate::error::{ConnectorError, Result};

/// Changes with the meaning of what is written.
const FORMAT: u32 = 1;

/// How far training had come: everything before this frontier is in, nothing after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps that had been taken: the frontier is `(step, 0)`.
    pub step: u64,
    /// Samples that had been seen, which is the number of the next.
    pub sample: u64,
    /// Key of all random streams.
    pub seed: u64,
    /// What else belongs to the job, such as its optimizer, by name.
    pub job: BTreeMap<String, String>,
}

/// A logical tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Logical {
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    pub(super) pieces: Vec<Placed>,
}

/// A box of it, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Placed {
    pub(super) file: String,
    #[serde(flatten)]
    pub(super) region: Region,
    pub(super) crc32: u32,
}

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// How far training had come.
    pub progress: Progress,
    /// CRC-32 of the names, types and extents of all tensors: equal for equal graphs.
    pub graph: u32,
    pub(super) tensors: BTreeMap<String, Logical>,
}

impl Manifest {
    /// The manifest of a checkpoint in the parts of all workers.
    ///
    /// # Errors
    /// [`ConnectorError::Format`] if the parts do not tile every tensor.
    pub fn new(progress: Progress, parts: Vec<Part>) -> Result<Self> {
        let mut tensors: BTreeMap<String, Logical> = BTreeMap::new();
        let place = Path::new(MANIFEST);
        for part in parts {
            for Entry {
                name,
                dtype,
                shape,
                region,
                crc32,
            } in part.entries
            {
                let tensor = tensors.entry(name.clone()).or_insert_with(|| Logical {
                    dtype: dtype.clone(),
                    shape: shape.clone(),
                    pieces: Vec::new(),
                });
                if (&tensor.dtype, &tensor.shape) != (&dtype, &shape) {
                    return Err(bad(place, format!("two tensors are called '{name}'")));
                }
                let file = part.file.clone();
                tensor.pieces.push(Placed {
                    file,
                    region,
                    crc32,
                });
            }
        }
        for tensor in tensors.values_mut() {
            tensor
                .pieces
                .sort_by(|a, b| a.region.start.cmp(&b.region.start));
        }
        let manifest = Manifest {
            format: FORMAT,
            progress,
            graph: digest(&tensors),
            tensors,
        };
        manifest.check(place)?;
        Ok(manifest)
    }

    /// Makes the checkpoint exist.
    ///
    /// # Errors
    /// If the system refuses; then it does not.
    pub fn commit(&self, directory: &Path) -> Result<()> {
        let path = directory.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self).map_err(|e| bad(&path, e.to_string()))?;
        let written: std::result::Result<(), EngineError> = whole(&path, |beside| {
            std::fs::write(beside, &text).map_err(|source| EngineError::File {
                path: beside.display().to_string(),
                source,
            })
        });
        written.map_err(|e| match e {
            EngineError::File { source, .. } => io("write", &path)(source),
            other => bad(&path, other.to_string()),
        })
    }

    /// Reads the manifest of a checkpoint and checks what it says of itself.
    ///
    /// # Errors
    /// If it is not there, or not what [`Manifest::commit`] writes.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(MANIFEST);
        let text = std::fs::read(&path).map_err(|source| ConnectorError::Io {
            action: "read",
            path: path.clone(),
            source,
            mend: "name the directory of one checkpoint, which holds a manifest.json",
        })?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|e| bad(&path, e.to_string()))?;
        if manifest.format != FORMAT {
            let why = format!("format {}, and {FORMAT} is known", manifest.format);
            return Err(bad(&path, why));
        }
        manifest.check(&path)?;
        match digest(&manifest.tensors) == manifest.graph {
            true => Ok(manifest),
            false => Err(bad(&path, "its tensors are not those it was written with")),
        }
    }

    /// The boxes of every tensor lie in it and tile it.
    fn check(&self, place: &Path) -> Result<()> {
        for (name, tensor) in &self.tensors {
            let rank = tensor.shape.len();
            let fits = |region: &Region| {
                region.start.len() == rank
                    && region.extent.len() == rank
                    && (0..rank).all(|d| {
                        let end = region.start[d].checked_add(region.extent[d]);
                        end.is_some_and(|end| end <= tensor.shape[d])
                    })
            };
            let regions: Vec<&Region> = tensor.pieces.iter().map(|p| &p.region).collect();
            if !regions.iter().all(|region| fits(region)) {
                return Err(bad(
                    place,
                    format!("a piece of '{name}' is not in {:?}", tensor.shape),
                ));
            }
            let all = tensor
                .shape
                .iter()
                .try_fold(1usize, |n, &d| n.checked_mul(d));
            let held: usize = regions.iter().map(|r| r.len()).sum();
            let apart = (regions.iter().enumerate())
                .all(|(i, a)| regions[..i].iter().all(|b| a.meet(b).is_none()));
            if all != Some(held) || !apart {
                let why = format!("the pieces of '{name}' {:?} do not tile it", tensor.shape);
                return Err(bad(place, why));
            }
        }
        Ok(())
    }
}

fn digest(tensors: &BTreeMap<String, Logical>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for (name, tensor) in tensors {
        let line = format!("{name} {} {:?}\n", tensor.dtype, tensor.shape);
        hasher.update(line.as_bytes());
    }
    hasher.finalize()
}
