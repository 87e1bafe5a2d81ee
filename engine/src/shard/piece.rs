//! The message type: one local piece of a logical tensor.

use std::sync::{Arc, Mutex, OnceLock};

use super::data::{DType, Data, Element};

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

#[derive(Debug, Clone)]
enum Payload {
    Here(Data),
    Coming(Arc<Coming>),
}

/// Yields contents that are still on the bulk lane, once.
pub(crate) type Awaited = Box<dyn FnOnce() -> Data + Send>;

/// Contents that are on their way on the bulk lane.
struct Coming {
    dtype: DType,
    len: usize,
    arrived: OnceLock<Data>,
    wait: Mutex<Option<Awaited>>,
}

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coming({:?} x {})", self.dtype, self.len)
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
        Shard {
            key,
            from: 0,
            to: 0,
            shape,
            payload: Payload::Here(data),
        }
    }

    /// The same shard, addressed from one worker to another.
    pub fn addressed(mut self, from: usize, to: usize) -> Self {
        self.from = from as u32;
        self.to = to as u32;
        self
    }

    pub(crate) fn coming(key: u64, shape: Vec<usize>, dtype: DType, wait: Awaited) -> Self {
        let len = shape.iter().product();
        let coming = Coming {
            dtype,
            len,
            arrived: OnceLock::new(),
            wait: Mutex::new(Some(wait)),
        };
        Shard {
            key,
            from: 0,
            to: 0,
            shape,
            payload: Payload::Coming(Arc::new(coming)),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match &self.payload {
            Payload::Here(d) => d.dtype(),
            Payload::Coming(c) => c.dtype,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.payload {
            Payload::Here(d) => d.len(),
            Payload::Coming(c) => c.len,
        }
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
        match &self.payload {
            Payload::Here(d) => d,
            Payload::Coming(c) => c.arrived.get_or_init(|| {
                let wait = match c.wait.lock() {
                    Ok(mut w) => w.take(),
                    Err(poisoned) => poisoned.into_inner().take(),
                };
                wait.map_or_else(|| Data::zeros(c.dtype, 0), |wait| wait())
            }),
        }
    }

    /// The contents by value; waits while they are still on the bulk lane.
    pub fn into_data(self) -> Data {
        match self.payload {
            Payload::Here(d) => d,
            Payload::Coming(_) => self.data().clone(),
        }
    }

    /// The elements as `E`.
    ///
    /// # Panics
    /// If the shard holds another type: layouts fix the type of an edge when the graph is built.
    pub fn elements<E: Element>(&self) -> &[E] {
        let data = self.data();
        data.get::<E>().unwrap_or_else(|| {
            panic!(
                "shard {}: holds {:?}, read as {:?}",
                self.key,
                data.dtype(),
                E::DTYPE
            )
        })
    }
}
