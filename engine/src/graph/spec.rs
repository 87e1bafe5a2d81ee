//! What a graph knows of a tensor before it runs: shape, type, layout and the meaning of its rows.

use std::fmt;

use crate::error::{EngineError, Result};
use crate::layout::{Layout, Overlap, Placement};
use crate::mesh::Mesh;
use crate::partial::{Monoid, Run};
use crate::relayout::Relayout;
use crate::shard::{DType, Data, Shard};

/// How the numbers of the last dimension are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rows {
    /// Each number stands for itself.
    Plain,
    /// A row `(m, v…)` stands for the vector `exp(m) v`: attention partials `(m, ℓ, o…)`.
    ///
    /// Read so, [`Monoid::LogSumExp`] is plain addition and therefore linear: a merge of attention
    /// partials has an adjoint. The cotangent of such a row is again a scaled row `(μ, u…)`, with
    /// the pairing `exp(m + μ) ⟨v, u⟩`.
    Scaled,
}

/// Shape, type and layout of a logical tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Global extents, outermost first.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// Where the pieces are.
    pub layout: Layout,
    /// How rows are read.
    pub rows: Rows,
}

impl Spec {
    /// A tensor of plain numbers.
    pub fn new(shape: impl Into<Vec<usize>>, dtype: DType, layout: Layout) -> Self {
        Spec {
            shape: shape.into(),
            dtype,
            layout,
            rows: Rows::Plain,
        }
    }

    /// The same tensor with rows `(m, v…)`.
    pub fn scaled(mut self) -> Self {
        self.rows = Rows::Scaled;
        self
    }

    /// The same tensor elsewhere.
    pub fn with_layout(&self, layout: Layout) -> Self {
        Spec {
            layout,
            ..self.clone()
        }
    }

    /// Whether a derivative with respect to it exists: its numbers are floating-point.
    pub fn is_real(&self) -> bool {
        matches!(
            self.dtype,
            DType::F32 | DType::F64 | DType::BF16 | DType::Canonical
        )
    }

    /// Whether such a tensor can be on `mesh`.
    ///
    /// # Errors
    /// [`EngineError::Layout`], as [`Layout::check`], and if the partials do not fit the rows:
    /// `Partial(LogSumExp)` belongs to scaled rows and sums to plain ones.
    pub fn check(&self, mesh: &Mesh) -> Result<()> {
        self.layout.check(mesh, &self.shape, self.dtype)?;
        let fail = |why: &str| {
            Err(EngineError::Layout {
                layout: self.to_string(),
                why: why.to_owned(),
            })
        };
        let last = self.shape.len().wrapping_sub(1);
        let sums = |p: &Placement| {
            matches!(
                p,
                Placement::Halo {
                    overlap: Overlap::Sums,
                    ..
                }
            ) || *p == Placement::Partial(Monoid::Sum)
        };
        match self.rows {
            Rows::Plain if self.layout.monoid() == Some(Monoid::LogSumExp) => {
                fail("rows that merge by LogSumExp are scaled rows; mark the tensor as scaled")
            }
            Rows::Scaled if self.layout.axes.iter().any(sums) => {
                fail("scaled rows are not added as numbers; use Partial(LogSumExp)")
            }
            Rows::Scaled if self.layout.axes.iter().any(|p| p.dim() == Some(last)) => {
                fail("(m, v) rows cannot be cut; split another dimension")
            }
            _ => Ok(()),
        }
    }

    /// The cotangent of this tensor: same shape and type, dual layout.
    ///
    /// # Errors
    /// [`EngineError::NoAdjoint`] for integers, maxima, and halos of scaled rows.
    pub fn dual(&self) -> Result<Spec> {
        let none = |why: &str| EngineError::NoAdjoint {
            what: self.to_string(),
            why: why.to_owned(),
        };
        if !self.is_real() {
            return Err(none("derivatives exist for floating-point tensors only"));
        }
        let layout = match self.rows {
            Rows::Plain => self.layout.dual()?,
            Rows::Scaled => {
                let axes = self.layout.axes.iter().map(|p| match p {
                    Placement::Split { .. } | Placement::Shifted { .. } | Placement::At { .. } => {
                        Ok(*p)
                    }
                    Placement::Same => Ok(Placement::Partial(Monoid::LogSumExp)),
                    Placement::Partial(Monoid::LogSumExp) => Ok(Placement::Same),
                    _ => Err(none(
                        "scaled rows are split, the same, at one place, or Partial(LogSumExp)",
                    )),
                });
                Layout {
                    axes: axes.collect::<Result<Vec<_>>>()?,
                }
            }
        };
        Ok(self.with_layout(layout))
    }

    /// The relayout of this tensor to `layout`.
    ///
    /// # Errors
    /// [`EngineError::Layout`] if the tensor cannot have that layout.
    pub fn relayout(&self, mesh: &Mesh, layout: &Layout) -> Result<Relayout> {
        self.check(mesh)?;
        self.with_layout(layout.clone()).check(mesh)?;
        Relayout::plan(mesh, &self.shape, self.dtype, &self.layout, layout)
    }

    /// Extents of the piece on `worker`.
    pub fn local_shape(&self, mesh: &Mesh, worker: usize) -> Vec<usize> {
        self.layout.local_shape(mesh, &self.shape, worker)
    }

    /// Bytes of the piece on `worker`.
    pub fn bytes(&self, mesh: &Mesh, worker: usize) -> usize {
        self.layout.bytes(mesh, &self.shape, self.dtype, worker)
    }

    /// The zero of this tensor on `worker`: neutral when added.
    pub fn zero(&self, mesh: &Mesh, worker: usize, key: u64) -> Shard {
        let shape = self.local_shape(mesh, worker);
        let data = self.monoid().identity(self.dtype, &shape);
        Shard::new(key, shape, data)
    }

    /// Cuts a whole tensor into the pieces of all workers.
    ///
    /// # Errors
    /// [`EngineError::Tensor`] if `whole` has not the global shape and type.
    pub fn cut(&self, mesh: &Mesh, key: u64, whole: &Data) -> Result<Vec<Shard>> {
        if whole.len() != self.shape.iter().product::<usize>() || whole.dtype() != self.dtype {
            return Err(EngineError::Tensor {
                place: "cutting a whole tensor".to_owned(),
                expected: format!("{:?} of {:?}", self.shape, self.dtype),
                got: format!("{} elements of {:?}", whole.len(), whole.dtype()),
            });
        }
        let same = self.with_layout(Layout::same(mesh));
        let copies = vec![Shard::new(key, self.shape.clone(), whole.clone()); mesh.workers()];
        same.relayout(mesh, &self.layout)?.apply(&copies)
    }

    /// The whole tensor that the pieces of all workers stand for.
    ///
    /// # Errors
    /// [`EngineError::Tensor`] if a piece has not its local shape.
    pub fn join(&self, mesh: &Mesh, pieces: &[Shard]) -> Result<Data> {
        let whole = self.relayout(mesh, &Layout::same(mesh))?.apply(pieces)?;
        let first = whole.into_iter().next();
        Ok(first.map_or_else(|| Data::zeros(self.dtype, 0), Shard::into_data))
    }

    /// `sum + other`, element by element or scaled row by scaled row.
    pub(crate) fn add(&self, sum: Shard, other: Shard) -> Shard {
        if let (Rows::Plain, Some(sum)) = (self.rows, sum.plus(&other)) {
            return sum;
        }
        let (key, shape) = (sum.key, sum.shape.clone());
        // a + b is b + a to the bit: the sum takes the memory that nobody else reads
        let (sum, other) = match self.rows {
            Rows::Plain if sum.data().is_shared() && !other.data().is_shared() => (other, sum),
            _ => (sum, other),
        };
        let row = shape.last().copied().unwrap_or(1).max(1);
        let run = Run {
            a: 0,
            b: 0,
            len: sum.len(),
        };
        let mut data = sum.into_data();
        self.monoid().merge(&mut data, other.data(), run, row);
        Shard::new(key, shape, data)
    }

    fn monoid(&self) -> Monoid {
        match self.rows {
            Rows::Plain => Monoid::Sum,
            Rows::Scaled => Monoid::LogSumExp,
        }
    }

    /// An error unless `piece` has the local shape and the type of this tensor on `worker`.
    pub(crate) fn fits(
        &self,
        mesh: &Mesh,
        worker: usize,
        piece: &Shard,
        place: &str,
    ) -> Result<()> {
        let want = self.local_shape(mesh, worker);
        if piece.shape == want && piece.dtype() == self.dtype {
            return Ok(());
        }
        Err(EngineError::Tensor {
            place: format!("{place} on worker {worker}"),
            expected: format!("{want:?} of {:?} ({self})", self.dtype),
            got: format!("{:?} of {:?}", piece.shape, piece.dtype()),
        })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = if self.rows == Rows::Scaled {
            " scaled"
        } else {
            ""
        };
        write!(f, "{:?}{:?}{rows} {}", self.dtype, self.shape, self.layout)
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;

    use super::*;
    use crate::shard::Elsewhere;

    /// A sum takes the memory of the part that nobody else reads, whichever it is, and leaves the other as it was.
    #[test]
    fn sums_copy_nothing_that_is_their_own() {
        let spec = Spec::new([2], DType::F64, Layout::new([]));
        let read: Data = vec![1.0, 2.0].into();
        let place = |shard: &Shard| shard.data().as_bytes().as_ptr();
        for first in [true, false] {
            let [own, shared] = [Data::from(vec![0.5, -2.0]), read.clone()];
            let [own, shared] = [own, shared].map(|data| Shard::new(7, vec![2], data));
            let free = place(&own);
            let sum = match first {
                true => spec.add(own, shared),
                false => spec.add(shared, own),
            };
            assert_eq!((place(&sum), sum.key), (free, 7));
            assert_eq!(sum.data().get(), Some(&[1.5, 0.0][..]));
            assert_eq!(read.get(), Some(&[1.0, 2.0][..]));
        }
    }

    /// Numbers that are elsewhere.
    struct There(Vec<f64>);

    impl Elsewhere for There {
        fn bring(&self) -> Data {
            self.0.clone().into()
        }

        fn plus(&self, other: &dyn Any) -> Option<Box<dyn Elsewhere>> {
            let There(other) = other.downcast_ref()?;
            let sums = self.0.iter().zip(other).map(|(a, b)| a + b);
            Some(Box::new(There(sums.collect())))
        }
    }

    /// A sum of what is on one device is there, too; beside what is here, it is here.
    #[test]
    fn sums_on_a_device_stay_there() {
        let spec = Spec::new([2], DType::F64, Layout::new([]));
        let there = || Shard::away(7, vec![2], DType::F64, There(vec![0.5, -2.0]));
        let here = Shard::new(7, vec![2], vec![1.0, 2.0].into());
        let sum = spec.add(there(), there());
        assert!(sum.elsewhere::<There>().is_some());
        assert_eq!(sum.elements::<f64>(), [1.0, -4.0]);
        let sum = spec.add(there(), here);
        assert!(sum.elsewhere::<There>().is_none());
        assert_eq!(sum.elements::<f64>(), [1.5, 0.0]);
    }
}
