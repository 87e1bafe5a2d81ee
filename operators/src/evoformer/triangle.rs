//! Products of pairs over the third node of a triangle, channel by channel:
//!
//! $$ x_{ij} = \sum_k a_{ik} \odot b_{jk} \quad \text{(outgoing edges)}, \qquad
//!    x_{ij} = \sum_k a_{ki} \odot b_{kj} \quad \text{(incoming edges)}. $$
//!
//! What the triangle multiplicative updates of an Evoformer have between their linear maps (Jumper et al. 2021,
//! supplement 1.6.5, algorithms 11 and 12). For outgoing edges, $\bar a = \bar x\, b$ and
//! $\bar b = \bar x^\top a$ as matrices of one channel; for incoming edges $\bar a = b\, \bar x^\top$ and
//! $\bar b = a\, \bar x$.
//!
//! | a | b | x | |
//! |---|---|---|---|
//! | cut by batch (0) | cut alike | cut alike | |
//! | cut by channel (3) | cut alike | cut alike | |
//! | cut by i | Same | cut by i (1) | rows of pairs cut, the others gathered |
//! | Same | cut by j | cut by j (2) | |
//! | cut by k | cut by k | Partial(Sum) | |

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};
use faer::{Accum, MatMut, MatRef};

use crate::kernels::each;
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

const NAME: &str = "TriangleProduct";
/// Channels that are taken at once: half a line of a cache.
const CHANNELS: usize = 8;

/// Which edges of a triangle a node's pairs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edges {
    /// From i and j to k.
    Outgoing,
    /// From k to i and j.
    Incoming,
}

/// a and b, `[b, i, k, c]` and `[b, j, k, c]` for outgoing edges, `[b, k, i, c]` and `[b, k, j, c]` for incoming
/// ones, to `[b, i, j, c]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct TriangleProduct(pub Edges);

impl TriangleProduct {
    /// The dimensions of i (or j) and of k.
    fn dimensions(self) -> (usize, usize) {
        match self.0 {
            Edges::Outgoing => (1, 2),
            Edges::Incoming => (2, 1),
        }
    }
}

impl Operator for TriangleProduct {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let dtype = reals(NAME, inputs, &[4, 4])?;
        let (a, b) = (&inputs[0], &inputs[1]);
        let (node, third) = self.dimensions();
        let alike = [0, third, 3]
            .iter()
            .all(|&dim| a.shape[dim] == b.shape[dim]);
        if a.shape.len() != 4 || b.shape.len() != 4 || !alike {
            let why = format!(
                "{a} and {b} are not pairs [b, i, j, c] with the same batch, dimension {third} and channels"
            );
            return refuse(NAME, why);
        }
        let split = |dim| Placement::Split { dim };
        let mend = format!(
            "cut both by batch (0), channel (3) or the third node ({third}), or one by its own node ({node}) beside \
             one that is Same"
        );
        let layout = layout(NAME, inputs, &mend, |on| match (on[0], on[1]) {
            (Placement::Same, Placement::Same) => Some(Placement::Same),
            (Placement::Split { dim: dim @ (0 | 3) }, other) => {
                (other == on[0]).then_some(split(dim))
            }
            (Placement::Split { dim }, Placement::Same) if dim == node => Some(split(1)),
            (Placement::Same, Placement::Split { dim }) if dim == node => Some(split(2)),
            (Placement::Split { dim }, other) if dim == third && other == on[0] => {
                Some(Placement::Partial(Monoid::Sum))
            }
            _ => None,
        })?;
        let shape = [a.shape[0], a.shape[node], b.shape[node], a.shape[3]];
        Ok(vec![Spec::new(shape, dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let x = self.product::<T>(&inputs[0], &inputs[1]);
            let x = Shard::new(site.key(), site.output_shape(0), x.into());
            Ok((vec![x], Saved::nothing()))
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1]
    }

    fn separable(&self) -> bool {
        true
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let (a, b) = (saved.input(site, 0)?, saved.input(site, 1)?);
        with_real!(site, a.dtype(), T => {
            let mut dx = self.product::<T>(&tangents[0], b);
            let by_b = self.product::<T>(a, &tangents[1]);
            dx.iter_mut().zip(by_b).for_each(|(dx, by_b): (&mut T, T)| *dx += by_b);
            Ok(vec![Shard::new(site.key(), site.output_shape(0), dx.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let (a, b, x) = (saved.input(site, 0)?, saved.input(site, 1)?, &cotangents[0]);
        with_real!(site, a.dtype(), T => {
            let shard = |i: usize, found: Vec<T>| Shard::new(site.key(), site.input_shape(i), found.into());
            let outgoing = self.0 == Edges::Outgoing;
            let to_a = || match outgoing {
                true => channels::<T>([x, b], site.input_shape(0), |x, b| (x, b)),
                false => channels::<T>([b, x], site.input_shape(0), |b, x| (b, x.transpose())),
            };
            let to_b = || match outgoing {
                true => channels::<T>([x, a], site.input_shape(1), |x, a| (x.transpose(), a)),
                false => channels::<T>([a, x], site.input_shape(1), |a, x| (a, x)),
            };
            Ok(vec![
                wanted[0].then(|| shard(0, to_a())),
                wanted[1].then(|| shard(1, to_b())),
            ])
        })
    }
}

impl TriangleProduct {
    fn product<T: Real>(self, a: &Shard, b: &Shard) -> Vec<T> {
        let (node, _) = self.dimensions();
        let shape = vec![a.shape[0], a.shape[node], b.shape[node], a.shape[3]];
        match self.0 {
            Edges::Outgoing => channels([a, b], shape, |a, b| (a, b.transpose())),
            Edges::Incoming => channels([a, b], shape, |a, b| (a.transpose(), b)),
        }
    }
}

/// Two matrices of one channel.
type Both<'a, T> = (MatRef<'a, T>, MatRef<'a, T>);

/// The product of the matrices that `factors` makes of those of one channel, for every channel.
fn channels<T: Real>(
    of: [&Shard; 2],
    shape: Vec<usize>,
    factors: impl for<'a> Fn(MatRef<'a, T>, MatRef<'a, T>) -> Both<'a, T> + Sync,
) -> Vec<T> {
    let &[batch, rows, columns, width] = shape.as_slice() else {
        return Vec::new();
    };
    let mut to = buffer(batch * rows * columns * width);
    let mut tasks = Vec::new();
    for (b, to) in to.chunks_mut((rows * columns * width).max(1)).enumerate() {
        let mut rest = MatMut::from_row_major_slice_mut(to, rows * columns, width);
        for first in (0..width).step_by(CHANNELS) {
            let (block, more) = rest.split_at_col_mut(CHANNELS.min(width - first));
            tasks.push((b, first, block));
            rest = more;
        }
    }
    each(
        tasks,
        |(b, first, mut to): (usize, usize, MatMut<'_, T>)| {
            let count = to.ncols();
            let [x, y] = of.map(|of| planes::<T>(of, b, first, count));
            let mut made = vec![T::of(0.0); count * rows * columns];
            for c in 0..count {
                let [x, y] = [(of[0], &x), (of[1], &y)].map(|(of, planes)| {
                    let (m, n) = (of.shape[1], of.shape[2]);
                    MatRef::from_row_major_slice(&planes[c * m * n..][..m * n], m, n)
                });
                let (x, y) = factors(x, y);
                let made = &mut made[c * rows * columns..][..rows * columns];
                let made = MatMut::from_row_major_slice_mut(made, rows, columns);
                T::multiply(made, Accum::Replace, x, y, T::of(1.0));
            }
            for at in 0..rows * columns {
                if let Some(to) = to.as_mut().row_mut(at).try_as_row_major_mut() {
                    for (c, to) in to.as_slice_mut().iter_mut().enumerate() {
                        *to = made[c * rows * columns + at];
                    }
                }
            }
        },
    );
    to
}

/// Some channels of a batch of pairs, each a matrix.
fn planes<T: Real>(of: &Shard, b: usize, first: usize, count: usize) -> Vec<T> {
    let (pairs, width) = (of.shape[1] * of.shape[2], of.shape[3]);
    let of = &of.elements::<T>()[b * pairs * width..][..pairs * width];
    let mut planes = vec![T::of(0.0); count * pairs];
    for (at, row) in of.chunks_exact(width.max(1)).enumerate() {
        for (c, &x) in row[first..first + count].iter().enumerate() {
            planes[c * pairs + at] = x;
        }
    }
    planes
}
