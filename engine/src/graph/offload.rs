//! Tensors that wait in a file for a cotangent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Stream;

use crate::fabric::bulk;
use crate::graph::Moment;
use crate::graph::forward::Port;
use crate::graph::gate::{Store, gate_in};
use crate::shard::{Batch, DType, Shard};

/// Writes what comes in `values` into `room`, and gives it when something comes in `when` at its moment and key.
pub(crate) fn put_away<'s, T: Moment>(
    name: &str,
    values: Stream<'s, T, Batch>,
    when: Stream<'s, T, Batch>,
    room: Rc<RefCell<Room>>,
) -> Stream<'s, T, Batch> {
    let what = format!("{name} on worker {}", when.scope().index());
    let values = Port {
        stream: values,
        held: false,
    };
    let slots = Slots { room, what };
    gate_in(format!("Put away {name}"), values, when, slots)
}

/// A file without a name for all that a worker puts away in a directory.
pub(crate) struct Room {
    directory: Arc<Path>,
    file: Option<File>,
    end: u64,
    /// Places that are free, by their size.
    free: BTreeMap<u64, Vec<u64>>,
}

impl Room {
    pub(crate) fn new(directory: &Arc<Path>) -> Self {
        Room {
            directory: Arc::clone(directory),
            file: None,
            end: 0,
            free: BTreeMap::new(),
        }
    }

    /// Writes to a place of its own, and gives that.
    fn put(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let size = bytes.len() as u64;
        let free = self.free.get_mut(&size).and_then(Vec::pop);
        let at = free.unwrap_or_else(|| {
            self.end += size;
            self.end - size
        });
        let file = match &self.file {
            Some(file) => file,
            // no name: nothing is left of it however the job ends
            None => self.file.insert(tempfile::tempfile_in(&self.directory)?),
        };
        file.write_all_at(bytes, at)?;
        Ok(at)
    }

    fn get(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        match &self.file {
            Some(file) => file.read_exact_at(bytes, at),
            None => Ok(()),
        }
    }
}

/// Where a tensor is in the file.
struct Slot {
    at: u64,
    shape: Vec<usize>,
    dtype: DType,
}

/// The tensors of one value.
struct Slots {
    room: Rc<RefCell<Room>>,
    /// What is put away, for errors.
    what: String,
}

impl Slots {
    /// # Panics
    /// With what could not be put away or taken back, where and why: the fabric turns it into the error of the
    /// job.
    fn fail(&self, verb: &str, e: &io::Error) -> ! {
        let room = self.room.borrow();
        let (what, place) = (&self.what, room.directory.display());
        let mend = match e.kind() {
            io::ErrorKind::NotFound => "make it, or choose another directory",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room there, or choose another directory"
            }
            _ => "choose another directory",
        };
        panic!("cannot {verb} {what} away in {place}: {e}; {mend}")
    }
}

impl Store for Slots {
    type Kept = Slot;

    fn put(&mut self, shard: Shard) -> Slot {
        let put = self.room.borrow_mut().put(shard.data().as_bytes());
        match put {
            Ok(at) => Slot {
                at,
                shape: shard.shape.clone(),
                dtype: shard.dtype(),
            },
            Err(e) => self.fail("put", &e),
        }
    }

    fn get(&mut self, slot: &Slot) -> Shard {
        let mut data = bulk::buffer(slot.dtype, slot.shape.iter().product());
        let got = self.room.borrow().get(slot.at, data.as_bytes_mut());
        match got {
            Ok(()) => Shard::new(0, slot.shape.clone(), data),
            Err(e) => self.fail("take", &e),
        }
    }

    fn free(&mut self, slot: Slot) {
        let size = slot.shape.iter().product::<usize>() * slot.dtype.size();
        let mut room = self.room.borrow_mut();
        room.free.entry(size as u64).or_default().push(slot.at);
    }
}
