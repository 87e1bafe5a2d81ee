//! Files that are whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::error::{EngineError, Result};

/// An error at a file of a snapshot.
pub(super) fn bad(path: &Path, why: impl Into<String>) -> EngineError {
    EngineError::Snapshot {
        path: path.display().to_string(),
        why: why.into(),
    }
}

/// An error in writing: the run stops, what was sealed stays.
pub(super) fn unwritten(path: &Path, e: &io::Error) -> EngineError {
    let mend = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free some space there, then resume: the last snapshot is whole"
        }
        _ => "mend that, then resume: the last snapshot is whole",
    };
    bad(path, format!("cannot be written: {e}; {mend}"))
}

/// A new file that counts what is written to it.
#[derive(Debug)]
pub(super) struct Counted {
    file: io::BufWriter<File>,
    hasher: crc32fast::Hasher,
    length: u64,
}

impl Counted {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Counted {
            file: io::BufWriter::with_capacity(1 << 16, file),
            hasher: crc32fast::Hasher::new(),
            length: 0,
        })
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Length and CRC-32 of all that was written, which is on the disk when this returns.
    pub(super) fn sync(&mut self) -> io::Result<(u64, u32)> {
        self.file.flush()?;
        self.file.get_ref().sync_data()?;
        Ok((self.length, self.hasher.clone().finalize()))
    }
}

/// Makes names in a directory last: creations, renames and removals.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes `path` hold what `write` leaves in the file whose name it is given: all of it, or what
/// was there before. The file is written beside its place, flushed and renamed, so that it may be
/// done again after a kill.
///
/// # Errors
/// What `write` returns, or [`EngineError::File`] if the file can not be flushed or renamed; the
/// unfinished file is removed.
pub fn whole<E: From<EngineError>>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let beside = path.with_file_name(name);
    let finish = || -> io::Result<()> {
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, path)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))
    };
    let done = write(&beside).and_then(|()| {
        finish().map_err(|source| {
            E::from(EngineError::File {
                path: path.display().to_string(),
                source,
            })
        })
    });
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done
}
