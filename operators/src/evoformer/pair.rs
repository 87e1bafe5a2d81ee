//! First pairs of positions, from what is at each of them and from how far they are apart:
//!
//! $$ z_{ij} = l_i + r_j + E_{\mathrm{clip}(i - j)}, \qquad
//!    \bar l_i = \sum_j \bar z_{ij}, \quad \bar r_j = \sum_i \bar z_{ij}, \quad
//!    \bar E_\delta = \sum_{\mathrm{clip}(i - j) = \delta} \bar z_{ij} . $$
//!
//! Differences beyond a greatest one count as that. Source: Jumper et al. (2021), supplement 1.5, algorithms 3 and 4.
//!
//! | l | r | E | z |
//! |---|---|---|---|
//! | cut by batch (0) | cut alike | Same | cut alike |
//! | cut by i (1) | Same | Same | cut by i (1) |
//! | Same | cut by j (1) | Same | cut by j (2) |
//! | cut by channel (2) | cut alike | cut alike (1) | cut alike (3) |

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Operator, Placement, Result, Shard, Spec};

use crate::kernels::add_to_rows;
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

const NAME: &str = "PairEmbedding";

/// l `[b, i, m]`, r `[b, j, m]` and E `[2 greatest + 1, m]` to `[b, i, j, m]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct PairEmbedding {
    /// The greatest difference that is told from others.
    pub greatest: usize,
}

impl Operator for PairEmbedding {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let dtype = reals(NAME, inputs, &[3, 3, 2])?;
        let shapes = [0, 1, 2].map(|i| inputs[i].shape.as_slice());
        let [&[b, i, m], &[batch, j, right], &[rows, width]] = shapes else {
            return refuse(NAME, "l is [b, i, m], r is [b, j, m] and E is [rows, m]");
        };
        let want = 2 * self.greatest + 1;
        if (b, m, m, rows) != (batch, right, width, want) {
            let [l, r, table] = [0, 1, 2].map(|i| &inputs[i]);
            let why = format!("{l}, {r} and {table} do not match; E has {want} rows");
            return refuse(NAME, why);
        }
        let mend = "cut l and r by batch (0), one of them by positions (1), or all by channels";
        let layout = layout(NAME, inputs, mend, |on| {
            use Placement::{Same, Split};
            match (on[0], on[1], on[2]) {
                (Same, Same, Same) => Some(Same),
                (Split { dim: 0 }, Split { dim: 0 }, Same) => Some(Split { dim: 0 }),
                (Split { dim: 1 }, Same, Same) => Some(Split { dim: 1 }),
                (Same, Split { dim: 1 }, Same) => Some(Split { dim: 2 }),
                (Split { dim: 2 }, Split { dim: 2 }, Split { dim: 1 }) => Some(Split { dim: 3 }),
                _ => None,
            }
        })?;
        Ok(vec![Spec::new([b, i, j, m], dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            Ok((vec![self.pairs::<T>(site, inputs)], Saved::nothing()))
        })
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        with_real!(site, tangents[0].dtype(), T => Ok(vec![self.pairs::<T>(site, tangents)]))
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let shapes = [0, 1, 2].map(|i| site.input_shape(i));
        with_real!(site, cotangents[0].dtype(), T => {
            let mut sums = shapes.clone().map(|shape| vec![T::of(0.0); shape.iter().product()]);
            let (m, rows) = (shapes[0][2], self.rows(site));
            let given = cotangents[0].elements::<T>().chunks_exact(m.max(1));
            for (given, [i, j, row]) in given.zip(rows) {
                for (sums, at) in sums.iter_mut().zip([i, j, row]) {
                    add_to(&mut sums[at * m..][..m], given);
                }
            }
            let shards = sums.into_iter().zip(shapes);
            Ok(shards.map(|(sums, shape)| Some(Shard::new(site.key(), shape, sums.into()))).collect())
        })
    }
}

fn add_to<T: Real>(sums: &mut [T], terms: &[T]) {
    sums.iter_mut()
        .zip(terms)
        .for_each(|(sum, &term)| *sum += term);
}

impl PairEmbedding {
    /// For every local pair, in their order, which local rows of l, r and E it is made of.
    fn rows(self, site: &Site) -> impl Iterator<Item = [usize; 3]> {
        let (left, right) = (site.input_indices(0), site.input_indices(1));
        let (batch, greatest) = (left[0].len(), self.greatest);
        (0..batch).flat_map(move |b| {
            let (left, right) = (left[1].clone(), right[1].clone());
            let (n, t) = (left.len(), right.len());
            let pairs = left.into_iter().enumerate().flat_map(move |(i, at)| {
                let right = right.clone().into_iter().enumerate();
                right.map(move |(j, from)| (i, j, at, from))
            });
            pairs.map(move |(i, j, at, from)| {
                let row = (at + greatest).saturating_sub(from).min(2 * greatest);
                [b * n + i, b * t + j, row]
            })
        })
    }

    fn pairs<T: Real>(self, site: &Site, inputs: &[Shard]) -> Shard {
        let m = inputs[0].shape[2];
        let shape = site.output_shape(0);
        let mut z = buffer(shape.iter().product());
        let [l, r, table] = [0, 1, 2].map(|i| inputs[i].elements::<T>());
        for (z, [i, j, row]) in z.chunks_exact_mut(m.max(1)).zip(self.rows(site)) {
            z.copy_from_slice(&l[i * m..][..m]);
            add_to_rows(z, &r[j * m..][..m]);
            add_to_rows(z, &table[row * m..][..m]);
        }
        Shard::new(site.key(), shape, T::data(z))
    }
}
