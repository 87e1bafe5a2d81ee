//! Tensors that wait in a file for a cotangent.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use timely::dataflow::Stream;

use crate::fabric::bulk;
use crate::graph::Moment;
use crate::graph::forward::Port;
use crate::graph::gate::{Store, gate_in};
use crate::shard::{Batch, DType, Shard};

/// Writes what comes in `values` into a file in `directory`, and gives it when something comes in `when` at its
/// moment and key.
pub(crate) fn put_away<'s, T: Moment>(
    name: &str,
    values: Stream<'s, T, Batch>,
    when: Stream<'s, T, Batch>,
    directory: &Arc<Path>,
) -> Stream<'s, T, Batch> {
    let worker = when.scope().index();
    let file = Slots::new(directory, format!("{name} on worker {worker}"));
    let values = Port {
        stream: values,
        held: false,
    };
    gate_in(format!("Put away {name}"), values, when, file)
}

/// Where a tensor is in the file.
struct Slot {
    number: u64,
    shape: Vec<usize>,
    dtype: DType,
}

/// A file without a name, in slots of the size of the first tensor: those of other moments are as large.
struct Slots {
    directory: Arc<Path>,
    /// What is put away, for errors.
    what: String,
    file: Option<File>,
    size: u64,
    next: u64,
    free: Vec<u64>,
}

impl Slots {
    fn new(directory: &Arc<Path>, what: String) -> Self {
        Slots {
            directory: Arc::clone(directory),
            what,
            file: None,
            size: 0,
            next: 0,
            free: Vec::new(),
        }
    }

    /// # Panics
    /// With what could not be put away or taken back, where and why: the fabric turns it into the error of the
    /// job.
    fn fail(&self, verb: &str, e: &io::Error) -> ! {
        let (what, place) = (&self.what, self.directory.display());
        panic!(
            "cannot {verb} {what} away in {place}: {e}; make room there, or choose another directory"
        )
    }
}

impl Store for Slots {
    type Kept = Slot;

    fn put(&mut self, shard: Shard) -> Slot {
        let bytes = shard.data().as_bytes();
        self.size = self.size.max(bytes.len() as u64);
        let number = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        let at = number * self.size;
        let file = match &self.file {
            Some(file) => Ok(file),
            None => unnamed(&self.directory).map(|file| &*self.file.insert(file)),
        };
        if let Err(e) = file.and_then(|file| file.write_all_at(bytes, at)) {
            self.fail("put", &e);
        }
        Slot {
            number,
            shape: shard.shape.clone(),
            dtype: shard.dtype(),
        }
    }

    fn get(&mut self, slot: &Slot) -> Shard {
        let mut data = bulk::buffer(slot.dtype, slot.shape.iter().product());
        if let Some(file) = &self.file
            && let Err(e) = file.read_exact_at(data.as_bytes_mut(), slot.number * self.size)
        {
            self.fail("take", &e);
        }
        Shard::new(0, slot.shape.clone(), data)
    }

    fn free(&mut self, slot: Slot) {
        self.free.push(slot.number);
    }
}

/// A new file in `directory` that has no name any more.
fn unnamed(directory: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path: PathBuf = directory.join(format!(".away-{}-{number}", process::id()));
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
