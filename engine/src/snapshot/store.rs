//! The directory of the snapshots of a job.
//!
//! ```text
//! LOCK                           held by the job that writes
//! manifest-EPOCH.json            the last two snapshots
//! parts/EPOCH-RUN-WORKER.part    state
//! outputs/RUN-WORKER-N.log       records
//! ```
//!
//! RUN is drawn by every run, so that what a killed run leaves behind, or a process of it that has
//! not noticed yet still writes, is never taken for something else.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::disk::{bad, sync_directory, unwritten};
use super::lock::Lock;
use super::manifest::Manifest;
use super::saved::Saved;
use super::{log, part};
use crate::error::Result;

pub(super) const PARTS: &str = "parts";
pub(super) const OUTPUTS: &str = "outputs";

/// Where the snapshots of a job lie, and how often one is made.
///
/// Shared by the workers of a process: make it before [`Fabric::run`](crate::Fabric::run) and call
/// [`Store::begin`] on every worker.
#[derive(Debug)]
pub struct Store {
    pub(super) directory: PathBuf,
    pub(super) pipeline: String,
    pub(super) fingerprint: String,
    pub(super) every: Duration,
    /// Read once per process; gone when the last worker has taken what it needs.
    loaded: Mutex<(String, Weak<Saved>)>,
}

/// What worker 0 has found and all workers go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Choice {
    pub(super) run: String,
    pub(super) manifest: Option<Manifest>,
}

/// What worker 0 alone holds.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) choice: Choice,
    /// Whole snapshots, the oldest first.
    pub(super) kept: Vec<Manifest>,
    pub(super) lock: Lock,
}

impl Store {
    /// The snapshots in `directory` of a `pipeline` whose configuration has this `fingerprint`:
    /// what must be the same for a run to go on where another was. The number of workers is no
    /// part of it.
    pub fn new(directory: impl Into<PathBuf>, pipeline: &str, fingerprint: &str) -> Self {
        Store {
            directory: directory.into(),
            pipeline: pipeline.to_owned(),
            fingerprint: fingerprint.to_owned(),
            every: Duration::ZERO,
            loaded: Mutex::default(),
        }
    }

    /// Makes a snapshot no sooner than this after the last one; without it, whenever an epoch is
    /// complete and the last snapshot done.
    pub fn every(self, every: Duration) -> Self {
        Store { every, ..self }
    }

    /// Chooses where to begin, on worker 0: takes the lock, verifies, and removes what belongs to
    /// no snapshot.
    pub(super) fn choose(&self, resume: bool) -> Result<Chosen> {
        for directory in [PARTS, OUTPUTS] {
            let path = self.directory.join(directory);
            fs::create_dir_all(&path).map_err(|e| unwritten(&path, &e))?;
        }
        let lock = Lock::take(&self.directory)?;
        let mut kept = match resume {
            true => self.whole()?,
            false => Vec::new(),
        };
        kept.sort_by_key(|m| m.epoch);
        self.clean(&kept)
            .map_err(|e| unwritten(&self.directory, &e))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let drawn = (now.as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let choice = Choice {
            run: format!("{:016x}", drawn ^ u64::from(std::process::id())),
            manifest: kept.last().cloned(),
        };
        match &choice.manifest {
            Some(m) => tracing::info!(
                epoch = m.epoch,
                workers = m.workers,
                directory = %self.directory.display(),
                "resuming from a snapshot"
            ),
            None if resume => tracing::info!(
                directory = %self.directory.display(),
                "no snapshot to resume from: starting anew"
            ),
            None => {}
        }
        Ok(Chosen { choice, kept, lock })
    }

    /// The newest whole snapshot and those before it.
    fn whole(&self) -> Result<Vec<Manifest>> {
        let mut kept = Vec::new();
        let mut broken = None;
        for (_, path) in manifests(&self.directory)? {
            match Manifest::read(&path) {
                Ok(manifest) => {
                    manifest.fits(&path, &self.pipeline, &self.fingerprint)?;
                    match verify(&self.directory, &manifest) {
                        Ok(()) => kept.push(manifest),
                        Err(e) => broken = broken.or(Some(e)),
                    }
                }
                Err(e) => broken = broken.or(Some(e)),
            }
        }
        match (broken, kept.last()) {
            (Some(e), None) => {
                let why = format!(
                    "{e}; no whole snapshot is left: put that file back, or start anew without \
                     resuming"
                );
                Err(bad(&self.directory, why))
            }
            (Some(e), Some(_)) => {
                tracing::warn!("{e}; going on from another snapshot");
                Ok(kept)
            }
            (None, _) => Ok(kept),
        }
    }

    /// Removes what no kept snapshot names, and what a killed run wrote behind a sealed log.
    fn clean(&self, kept: &[Manifest]) -> io::Result<()> {
        let mut named: BTreeSet<&str> = kept
            .iter()
            .flat_map(|m| m.files())
            .map(|f| f.file.as_str())
            .collect();
        let names: Vec<String> = kept.iter().map(|m| Manifest::name(m.epoch)).collect();
        named.extend(names.iter().map(String::as_str));
        for (folder, endings) in [
            ("", &[".json", ".json.tmp"][..]),
            (PARTS, &[".part"]),
            (OUTPUTS, &[".log"]),
        ] {
            let path = self.directory.join(folder);
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let ours = match folder {
                    "" => name.starts_with("manifest-"),
                    _ => true,
                } && endings.iter().any(|e| name.ends_with(e));
                let relative = if folder.is_empty() {
                    name
                } else {
                    format!("{folder}/{name}")
                };
                if ours && !named.contains(relative.as_str()) {
                    fs::remove_file(entry.path())?;
                }
            }
            sync_directory(&path)?;
        }
        for output in kept.iter().rev().flat_map(|m| &m.outputs) {
            let sealed = kept
                .iter()
                .flat_map(|m| &m.outputs)
                .filter(|o| o.log.file == output.log.file);
            let length = sealed
                .map(|o| o.log.length)
                .max()
                .unwrap_or(output.log.length);
            let path = self.directory.join(&output.log.file);
            let file = OpenOptions::new().write(true).open(path)?;
            if file.metadata()?.len() > length {
                file.set_len(length)?;
            }
        }
        Ok(())
    }

    /// The state of a snapshot, read once for all workers of the process.
    pub(super) fn load(&self, choice: &Choice) -> Result<Arc<Saved>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.0 == choice.run
            && let Some(saved) = loaded.1.upgrade()
        {
            return Ok(saved);
        }
        let mut all = Saved::default();
        for seal in choice.manifest.iter().flat_map(|m| &m.parts) {
            all.absorb(part::read(&self.directory, seal)?);
        }
        let all = Arc::new(all);
        *loaded = (choice.run.clone(), Arc::downgrade(&all));
        Ok(all)
    }
}

/// Manifests in a directory, the newest first.
pub(super) fn manifests(directory: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let unread = |e: io::Error| bad(directory, format!("cannot be read: {e}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        if let Some(epoch) = Manifest::epoch_of(&entry.file_name().to_string_lossy()) {
            found.push((epoch, entry.path()));
        }
    }
    found.sort();
    found.reverse();
    Ok(found)
}

/// Whether all that a manifest names is there as it was sealed.
fn verify(directory: &Path, manifest: &Manifest) -> Result<()> {
    for seal in &manifest.parts {
        part::read(directory, seal)?;
    }
    for output in &manifest.outputs {
        log::verify(directory, &output.log)?;
    }
    Ok(())
}
