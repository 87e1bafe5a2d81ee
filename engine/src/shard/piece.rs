//! The message type: one local piece of a logical tensor.

use super::data::{DType, Data, Element};
use super::payload::{Payload, View};
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
        Shard {
            key,
            from: 0,
            to: 0,
            shape,
            payload: Payload::here(data),
        }
    }

    /// The same shard, addressed from one worker to another.
    pub fn addressed(mut self, from: usize, to: usize) -> Self {
        self.from = from as u32;
        self.to = to as u32;
        self
    }

    /// A shard that is a run of other contents, without a copy.
    pub(crate) fn of_view(key: u64, view: View) -> Self {
        Shard {
            key,
            from: 0,
            to: 0,
            shape: vec![view.len()],
            payload: Payload::Here(view),
        }
    }

    /// A shard whose contents are on the bulk lane.
    pub(crate) fn coming(
        key: u64,
        shape: Vec<usize>,
        dtype: DType,
        wait: Box<dyn Arrival>,
    ) -> Self {
        let len = shape.iter().product();
        Shard {
            key,
            from: 0,
            to: 0,
            shape,
            payload: Payload::coming(dtype, len, wait),
        }
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
