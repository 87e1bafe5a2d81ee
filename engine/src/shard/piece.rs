//! The message type: one local piece of a logical tensor.

use std::any::Any;
use std::ops::Range;
use std::sync::Weak;

use super::data::{DType, Data, Element};
use super::payload::{Elsewhere, Payload, View};
use crate::fabric::bulk::Arrival;

/// One piece of a logical tensor, in row-major order, on its way between operators.
///
/// In one process a shard moves as a pointer. Between processes its contents travel on the bulk
/// lane when they are large, and [`Shard::data`] waits for them.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Which logical tensor (or which of several at one time) this is a piece of.
    pub key: u64,
    /// Worker that sent it.
    pub from: u32,
    /// Worker it is for.
    pub to: u32,
    /// Local extents, outermost first.
    pub shape: Vec<usize>,
    payload: Payload,
}

/// Which contents a shard has. Equal ones are the same elements of the same memory, which nobody has written
/// to between: memory that is written to, or that is freed and used again, has another identity. It does not
/// keep the elements.
#[derive(Debug, Clone)]
pub struct Identity {
    memory: Weak<dyn Any + Send + Sync>,
    run: Range<usize>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.run == other.run && Weak::ptr_eq(&self.memory, &other.memory)
    }
}

impl Shard {
    /// A shard of the given extents.
    ///
    /// # Panics
    /// If the extents and the number of elements disagree: a bug of the calling operator.
    pub fn new(key: u64, shape: Vec<usize>, data: Data) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "shard {key}: extents {shape:?} do not hold {} elements",
            data.len()
        );
        Self::of_payload(key, shape, Payload::here(data))
    }

    /// The same shard, addressed from one worker to another.
    pub fn addressed(mut self, from: usize, to: usize) -> Self {
        self.from = from as u32;
        self.to = to as u32;
        self
    }

    /// A shard whose contents are on the bulk lane.
    pub(crate) fn coming(
        key: u64,
        shape: Vec<usize>,
        dtype: DType,
        wait: Box<dyn Arrival>,
    ) -> Self {
        let len = shape.iter().product();
        Self::of_payload(key, shape, Payload::coming(dtype, len, wait))
    }

    /// A shard whose contents are on a device, and come when somebody reads them here: an operator on the same
    /// device finds them by [`Shard::elsewhere`].
    pub fn away(key: u64, shape: Vec<usize>, dtype: DType, of: impl Elsewhere) -> Self {
        let len = shape.iter().product();
        Self::of_payload(key, shape, Payload::away(dtype, len, Box::new(of)))
    }

    /// What holds the contents on a device, if they were given there as a `T`.
    pub fn elsewhere<T: Elsewhere>(&self) -> Option<&T> {
        let of: &dyn Any = self.payload.elsewhere()?;
        of.downcast_ref()
    }

    /// A shard of contents wherever they are.
    pub(crate) fn of_payload(key: u64, shape: Vec<usize>, payload: Payload) -> Self {
        Shard {
            key,
            from: 0,
            to: 0,
            shape,
            payload,
        }
    }

    /// The sum with another, element by element, on the device that both are on, if there is one.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        let sum = self.payload.plus(&other.payload)?;
        Some(Self::of_payload(self.key, self.shape.clone(), sum))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.payload.dtype()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether the shard holds no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the contents.
    pub fn bytes_len(&self) -> usize {
        self.len() * self.dtype().size()
    }

    /// The contents; waits while they are still on the bulk lane.
    pub fn data(&self) -> &Data {
        self.payload.view().data()
    }

    /// Which contents these are; waits while they are still on the bulk lane.
    pub fn identity(&self) -> Identity {
        let (memory, run) = self.payload.memory();
        Identity { memory, run }
    }

    /// The contents by value; waits while they are still on the bulk lane.
    pub fn into_data(self) -> Data {
        self.payload.into_data()
    }

    /// The run of memory that holds the contents; waits while they are still on the bulk lane.
    pub(crate) fn view(&self) -> &View {
        self.payload.view()
    }

    /// The contents wherever they are.
    pub(crate) fn into_payload(self) -> Payload {
        self.payload
    }

    /// The elements as `E`; waits while they are still on the bulk lane.
    ///
    /// # Panics
    /// If the shard holds another type: layouts fix the type of an edge when the graph is built.
    pub fn elements<E: Element>(&self) -> &[E] {
        self.payload.view().elements::<E>().unwrap_or_else(|| {
            panic!(
                "shard {}: holds {:?}, read as {:?}",
                self.key,
                self.dtype(),
                E::DTYPE
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// What is on a device stays there until it is read, is brought once for all clones, and is the same contents
    /// before and after.
    #[test]
    fn contents_elsewhere_come_once_when_they_are_read() {
        struct There(Arc<AtomicUsize>);
        impl Elsewhere for There {
            fn bring(&self) -> Data {
                self.0.fetch_add(1, Ordering::Relaxed);
                vec![1.0, 2.0].into()
            }
        }
        let brought = Arc::new(AtomicUsize::new(0));
        let shard = Shard::away(3, vec![2], DType::F64, There(Arc::clone(&brought)));
        let (same, first) = (shard.clone(), shard.identity());
        assert_eq!(
            (shard.len(), shard.bytes_len(), shard.dtype()),
            (2, 16, DType::F64)
        );
        assert!(same.elsewhere::<There>().is_some());
        assert_eq!(brought.load(Ordering::Relaxed), 0);
        assert_eq!(shard.elements::<f64>(), [1.0, 2.0]);
        assert_eq!(same.into_data(), vec![1.0, 2.0].into());
        assert!(first == shard.identity() && shard.elsewhere::<There>().is_some());
        assert_eq!(brought.load(Ordering::Relaxed), 1);
    }

    /// Clones are the same contents; what is written to, equal numbers elsewhere, and memory that was freed are
    /// others, and who knows an identity keeps nobody from writing in place.
    #[test]
    fn identity_is_that_of_memory() {
        let shard = |data: &Data| Shard::new(0, vec![data.len()], data.clone());
        let mut data = Data::from(vec![1.0, 2.0]);
        let first = shard(&data).identity();
        assert!(first == shard(&data).identity() && first == shard(&data).clone().identity());
        assert!(first != shard(&Data::from(vec![1.0, 2.0])).identity());
        let place = data.as_bytes().as_ptr();
        data.get_mut::<f64>().expect("doubles")[0] = 3.0;
        assert_eq!(place, data.as_bytes().as_ptr());
        assert!(first != shard(&data).identity());
        for _ in 0..8 {
            let known = shard(&data).identity();
            let taken = data.take_unshared().expect("nobody shares it");
            assert_eq!(place, taken.as_bytes().as_ptr());
            data = taken;
            assert!(known != shard(&data).identity());
        }
    }
}
