//! Large buffers that are used again: fresh memory costs a page fault every 4 KiB, about as much
//! time as the transfer that fills it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::data::{DType, Data};
use crate::memory::prefer_huge_pages;

/// Buffers from this many bytes on are kept.
const WORTH: usize = 256 << 10;
/// Bytes that one process keeps at most; the buffers that lay longest go first.
const LIMIT: usize = 1 << 30;

/// Buffers of one process that are free to be used again.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<Data>>,
}

impl Pool {
    /// A tensor of `len` elements whose contents mean nothing: the caller writes all of it.
    pub(crate) fn buffer(&self, dtype: DType, len: usize) -> Data {
        if len * dtype.size() >= WORTH {
            let mut free = self.lock();
            // one that is much larger is left for what needs it
            let fits = |d: &Data| d.dtype() == dtype && (len..=len + len / 4).contains(&d.len());
            let candidates = free.iter().enumerate().filter(|(_, d)| fits(d));
            if let Some((at, _)) = candidates.min_by_key(|(at, d)| (d.len(), usize::MAX - at)) {
                let mut data = free.remove(at);
                drop(free);
                data.truncate(len);
                return data;
            }
        }
        let mut data = Data::zeros(dtype, len);
        prefer_huge_pages(data.as_bytes_mut());
        data
    }

    /// Keeps the memory of `data` if it is large and nobody else holds it; `data` is empty then.
    pub(crate) fn recycle(&self, data: &mut Data) {
        if data.bytes_len() < WORTH {
            return;
        }
        let Some(memory) = data.take_unshared() else {
            return;
        };
        let mut free = self.lock();
        free.push(memory);
        let mut kept = 0;
        let last = free.iter().rposition(|d| {
            kept += d.capacity_bytes();
            kept > LIMIT
        });
        if let Some(last) = last {
            free.drain(..=last);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Data>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(data: &Data) -> usize {
        data.as_bytes().as_ptr() as usize
    }

    /// A buffer that nobody holds is used again for what fits in it; a shared one never is.
    #[test]
    fn memory_returns_unless_shared() {
        let pool = Pool::default();
        let mut first = pool.buffer(DType::F64, 1 << 16);
        let place = address(&first);
        let other = first.clone();
        pool.recycle(&mut first);
        assert_eq!(first.len(), 1 << 16, "shared memory is left alone");
        drop(other);
        pool.recycle(&mut first);
        assert!(first.is_empty());
        assert_ne!(
            address(&pool.buffer(DType::F32, 1 << 16)),
            place,
            "another type"
        );
        assert_ne!(
            address(&pool.buffer(DType::F64, 1 << 15)),
            place,
            "half of it would waste the other half"
        );
        let again = pool.buffer(DType::F64, 60_000);
        assert_eq!((address(&again), again.len()), (place, 60_000));
    }

    /// What is kept is bounded.
    #[test]
    fn the_oldest_go_first() {
        let pool = Pool::default();
        for _ in 0..=LIMIT / (64 << 20) {
            pool.recycle(&mut Data::zeros(DType::F32, 16 << 20));
        }
        assert_eq!(pool.lock().len(), LIMIT / (64 << 20));
        pool.recycle(&mut Data::zeros(DType::F32, (LIMIT >> 2) + 1));
        assert!(
            pool.lock().is_empty(),
            "one that is too large by itself takes all with it"
        );
    }
}
