//! The bulk lane: large payloads, point to point, beside their descriptors.
//!
//! timely encodes and decodes messages through traits that carry no context, so each worker
//! thread holds the lane of its process here from the moment it starts until it ends.

use std::cell::RefCell;
use std::sync::Arc;

use crate::shard::{DType, Data};

/// Moves payloads between processes, outside timely's channels.
pub(crate) trait Lane: Send + Sync {
    /// Whether `worker` lives in another process.
    fn send(&self, worker: usize, data: &Data) -> u64;
    /// A closure that yields the payload that `worker` sent under `tag`, waiting if need be.
    fn receive(
        &self,
        worker: usize,
        tag: u64,
        dtype: DType,
        len: usize,
    ) -> Result<Box<dyn FnOnce() -> Data + Send>, String>;
}

thread_local! {
    static LANE: RefCell<Option<Arc<dyn Lane>>> = const { RefCell::new(None) };
}

/// Gives this worker thread its lane.
pub(crate) fn open(lane: Option<Arc<dyn Lane>>) {
    LANE.with(|slot| *slot.borrow_mut() = lane);
}

/// Whether this worker thread has a lane.
pub(crate) fn is_open() -> bool {
    LANE.with(|slot| slot.borrow().is_some())
}

/// Sends `data` to `worker` and returns the tag for its descriptor (0 without a lane).
pub(crate) fn send(worker: usize, data: &Data) -> u64 {
    LANE.with(|slot| {
        slot.borrow()
            .as_ref()
            .map_or(0, |lane| lane.send(worker, data))
    })
}

/// What yields the payload of a descriptor.
pub(crate) fn receive(
    worker: usize,
    tag: u64,
    dtype: DType,
    len: usize,
) -> Result<Box<dyn FnOnce() -> Data + Send>, String> {
    LANE.with(|slot| match slot.borrow().as_ref() {
        Some(lane) => lane.receive(worker, tag, dtype, len),
        None => Err("a payload was announced on a bulk lane, but this worker has none".into()),
    })
}
