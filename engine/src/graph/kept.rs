//! What waits for cotangents, counted as it comes and goes.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes of tensors that wait on this worker for their cotangents.
#[derive(Debug, Default)]
pub struct Kept {
    now: Cell<usize>,
    peak: Cell<usize>,
    points: Cell<usize>,
}

impl Kept {
    /// Bytes that are kept now.
    pub fn bytes(&self) -> usize {
        self.now.get()
    }

    /// The most bytes that were kept at once.
    pub fn peak(&self) -> usize {
        self.peak.get()
    }

    /// Number of points of operators that are kept now, those without tensors included.
    pub fn points(&self) -> usize {
        self.points.get()
    }

    /// Counts `bytes` as kept until the answer is dropped.
    pub(crate) fn hold(self: &Rc<Self>, bytes: usize) -> Held {
        self.now.set(self.now.get() + bytes);
        self.peak.set(self.peak.get().max(self.now.get()));
        self.points.set(self.points.get() + 1);
        Held {
            kept: Rc::clone(self),
            bytes,
        }
    }
}

/// Bytes that are counted as kept while this lives.
#[derive(Debug)]
pub(crate) struct Held {
    kept: Rc<Kept>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let kept = &self.kept;
        kept.now.set(kept.now.get() - self.bytes);
        kept.points.set(kept.points.get() - 1);
    }
}
