//! Layouts: where the pieces of a logical tensor live, one placement per mesh axis.

use std::fmt;
use std::ops::Range;

use crate::error::{EngineError, Result};
use crate::mesh::{Deal, Mesh};
use crate::partial::Monoid;
use crate::shard::DType;

/// What happens to a halo beyond the end of its dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edge {
    /// The halo ends with the dimension.
    Clamped,
    /// The dimension closes on itself, as longitude does.
    Periodic,
}

/// What the overlapping elements of neighbouring halos mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overlap {
    /// Every copy is the value.
    Copies,
    /// The value is the sum of the copies: the cotangent of [`Overlap::Copies`].
    Sums,
}

/// Where a tensor lives along one mesh axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Pieces of dimension `dim`, as the axis deals them out ([`Deal`]); some may be empty.
    Split {
        /// The dimension.
        dim: usize,
    },
    /// Pieces as in `Split`, each `by` places further down: place i has piece i + by, around the end. So a
    /// piece visits all places in turn: ring attention.
    Shifted {
        /// The dimension.
        dim: usize,
        /// Places, fewer than the axis has.
        by: usize,
    },
    /// Pieces as in `Split`, each with `width` more elements on both sides.
    Halo {
        /// The dimension.
        dim: usize,
        /// Elements beyond each end of the owned piece.
        width: usize,
        /// What happens at the ends of the dimension.
        edge: Edge,
        /// What the overlap means.
        overlap: Overlap,
    },
    /// The whole tensor on every worker, bit for bit the same.
    Same,
    /// Contributions that merge to the value.
    Partial(Monoid),
    /// The whole tensor at one place of the axis, and nothing of it elsewhere: a pipeline stage.
    At {
        /// The place.
        at: usize,
    },
}

impl Placement {
    /// The placement of the cotangent: Split, Shifted and At stay, Same ↔ Partial(+), halo copies ↔ halo
    /// sums.
    pub fn dual(self) -> Result<Self> {
        match self {
            Placement::Split { .. } | Placement::Shifted { .. } | Placement::At { .. } => Ok(self),
            Placement::Same => Ok(Placement::Partial(Monoid::Sum)),
            Placement::Partial(Monoid::Sum) => Ok(Placement::Same),
            Placement::Partial(monoid) => Err(EngineError::NoAdjoint {
                what: format!("Partial({monoid:?})"),
                why: "merging it is not linear; finish it in an operator that has an adjoint"
                    .to_owned(),
            }),
            Placement::Halo {
                dim,
                width,
                edge,
                overlap,
            } => {
                let overlap = match overlap {
                    Overlap::Copies => Overlap::Sums,
                    Overlap::Sums => Overlap::Copies,
                };
                Ok(Placement::Halo {
                    dim,
                    width,
                    edge,
                    overlap,
                })
            }
        }
    }

    /// The dimension that is cut, if one is.
    pub fn dim(self) -> Option<usize> {
        match self {
            Placement::Split { dim }
            | Placement::Shifted { dim, .. }
            | Placement::Halo { dim, .. } => Some(dim),
            Placement::Same | Placement::Partial(_) | Placement::At { .. } => None,
        }
    }

    /// Whether nothing of the tensor is at place `here` of the axis.
    pub(crate) fn absent(self, here: usize) -> bool {
        matches!(self, Placement::At { at } if at != here)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Placement::Split { dim } => write!(f, "Split({dim})"),
            Placement::Shifted { dim, by } => write!(f, "Split({dim}, shifted {by})"),
            Placement::Halo {
                dim,
                width,
                overlap: Overlap::Copies,
                ..
            } => {
                write!(f, "Split({dim}, halo {width})")
            }
            Placement::Halo { dim, width, .. } => write!(f, "Split({dim}, halo sum {width})"),
            Placement::Same => write!(f, "Same"),
            Placement::Partial(m) => write!(f, "Partial({m:?})"),
            Placement::At { at } => write!(f, "At({at})"),
        }
    }
}

/// One placement per mesh axis, outermost axis first.
///
/// When two axes cut the same dimension, the outer axis cuts first and the inner one cuts its pieces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Placement on each mesh axis.
    pub axes: Vec<Placement>,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.axes.iter().map(Placement::to_string).collect();
        write!(f, "[{}]", names.join(", "))
    }
}

/// A run of elements of one dimension: `len` of them from `global` on, kept from `local` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) global: usize,
    pub(crate) local: usize,
    pub(crate) len: usize,
}

/// What one worker holds of one dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    /// All that is held, halos included, in local order.
    pub(crate) held: Vec<Segment>,
    /// The part that this worker owns: each element is owned once along the axes that cut.
    pub(crate) owned: Vec<Segment>,
}

impl Extent {
    /// Runs that are held one after the other.
    fn of(runs: Vec<Range<usize>>) -> Self {
        let mut local = 0;
        let segment = |run: Range<usize>| {
            let (global, len) = (run.start, run.len());
            local += len;
            Segment {
                global,
                local: local - len,
                len,
            }
        };
        let held: Vec<Segment> = runs.into_iter().map(segment).collect();
        Extent {
            owned: held.clone(),
            held,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.held.iter().map(|s| s.len).sum()
    }
}

impl Layout {
    /// A layout with the given placements.
    pub fn new(axes: impl Into<Vec<Placement>>) -> Self {
        Layout { axes: axes.into() }
    }

    /// Every worker holds everything.
    pub fn same(mesh: &Mesh) -> Self {
        Layout {
            axes: vec![Placement::Same; mesh.rank()],
        }
    }

    /// The layout of the cotangent.
    pub fn dual(&self) -> Result<Self> {
        let axes = self
            .axes
            .iter()
            .map(|p| p.dual())
            .collect::<Result<Vec<_>>>()?;
        Ok(Layout { axes })
    }

    /// Extents of the piece on `worker`.
    pub fn local_shape(&self, mesh: &Mesh, shape: &[usize], worker: usize) -> Vec<usize> {
        self.extents(mesh, shape, worker)
            .iter()
            .map(Extent::len)
            .collect()
    }

    /// Global index ranges that `worker` owns in each dimension (halos excluded), ascending and apart: one
    /// at most, where the axes that cut it deal out blocks.
    pub fn owned(&self, mesh: &Mesh, shape: &[usize], worker: usize) -> Vec<Vec<Range<usize>>> {
        let extents = self.extents(mesh, shape, worker);
        let ranges = |e: &Extent| {
            let runs = e.owned.iter().map(|s| s.global..s.global + s.len);
            runs.collect()
        };
        extents.iter().map(ranges).collect()
    }

    /// Global index of each local index, per dimension (halos included).
    pub fn indices(&self, mesh: &Mesh, shape: &[usize], worker: usize) -> Vec<Vec<usize>> {
        let extents = self.extents(mesh, shape, worker);
        extents
            .iter()
            .map(|e| {
                e.held
                    .iter()
                    .flat_map(|s| s.global..s.global + s.len)
                    .collect()
            })
            .collect()
    }

    /// Bytes that `worker` holds.
    pub fn bytes(&self, mesh: &Mesh, shape: &[usize], dtype: DType, worker: usize) -> usize {
        self.local_shape(mesh, shape, worker)
            .iter()
            .product::<usize>()
            * dtype.size()
    }

    /// Whether `worker` has nothing of any tensor in this layout.
    pub(crate) fn absent(&self, mesh: &Mesh, worker: usize) -> bool {
        let mut places = self.axes.iter().zip(mesh.coordinates(worker));
        places.any(|(p, here)| p.absent(here))
    }

    /// Whether the piece of `worker` counts where each is to count once: of equal copies the first does.
    pub fn counts(&self, mesh: &Mesh, worker: usize) -> bool {
        let mut places = self.axes.iter().zip(mesh.coordinates(worker));
        places.all(|(p, here)| *p != Placement::Same || here == 0)
    }

    /// The monoid of the partial axes, if there is one.
    pub(crate) fn monoid(&self) -> Option<Monoid> {
        self.axes.iter().find_map(|p| match p {
            Placement::Partial(m) => Some(*m),
            _ => None,
        })
    }

    pub(crate) fn extents(&self, mesh: &Mesh, shape: &[usize], worker: usize) -> Vec<Extent> {
        let at = mesh.coordinates(worker);
        let absent = self.absent(mesh, worker);
        let dims = shape.iter().enumerate();
        dims.map(|(dim, &n)| {
            // what is not here is empty in its first dimension
            let n_here = if absent && dim == 0 { 0 } else { n };
            let mut owned: Vec<Range<usize>> = std::iter::once(0..n_here).collect();
            let mut halo = None;
            for (a, p) in self
                .axes
                .iter()
                .enumerate()
                .filter(|(_, p)| p.dim() == Some(dim))
            {
                let places = mesh.sizes()[a];
                let mut place = at[a];
                match p {
                    Placement::Halo { width, edge, .. } => halo = Some((*width, *edge)),
                    Placement::Shifted { by, .. } => place = (place + by) % places,
                    _ => {}
                }
                owned = mesh.deals()[a].cut(&owned, place, places);
            }
            match (halo, owned.as_slice()) {
                (Some((width, edge)), [only]) => widened(n, only.clone(), width, edge),
                _ => Extent::of(owned),
            }
        })
        .collect()
    }

    /// Whether tensors of this shape and type can have this layout on this mesh.
    ///
    /// # Errors
    /// If the number of placements is not the number of axes, a dimension or a place does not exist,
    /// two halos meet in one dimension, a halo is in one that is not dealt out in blocks, a piece is shifted
    /// once around or more, two monoids meet, a number without dimensions would be at one
    /// place, or rows of (m, ℓ, o) would be cut.
    pub fn check(&self, mesh: &Mesh, shape: &[usize], dtype: DType) -> Result<()> {
        let fail = |why: String| {
            Err(EngineError::Layout {
                layout: self.to_string(),
                why,
            })
        };
        if self.axes.len() != mesh.rank() {
            return fail(format!(
                "it has {} placements and the mesh {} axes; give one per axis",
                self.axes.len(),
                mesh.rank()
            ));
        }
        let mut halos = vec![0; shape.len()];
        let axes = self.axes.iter().zip(mesh.sizes()).zip(mesh.deals());
        for ((p, &places), _) in axes.clone() {
            match p {
                Placement::Shifted { by, .. } if *by >= places => {
                    return fail(format!("shifted by {by} on an axis of {places} places"));
                }
                Placement::At { at } if *at >= places => {
                    return fail(format!("place {at} of an axis that has {places}"));
                }
                Placement::At { .. } if shape.is_empty() => {
                    return fail("a single number cannot be absent elsewhere; use Partial".into());
                }
                _ => {}
            }
            if let Some(dim) = p.dim().filter(|&d| d >= shape.len()) {
                return fail(format!("dimension {dim} of a tensor of shape {shape:?}"));
            }
            if let Placement::Halo { dim, .. } = p {
                let mut cuts = axes.clone().filter(|((q, _), _)| q.dim() == Some(*dim));
                if cuts.any(|(_, deal)| *deal != Deal::Blocks) {
                    return fail(format!(
                        "a halo in dimension {dim}, which is not dealt out in blocks; relayout it first"
                    ));
                }
                halos[*dim] += 1;
                if halos[*dim] > 1 {
                    return fail(format!("two halos in dimension {dim}; keep one"));
                }
            }
            if let Placement::Partial(m) = p {
                if self.monoid() != Some(*m) {
                    return fail("two monoids in one layout; relayout one of them first".into());
                }
                m.accepts(dtype, shape).or_else(fail)?;
            }
        }
        let cuts_rows = self
            .axes
            .iter()
            .any(|p| p.dim() == Some(shape.len().wrapping_sub(1)));
        if self.monoid() == Some(Monoid::LogSumExp) && cuts_rows {
            return fail("(m, l, o) rows cannot be cut; split another dimension".into());
        }
        Ok(())
    }
}

/// The piece `owned` of a dimension of `n`, widened by a halo.
fn widened(n: usize, owned: Range<usize>, width: usize, edge: Edge) -> Extent {
    match edge {
        Edge::Clamped => {
            let start = owned.start.saturating_sub(width);
            let end = (owned.end + width).min(n);
            let all = Segment {
                global: start,
                local: 0,
                len: end - start,
            };
            let mine = Segment {
                global: owned.start,
                local: owned.start - start,
                len: owned.len(),
            };
            Extent {
                held: vec![all],
                owned: vec![mine],
            }
        }
        Edge::Periodic => {
            let mut held: Vec<Segment> = Vec::new();
            let total = owned.len() + 2 * width;
            // first element held, as a residue; width may exceed n
            let mut global = (owned.start + n - width % n) % n;
            let mut local = 0;
            while local < total {
                let len = (n - global).min(total - local);
                held.push(Segment { global, local, len });
                local += len;
                global = 0;
            }
            let mine = Segment {
                global: owned.start,
                local: width,
                len: owned.len(),
            };
            Extent {
                held,
                owned: vec![mine],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A periodic halo of any width holds the right elements in the right order.
    #[test]
    fn periodic_halo_wraps() {
        for width in 0..12 {
            let e = widened(5, 3..5, width, Edge::Periodic);
            let mut got = Vec::new();
            for s in &e.held {
                assert_eq!(s.local, got.len());
                got.extend(s.global..s.global + s.len);
            }
            let want: Vec<usize> = (0..2 + 2 * width)
                .map(|k| (3i64 + k as i64 - width as i64).rem_euclid(5) as usize)
                .collect();
            assert_eq!(got, want, "width {width}");
        }
    }
}
