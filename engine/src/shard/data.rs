//! Reference-counted, typed tensor storage in row-major order.

use std::any::Any;
use std::sync::{Arc, Weak};

use half::bf16;

use super::Canonical;
use crate::fabric::bulk;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DType {
    /// IEEE single precision.
    F32 = 0,
    /// IEEE double precision.
    F64 = 1,
    /// Brain float: the upper half of an `f32`.
    BF16 = 2,
    /// Signed 64-bit integer.
    I64 = 3,
    /// Signed 128-bit integer: exact fixed-point sums.
    I128 = 4,
    /// Double precision whose sums have no order: [`Canonical`].
    Canonical = 5,
}

impl DType {
    /// All types, by their wire codes.
    pub const ALL: [DType; 6] = [
        DType::F32,
        DType::F64,
        DType::BF16,
        DType::I64,
        DType::I128,
        DType::Canonical,
    ];

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::BF16 => 2,
            DType::F32 => 4,
            DType::F64 | DType::I64 | DType::Canonical => 8,
            DType::I128 => 16,
        }
    }

    /// The type with this wire code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        DType::ALL.into_iter().find(|d| *d as u8 == code)
    }
}

/// Contents of a shard: a shared vector of one element type.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Single precision.
    F32(Arc<Vec<f32>>),
    /// Double precision.
    F64(Arc<Vec<f64>>),
    /// Brain float.
    BF16(Arc<Vec<bf16>>),
    /// Integers.
    I64(Arc<Vec<i64>>),
    /// Exact fixed-point numbers.
    I128(Arc<Vec<i128>>),
    /// Numbers whose sums have no order.
    Canonical(Arc<Vec<Canonical>>),
}

/// Runs `$body` with `$v` bound to the typed vector inside `$data`.
macro_rules! with_vec {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            Data::F32($v) => $body,
            Data::F64($v) => $body,
            Data::BF16($v) => $body,
            Data::I64($v) => $body,
            Data::I128($v) => $body,
            Data::Canonical($v) => $body,
        }
    };
}

impl Data {
    /// Zeros of the given type.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => vec![0f32; len].into(),
            DType::F64 => vec![0f64; len].into(),
            DType::BF16 => vec![bf16::ZERO; len].into(),
            DType::I64 => vec![0i64; len].into(),
            DType::I128 => vec![0i128; len].into(),
            DType::Canonical => vec![Canonical(0.0); len].into(),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            Data::F32(_) => DType::F32,
            Data::F64(_) => DType::F64,
            Data::BF16(_) => DType::BF16,
            Data::I64(_) => DType::I64,
            Data::I128(_) => DType::I128,
            Data::Canonical(_) => DType::Canonical,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        with_vec!(self, v => v.len())
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shortens the tensor to `len` elements, keeping its memory; copies first if it is shared.
    pub(crate) fn truncate(&mut self, len: usize) {
        with_vec!(self, v => own(v).truncate(len));
    }

    /// Bytes that the memory of this tensor has room for.
    pub(crate) fn capacity_bytes(&self) -> usize {
        with_vec!(self, v => v.capacity()) * self.dtype().size()
    }

    /// Whether others hold this memory, too, so that writing copies it.
    pub(crate) fn is_shared(&self) -> bool {
        with_vec!(self, v => Arc::strong_count(v) > 1)
    }

    /// Moves the elements out and leaves none; `None` if they are shared.
    pub(crate) fn take_unshared(&mut self) -> Option<Data> {
        // who only knows which memory it was does not share it
        if self.is_shared() {
            return None;
        }
        with_vec!(self, v => Some(std::mem::take(Arc::make_mut(v)).into()))
    }

    /// Which memory it is, without holding its elements.
    pub(crate) fn memory(&self) -> Weak<dyn Any + Send + Sync> {
        with_vec!(self, v => {
            let memory: Weak<dyn Any + Send + Sync> = Arc::downgrade(v) as _;
            memory
        })
    }

    /// Number of bytes.
    pub fn bytes_len(&self) -> usize {
        self.len() * self.dtype().size()
    }

    /// The elements as bytes of this machine's order.
    pub fn as_bytes(&self) -> &[u8] {
        with_vec!(self, v => bytemuck::cast_slice(v.as_slice()))
    }

    /// The elements as writable bytes; copies first if they are shared.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        with_vec!(self, v => bytemuck::cast_slice_mut(own(v).as_mut_slice()))
    }

    /// The elements in double precision, if they are floating-point.
    pub fn doubles(&self) -> Option<Vec<f64>> {
        match self {
            Data::F32(v) => Some(v.iter().map(|x| f64::from(*x)).collect()),
            Data::F64(v) => Some(v.to_vec()),
            Data::Canonical(v) => Some(v.iter().map(|x| x.0).collect()),
            Data::BF16(v) => Some(v.iter().map(|x| f64::from(*x)).collect()),
            Data::I64(_) | Data::I128(_) => None,
        }
    }

    /// The elements, if they are of type `E`.
    pub fn get<E: Element>(&self) -> Option<&[E]> {
        E::slice(self)
    }

    /// The elements for writing, if they are of type `E`; copies first if they are shared.
    pub fn get_mut<E: Element>(&mut self) -> Option<&mut Vec<E>> {
        E::vec_mut(self)
    }
}

/// The elements for writing: those of a copy, in memory that was used before, if others hold them, too.
fn own<E: Element>(elements: &mut Arc<Vec<E>>) -> &mut Vec<E> {
    if Arc::strong_count(elements) > 1 {
        let mut copy = buffer(elements.len());
        copy.copy_from_slice(elements);
        *elements = Arc::new(copy);
    }
    Arc::make_mut(elements)
}

/// A vector of `len` elements whose values mean nothing: the caller writes all of them. The memory is that
/// of a tensor which this worker let go, if there is one of the size.
pub fn buffer<E: Element>(len: usize) -> Vec<E> {
    let mut data = bulk::buffer(E::DTYPE, len);
    data.get_mut().map(std::mem::take).unwrap_or_default()
}

/// A Rust type that tensors are made of.
pub trait Element: bytemuck::Pod + PartialEq + std::fmt::Debug + Send + Sync {
    /// Its name on the wire.
    const DTYPE: DType;
    /// The elements of `data` if the type matches.
    fn slice(data: &Data) -> Option<&[Self]>;
    /// The elements of `data` for writing if the type matches.
    fn vec_mut(data: &mut Data) -> Option<&mut Vec<Self>>;
}

macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$variant;
            fn slice(data: &Data) -> Option<&[Self]> {
                match data {
                    Data::$variant(v) => Some(v.as_slice()),
                    _ => None,
                }
            }
            fn vec_mut(data: &mut Data) -> Option<&mut Vec<Self>> {
                match data {
                    Data::$variant(v) => Some(own(v)),
                    _ => None,
                }
            }
        }
        impl From<Vec<$type>> for Data {
            fn from(v: Vec<$type>) -> Self {
                Data::$variant(Arc::new(v))
            }
        }
    };
}

element!(f32, F32);
element!(f64, F64);
element!(bf16, BF16);
element!(i64, I64);
element!(i128, I128);
element!(Canonical, Canonical);

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes out and bytes in give the same elements for every type.
    #[test]
    fn bytes_round_trip() {
        for dtype in DType::ALL {
            let mut a = Data::zeros(dtype, 3);
            for (i, b) in a.as_bytes_mut().iter_mut().enumerate() {
                *b = (i % 60) as u8;
            }
            let mut b = Data::zeros(dtype, 3);
            b.as_bytes_mut().copy_from_slice(a.as_bytes());
            assert_eq!(a, b);
            assert_eq!(a.bytes_len(), 3 * dtype.size());
            assert_eq!(DType::from_code(dtype as u8), Some(dtype));
        }
        let numbers = [1.5, -2.0];
        for same in [
            Data::from(numbers.map(|x| x as f32).to_vec()),
            Data::from(numbers.to_vec()),
            Data::from(numbers.map(Canonical).to_vec()),
            Data::from(numbers.map(bf16::from_f64).to_vec()),
        ] {
            assert_eq!(same.doubles(), Some(numbers.to_vec()));
        }
        assert_eq!(Data::zeros(DType::I64, 2).doubles(), None);
        assert_eq!(DType::from_code(6), None);
    }
}
