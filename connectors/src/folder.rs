//! A directory into which files are dropped.
//!
//! Only whole files are taken: names that begin with `.` or end in `.part` or `.tmp` are passed
//! over, and any other file is taken once its size and time of change were the same in two looks
//! that lie [`FolderOptions::settle`] apart. A writer that renames a finished file into the
//! directory is always safe.
//!
//! No file is taken twice: the offset of the source is the set of names that are done, and it
//! grows only when all records of a file were delivered. Saved with a snapshot and given back on
//! start, it makes the source go on where the snapshot was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::decode::decode_file;
use crate::decoded::file_name;
use crate::error::{ConnectorError, Result};
use crate::live::{BatchBuilder, Delivery, Waker};
use crate::rejected::{Reason, Rejected};

/// How a directory is watched.
#[derive(Debug, Clone)]
pub struct FolderOptions {
    /// Time between two looks.
    pub interval: Duration,
    /// How long a file must stay unchanged before it is taken.
    pub settle: Duration,
    /// The most records of one delivery.
    pub rows: usize,
    /// How many deliveries may wait before reading pauses.
    pub queue: usize,
}

impl Default for FolderOptions {
    fn default() -> Self {
        let (interval, settle) = (Duration::from_millis(200), Duration::from_secs(1));
        Self {
            interval,
            settle,
            rows: 8192,
            queue: 16,
        }
    }
}

/// What a look saw of a file, and when it first looked like that.
#[derive(Debug, Clone, Copy)]
struct Seen {
    bytes: u64,
    changed: Option<SystemTime>,
    since: Instant,
}

/// Finds the whole files of a directory; reads none of them.
#[derive(Debug)]
pub struct Folder {
    directory: PathBuf,
    settle: Duration,
    done: BTreeSet<String>,
    seen: BTreeMap<String, Seen>,
}

impl Folder {
    /// Watches `directory`, without the names in `done`. Errors if it is not a directory.
    pub fn open(
        directory: impl AsRef<Path>,
        settle: Duration,
        done: BTreeSet<String>,
    ) -> Result<Self> {
        let directory = directory.as_ref().to_path_buf();
        let mut folder = Self {
            directory,
            settle,
            done,
            seen: BTreeMap::new(),
        };
        folder.look(Instant::now())?;
        Ok(folder)
    }

    /// The names that are done: the offset of this source.
    pub fn done(&self) -> &BTreeSet<String> {
        &self.done
    }

    /// Marks a file as done; it will not be offered again.
    pub fn mark_done(&mut self, name: &str) {
        self.seen.remove(name);
        self.done.insert(name.to_string());
    }

    /// Looks at the directory and returns the whole files that are not done, by name. A file is
    /// offered at every look until it is marked. Errors if the directory cannot be listed.
    pub fn look(&mut self, now: Instant) -> Result<Vec<PathBuf>> {
        const MEND: &str = "check that it is a directory and readable";
        let io = || ConnectorError::io("list", &self.directory, MEND);
        let mut seen = BTreeMap::new();
        for entry in std::fs::read_dir(&self.directory).map_err(io())? {
            let entry = entry.map_err(io())?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let passed_over = name.starts_with('.')
                || name.ends_with(".part")
                || name.ends_with(".tmp")
                || self.done.contains(&name);
            // A file can vanish between listing and looking; then it is simply not there.
            let Ok(meta) = entry.metadata() else { continue };
            if passed_over || !meta.is_file() {
                continue;
            }
            let (bytes, changed) = (meta.len(), meta.modified().ok());
            let same = |s: &&Seen| s.bytes == bytes && s.changed == changed;
            let since = self.seen.get(&name).filter(same).map_or(now, |s| s.since);
            seen.insert(
                name,
                Seen {
                    bytes,
                    changed,
                    since,
                },
            );
        }
        self.seen = seen;
        let settled = |s: &Seen| now.saturating_duration_since(s.since) >= self.settle;
        let whole = self
            .seen
            .iter()
            .filter(|(_, s)| settled(s) && s.since < now);
        Ok(whole.map(|(name, _)| self.directory.join(name)).collect())
    }
}

/// A thread that watches a directory and delivers the records of its files, file by file in the
/// order of their names.
#[derive(Debug)]
pub struct FolderSource {
    deliveries: Option<Receiver<Delivery>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FolderSource {
    /// Starts watching. `done` are the names done before; `waker` is called after each delivery.
    /// The last delivery of a file is `finished` and may hold no records. A file that cannot be
    /// read is rejected as a whole at the place where it broke, and done.
    ///
    /// Errors if the directory cannot be listed.
    pub fn spawn(
        directory: impl AsRef<Path>,
        done: BTreeSet<String>,
        options: FolderOptions,
        waker: Waker,
    ) -> Result<Self> {
        let folder = Folder::open(&directory, options.settle, done)?;
        let (sender, deliveries) = sync_channel(options.queue.max(1));
        let stop = Arc::new(AtomicBool::new(false));
        let watch = Watch {
            folder,
            options,
            sender,
            waker,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("folder".into())
            .spawn(move || watch.run())
            .map_err(ConnectorError::io(
                "watch",
                directory.as_ref(),
                "raise the thread limit",
            ))?;
        Ok(Self {
            deliveries: Some(deliveries),
            stop,
            thread: Some(thread),
        })
    }

    /// The next delivery, if there is one now.
    pub fn try_next(&self) -> Option<Delivery> {
        self.deliveries.as_ref()?.try_recv().ok()
    }
}

impl Drop for FolderSource {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Without a receiver a waiting send returns, so the thread ends.
        drop(self.deliveries.take());
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            _ = thread.join();
        }
    }
}

struct Watch {
    folder: Folder,
    options: FolderOptions,
    sender: SyncSender<Delivery>,
    waker: Waker,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            match self.folder.look(Instant::now()) {
                Ok(files) => {
                    for path in files {
                        if !self.take(&path) {
                            return;
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "the directory is not readable; trying on"),
            }
            std::thread::park_timeout(self.options.interval);
        }
    }

    /// Delivers a file; `false` if the receiver is gone.
    fn take(&mut self, path: &Path) -> bool {
        let origin = file_name(path);
        let send = |delivery: Delivery| {
            let sent = self.sender.send(delivery).is_ok();
            if sent {
                (self.waker)();
            }
            sent
        };
        let (mut open, mut begun) = (true, false);
        let mut each = |delivery: Delivery| {
            begun = true;
            open = open && send(delivery);
            open
        };
        let rejected = match decode_file(path, self.options.rows, &mut each) {
            Ok(()) => Vec::new(),
            Err(error @ ConnectorError::Io { .. }) if !begun => {
                tracing::warn!(%error, "the file is left for the next look");
                return true;
            }
            Err(error) => {
                let (name, detail) = (origin.as_bytes(), error.to_string());
                vec![Rejected::raw(name, Reason::Malformed, detail, &*origin)]
            }
        };
        let Ok(batch) = BatchBuilder::default().finish() else {
            return false;
        };
        let last = Delivery {
            origin: origin.clone(),
            batch,
            rejected,
            finished: true,
        };
        if !(open && send(last)) {
            return false;
        }
        self.folder.mark_done(&origin);
        true
    }
}

#[cfg(test)]
mod tests;
