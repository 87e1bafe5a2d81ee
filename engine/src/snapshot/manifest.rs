//! Manifests: what belongs to a snapshot, with lengths and checksums.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::{bad, sync_directory, unwritten};
use crate::error::Result;

const FORMAT: u32 = 1;

/// A file, or a beginning of one, that belongs to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSeal {
    /// Relative to the directory of snapshots.
    pub(super) file: String,
    pub(super) length: u64,
    pub(super) crc32: u32,
}

impl FileSeal {
    pub(super) fn check(&self, path: &Path, length: u64, crc: impl FnOnce() -> u32) -> Result<()> {
        if length != self.length {
            let why = format!("has {length} bytes, but {} were sealed", self.length);
            return Err(bad(path, why));
        }
        match crc() == self.crc32 {
            true => Ok(()),
            false => Err(bad(
                path,
                "its checksum is wrong: it was changed after it was sealed",
            )),
        }
    }
}

/// The sealed beginning of a log of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogSeal {
    pub(super) output: String,
    pub(super) log: FileSeal,
}

/// A snapshot: everything before `epoch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub(super) pipeline: String,
    /// Of the configuration: a run with another one can not go on from here.
    pub(super) fingerprint: String,
    /// All times of earlier epochs are in, no other.
    pub(super) epoch: u64,
    /// Whether the job had come to its end.
    pub(super) finished: bool,
    pub(super) workers: usize,
    pub(super) parts: Vec<FileSeal>,
    pub(super) outputs: Vec<LogSeal>,
    /// CRC-32 of this manifest as it is written with 0 in this place.
    checksum: u32,
}

impl Manifest {
    pub(super) fn new(pipeline: &str, fingerprint: &str, workers: usize) -> Self {
        Manifest {
            format: FORMAT,
            pipeline: pipeline.to_owned(),
            fingerprint: fingerprint.to_owned(),
            epoch: 0,
            finished: false,
            workers,
            parts: Vec::new(),
            outputs: Vec::new(),
            checksum: 0,
        }
    }

    pub(super) fn name(epoch: u64) -> String {
        format!("manifest-{epoch:012}.json")
    }

    /// The epoch of a file of this name.
    pub(super) fn epoch_of(name: &str) -> Option<u64> {
        let digits = name.strip_prefix("manifest-")?.strip_suffix(".json")?;
        digits.parse().ok()
    }

    fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Writes the manifest beside its place and renames it: the snapshot exists when this returns.
    pub(super) fn write(&mut self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join(Self::name(self.epoch));
        let unprinted = |e: serde_json::Error| bad(&path, format!("cannot be written: {e}"));
        self.checksum = 0;
        self.checksum = crc32fast::hash(self.text().map_err(unprinted)?.as_bytes());
        let text = self.text().map_err(unprinted)?;
        let beside = path.with_extension("json.tmp");
        let write = || {
            let mut file = fs::File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            sync_directory(directory)
        };
        write().map_err(|e| unwritten(&path, &e))?;
        Ok(path)
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(|e| bad(path, format!("cannot be read: {e}")))?;
        let torn = |e: &dyn std::fmt::Display| bad(path, format!("is torn or no manifest: {e}"));
        let mut manifest: Manifest = serde_json::from_slice(&text).map_err(|e| torn(&e))?;
        let checksum = std::mem::take(&mut manifest.checksum);
        let plain = manifest.text().map_err(|e| torn(&e))?;
        if manifest.format == FORMAT && crc32fast::hash(plain.as_bytes()) != checksum {
            return Err(torn(&"its checksum is wrong"));
        }
        manifest.checksum = checksum;
        Ok(manifest)
    }

    /// Whether a run of this pipeline and configuration can go on from here.
    pub(super) fn fits(&self, path: &Path, pipeline: &str, fingerprint: &str) -> Result<()> {
        let foreign = |what: &str, theirs: &dyn std::fmt::Display, ours: &dyn std::fmt::Display| {
            let mend = "choose another directory, or start anew without resuming";
            Err(bad(
                path,
                format!("is of {what} {theirs}, and this is {ours}; {mend}"),
            ))
        };
        if self.format != FORMAT {
            return foreign("format", &self.format, &FORMAT);
        }
        if self.pipeline != pipeline {
            return foreign("pipeline", &self.pipeline, &pipeline);
        }
        if self.fingerprint != fingerprint {
            return foreign("configuration", &self.fingerprint, &fingerprint);
        }
        Ok(())
    }

    /// All files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &FileSeal> {
        self.parts.iter().chain(self.outputs.iter().map(|o| &o.log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest with any byte changed is refused, or is the same manifest.
    #[test]
    fn changes_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new("p", "f", 3);
        let file = || FileSeal {
            file: "parts/1".to_owned(),
            length: 5,
            crc32: 77,
        };
        (manifest.epoch, manifest.parts) = (12, vec![file()]);
        manifest.outputs.push(LogSeal {
            output: "o".to_owned(),
            log: file(),
        });
        let path = manifest.write(directory.path()).unwrap();
        assert_eq!(Manifest::epoch_of("manifest-000000000012.json"), Some(12));
        assert_eq!(Manifest::read(&path).unwrap(), manifest);
        let bytes = fs::read(&path).unwrap();
        for i in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[i] ^= 0x01;
            fs::write(&path, &changed).unwrap();
            let same = Manifest::read(&path).and_then(|m| m.fits(&path, "p", "f").map(|()| m));
            assert!(
                same.is_err() || same.as_ref().unwrap() == &manifest,
                "byte {i}"
            );
            fs::write(&path, &bytes[..i]).unwrap();
            let cut = Manifest::read(&path);
            assert!(cut.is_err() || i == bytes.len() - 1, "{i} bytes");
        }
    }
}
