//! One job at a time in a directory.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::disk::{bad, unwritten};
use crate::error::Result;

/// A killed job is gone within this time, also where its other processes have to notice.
const PATIENCE: Duration = Duration::from_secs(15);

/// Held while a job writes; the system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self> {
        let path = directory.join("LOCK");
        let file = File::create(&path).map_err(|e| unwritten(&path, &e))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                    sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    let why = "another job writes this directory; wait for its end, or choose \
                               another directory";
                    return Err(bad(&path, why));
                }
                Err(TryLockError::Error(e)) => return Err(unwritten(&path, &e)),
            }
        }
    }
}
