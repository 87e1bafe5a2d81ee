//! Checkpoints of training: logical tensors in pieces, whatever wrote them and whatever reads them.
//!
//! ```text
//! DIRECTORY/step-000000400/part-0000.safetensors    the pieces that one worker owned
//!                          part-0001.safetensors
//!                          manifest.json            written last, and renamed into place
//! ```
//!
//! A part is an ordinary [safetensors](https://github.com/huggingface/safetensors) file. The manifest says
//! which box of which logical tensor each of its tensors is, with its CRC-32, so that a reader on any
//! layout takes the boxes it needs. A checkpoint is there when its manifest is: a writer may be killed
//! at any moment, and the one before it stays whole.

mod manifest;
mod part;
mod read;

pub use manifest::{Manifest, Progress};
pub use part::{Part, Piece, Region, write_part};
pub use read::Checkpoint;

use std::path::{Path, PathBuf};

use crate::error::{ConnectorError, Result};

/// Name of the last file of a checkpoint.
const MANIFEST: &str = "manifest.json";

/// The directory of the checkpoint after `step` steps.
pub fn at_step(directory: &Path, step: u64) -> PathBuf {
    directory.join(format!("step-{step:09}"))
}

/// The steps of the whole checkpoints in a directory, in their order; none if there is no directory.
///
/// # Errors
/// If the directory cannot be read.
pub fn steps(directory: &Path) -> Result<Vec<u64>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(directory).map_err(io("read", directory))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io("read", directory))?;
        let name = entry.file_name();
        let step = name
            .to_str()
            .and_then(|n| n.strip_prefix("step-")?.parse::<u64>().ok());
        found.extend(step.filter(|_| entry.path().join(MANIFEST).is_file()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes all whole checkpoints but the last `keep`.
///
/// # Errors
/// If the system refuses.
pub fn keep_last(directory: &Path, keep: usize) -> Result<()> {
    let all = steps(directory)?;
    for &step in &all[..all.len().saturating_sub(keep.max(1))] {
        let old = at_step(directory, step);
        // without its manifest it is no checkpoint, whatever is left of it
        let manifest = old.join(MANIFEST);
        std::fs::remove_file(&manifest).map_err(io("remove", &manifest))?;
        std::fs::remove_dir_all(&old).map_err(io("remove", &old))?;
    }
    Ok(())
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ConnectorError {
    let path = path.to_owned();
    move |source| ConnectorError::Io {
        action,
        path,
        source,
        mend: "mend that and start again with --resume: the checkpoint before is whole",
    }
}

fn bad(path: &Path, detail: impl Into<String>) -> ConnectorError {
    ConnectorError::Format {
        place: path.display().to_string(),
        format: "a checkpoint",
        detail: detail.into(),
        mend: "take another checkpoint, or write this one again",
    }
}

#[cfg(test)]
mod tests;
