//! Contents of shards: a run of elements that is here, one that is still on the bulk lane, or one on a device.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::data::{DType, Data, Element};
use crate::fabric::bulk::{self, Arrival};

/// A run of elements of shared memory. The memory is used again when the last view of it goes.
#[derive(Debug, Clone)]
pub(crate) struct View {
    of: Data,
    range: Range<usize>,
    copied: OnceLock<Data>,
}

impl View {
    /// All elements of `of`.
    pub(crate) fn whole(of: Data) -> Self {
        let range = 0..of.len();
        View {
            of,
            range,
            copied: OnceLock::new(),
        }
    }

    /// The elements `range` of this run, without a copy.
    pub(crate) fn run(&self, range: Range<usize>) -> Self {
        let start = self.range.start;
        View {
            of: self.of.clone(),
            range: start + range.start..start + range.end,
            copied: OnceLock::new(),
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        self.of.dtype()
    }

    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let size = self.dtype().size();
        &self.of.as_bytes()[self.range.start * size..self.range.end * size]
    }

    pub(crate) fn elements<E: Element>(&self) -> Option<&[E]> {
        self.of.get::<E>()?.get(self.range.clone())
    }

    /// The memory, and where in it the run begins.
    pub(crate) fn memory(&self) -> (&Data, usize) {
        (&self.of, self.range.start)
    }

    /// The run as a tensor of its own; copied if it is not all of its memory.
    pub(crate) fn data(&self) -> &Data {
        if self.range == (0..self.of.len()) {
            return &self.of;
        }
        self.copied.get_or_init(|| {
            let mut data = bulk::buffer(self.dtype(), self.len());
            data.as_bytes_mut().copy_from_slice(self.bytes());
            data
        })
    }

    pub(crate) fn into_data(mut self) -> Data {
        let _ = self.data();
        self.copied
            .take()
            .unwrap_or_else(|| std::mem::replace(&mut self.of, Data::zeros(DType::F32, 0)))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        bulk::recycle(&mut self.of);
        if let Some(data) = self.copied.get_mut() {
            bulk::recycle(data);
        }
    }
}

/// Contents that are here, on their way, or on a device.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Here(View),
    Coming(Arc<Coming>),
    Away(Arc<Away>),
}

/// Elements in other memory than that of processors.
pub trait Elsewhere: Any + Send + Sync {
    /// The elements, in row-major order, as many and of the type that were announced.
    ///
    /// # Panics
    /// If they cannot be brought: the fabric turns it into the error of the job.
    fn bring(&self) -> Data;

    /// The sum with other contents, element by element, if they are in the same memory and can be added there; it is
    /// that of the elements here to the bit.
    fn plus(&self, other: &dyn Any) -> Option<Box<dyn Elsewhere>> {
        let _ = other;
        None
    }
}

/// Contents that stay on a device until somebody reads them here.
pub(crate) struct Away {
    dtype: DType,
    len: usize,
    of: Box<dyn Elsewhere>,
    brought: OnceLock<View>,
}

impl std::fmt::Debug for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Away({:?} x {})", self.dtype, self.len)
    }
}

/// Contents that are on their way on the bulk lane.
pub(crate) struct Coming {
    dtype: DType,
    len: usize,
    arrived: OnceLock<View>,
    wait: Mutex<Option<Box<dyn Arrival>>>,
}

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coming({:?} x {})", self.dtype, self.len)
    }
}

impl Coming {
    fn arrival(&self) -> MutexGuard<'_, Option<Box<dyn Arrival>>> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        // the sender keeps its memory until somebody takes the payload
        if let Some(arrival) = self.arrival().take() {
            arrival.discard(self.len * self.dtype.size());
        }
    }
}

impl Payload {
    pub(crate) fn here(data: Data) -> Self {
        Payload::Here(View::whole(data))
    }

    pub(crate) fn coming(dtype: DType, len: usize, wait: Box<dyn Arrival>) -> Self {
        Payload::Coming(Arc::new(Coming {
            dtype,
            len,
            arrived: OnceLock::new(),
            wait: Mutex::new(Some(wait)),
        }))
    }

    pub(crate) fn away(dtype: DType, len: usize, of: Box<dyn Elsewhere>) -> Self {
        Payload::Away(Arc::new(Away {
            dtype,
            len,
            of,
            brought: OnceLock::new(),
        }))
    }

    pub(crate) fn dtype(&self) -> DType {
        match self {
            Payload::Here(v) => v.dtype(),
            Payload::Coming(c) => c.dtype,
            Payload::Away(a) => a.dtype,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Payload::Here(v) => v.len(),
            Payload::Coming(c) => c.len,
            Payload::Away(a) => a.len,
        }
    }

    /// What the elements are on a device, if they are there.
    pub(crate) fn elsewhere(&self) -> Option<&dyn Elsewhere> {
        match self {
            Payload::Away(a) => Some(&*a.of),
            Payload::Here(_) | Payload::Coming(_) => None,
        }
    }

    /// The sum of both on their device, if it can be made there.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        let (a, b) = (self.elsewhere()?, other.elsewhere()?);
        let sum = a.plus(b)?;
        Some(Payload::away(self.dtype(), self.len(), sum))
    }

    /// Which memory the elements are in, without holding it, and which of it.
    pub(crate) fn memory(&self) -> (Weak<dyn Any + Send + Sync>, Range<usize>) {
        if let Payload::Away(a) = self {
            let memory: Weak<dyn Any + Send + Sync> = Arc::downgrade(a) as _;
            return (memory, 0..a.len);
        }
        let view = self.view();
        (view.of.memory(), view.range.clone())
    }

    /// The elements; waits for them.
    pub(crate) fn view(&self) -> &View {
        match self {
            Payload::Here(v) => v,
            Payload::Coming(c) => c.arrived.get_or_init(|| {
                let arrival = c.arrival().take();
                View::whole(match arrival {
                    Some(arrival) => arrival.take(c.dtype, c.len),
                    None => Data::zeros(c.dtype, 0),
                })
            }),
            Payload::Away(a) => a.brought.get_or_init(|| View::whole(a.of.bring())),
        }
    }

    /// The elements as a tensor that is unshared if they came from afar and were never looked at.
    pub(crate) fn into_data(self) -> Data {
        match self {
            Payload::Here(v) => v.into_data(),
            // the clone holds the memory alone once `self` is gone
            Payload::Coming(_) | Payload::Away(_) => self.view().clone().into_data(),
        }
    }

    /// Shows the elements to `next` run by run as they come, each with the element at which it begins,
    /// if they are on their way and nobody else wants them.
    ///
    /// # Errors
    /// Itself, if they are not.
    pub(crate) fn runs(self, next: &mut dyn FnMut(usize, &Data)) -> Result<(), Self> {
        if let Payload::Coming(c) = &self
            && Arc::strong_count(c) == 1
            && let Some(arrival) = c.arrival().take()
        {
            arrival.runs(c.dtype, c.len, next);
            return Ok(());
        }
        Err(self)
    }

    /// Puts the elements into `out`, straight from the lane where nobody else wants them.
    pub(crate) fn fill(self, out: &mut [u8]) {
        if let Payload::Coming(c) = &self
            && Arc::strong_count(c) == 1
            && let Some(arrival) = c.arrival().take()
        {
            return arrival.fill(out);
        }
        out.copy_from_slice(self.view().bytes());
    }
}
