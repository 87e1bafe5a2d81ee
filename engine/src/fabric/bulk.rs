//! The bulk lane: large payloads, point to point, beside their descriptors.
//!
//! timely encodes and decodes messages through traits that carry no context, so each worker
//! thread holds what it needs for that (its [`Seat`]) here, from the moment it starts until it
//! ends.

use std::cell::RefCell;
use std::sync::Arc;

use crate::shard::payload::View;
use crate::shard::pool::Pool;
use crate::shard::{DType, Data};

/// Moves payloads between processes, outside timely's channels.
pub(crate) trait Lane: Send + Sync {
    /// Starts to send the elements of `view` to `worker`, which lives in another process, and
    /// returns the tag that the descriptor carries. Does not wait for the receiver.
    fn send(&self, worker: usize, view: &View) -> u64;
    /// The payload that `worker` sends under `tag`.
    fn expect(&self, worker: usize, tag: u64) -> Result<Box<dyn Arrival>, String>;
}

/// A payload that was announced by a descriptor.
pub(crate) trait Arrival: Send {
    /// Waits for the payload and puts it into `out`, which has the announced number of bytes.
    fn fill(self: Box<Self>, out: &mut [u8]);
    /// Waits for the payload and yields it as a tensor that nobody else holds.
    fn take(self: Box<Self>, dtype: DType, len: usize) -> Data;
    /// Waits for the payload run by run, in their order: `next` sees each with the element at which it
    /// begins. The memory of a run is used again for a later one, so that it stays in the caches.
    fn runs(self: Box<Self>, dtype: DType, len: usize, next: &mut dyn FnMut(usize, &Data)) {
        let mut data = self.take(dtype, len);
        next(0, &data);
        recycle(&mut data);
    }
    /// Lets the sender go on although nobody wants the payload of so many bytes.
    fn discard(self: Box<Self>, bytes: usize);
}

/// What a worker thread needs to encode, decode and place tensors.
#[derive(Clone, Default)]
pub(crate) struct Seat {
    /// The lane of the process, if there are other processes.
    pub(crate) lane: Option<Arc<dyn Lane>>,
    /// Memory of the process that is free to be used again.
    pub(crate) pool: Arc<Pool>,
}

thread_local! {
    static SEAT: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

/// Gives this worker thread its seat, or takes it back.
pub(crate) fn open(seat: Option<Seat>) {
    let before = SEAT.try_with(|slot| std::mem::replace(&mut *slot.borrow_mut(), seat));
    drop(before);
}

fn with<R>(f: impl FnOnce(&Seat) -> R) -> Option<R> {
    // a tensor may outlive the seat: while the thread ends there is none
    SEAT.try_with(|slot| slot.borrow().as_ref().map(f))
        .ok()
        .flatten()
}

/// Whether this worker thread has a lane.
pub(crate) fn is_open() -> bool {
    with(|seat| seat.lane.is_some()).unwrap_or(false)
}

/// Sends `view` to `worker` and returns the tag for its descriptor (0 without a lane).
pub(crate) fn send(worker: usize, view: &View) -> u64 {
    let lane = with(|seat| seat.lane.clone()).flatten();
    lane.map_or(0, |lane| lane.send(worker, view))
}

/// The payload of a descriptor.
pub(crate) fn expect(worker: usize, tag: u64) -> Result<Box<dyn Arrival>, String> {
    match with(|seat| seat.lane.clone()).flatten() {
        Some(lane) => lane.expect(worker, tag),
        None => Err("a payload was announced on a bulk lane, but this worker has none".into()),
    }
}

/// A tensor of `len` elements whose contents mean nothing: the caller writes all of it.
pub(crate) fn buffer(dtype: DType, len: usize) -> Data {
    with(|seat| seat.pool.buffer(dtype, len)).unwrap_or_else(|| Data::zeros(dtype, len))
}

/// Keeps the memory of `data` for [`buffer`] if it is large and nobody else holds it.
pub(crate) fn recycle(data: &mut Data) {
    let _ = with(|seat| seat.pool.recycle(data));
}
