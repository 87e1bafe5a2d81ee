//! Tensors that stay on a device while the pieces that they were made of come again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use advect_engine::shard::Identity;
use advect_engine::{Result, Shard};
use candle_core::Tensor;

/// By worker and input, the contents of the last piece and the tensor of them.
type Entries = BTreeMap<(usize, usize), (Identity, Tensor)>;

/// One tensor for each worker and input.
#[derive(Debug, Default)]
pub(super) struct Resident {
    entries: Mutex<Entries>,
    made: AtomicUsize,
}

impl Resident {
    /// The tensor of a piece, which `make` makes if another piece was there before.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn tensor(
        &self,
        worker: usize,
        input: usize,
        piece: &Shard,
        make: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let identity = piece.identity();
        if let Some((_, tensor)) = self
            .entries()
            .get(&(worker, input))
            .filter(|(of, _)| *of == identity)
        {
            return Ok(tensor.clone());
        }
        // the last one goes before memory is taken for the next
        self.entries().remove(&(worker, input));
        let tensor = make()?;
        self.made.fetch_add(1, Ordering::Relaxed);
        self.entries()
            .insert((worker, input), (identity, tensor.clone()));
        Ok(tensor)
    }

    /// Number of tensors that were made.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
