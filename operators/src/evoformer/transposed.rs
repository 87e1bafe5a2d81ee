//! Pairs made symmetric: $y_{ij} = a_{ij} + b_{ji}$, $\bar a = \bar y$, $\bar b = \bar y^\top$.
//!
//! Given one tensor twice, the second time cut by columns where it is cut by rows, it is what a head has that does
//! not know an order of the two positions (Jumper et al. 2021, supplement 1.9.8).
//!
//! | a | b | y |
//! |---|---|---|
//! | cut by i (1) | cut by j (2) | as a |
//! | cut by j (2) | cut by i (1) | as a |
//! | cut elsewhere, Partial(Sum) or Same | alike | as a |

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

const NAME: &str = "AddTransposed";

/// a `[b, i, j, m]` and b `[b, j, i, m]` to `[b, i, j, m]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct AddTransposed;

impl Operator for AddTransposed {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        reals(NAME, inputs, &[4, 4])?;
        let (a, b) = (&inputs[0], &inputs[1]);
        let fits = match (a.shape.as_slice(), b.shape.as_slice()) {
            (&[b, i, j, m], other) => other == [b, j, i, m],
            _ => false,
        };
        if !fits {
            return refuse(NAME, format!("{b} is not {a} with its pairs transposed"));
        }
        let mend = "cut b by the other of the two positions, and alike elsewhere";
        let layout = layout(NAME, inputs, mend, |on| {
            let want = match on[0] {
                Placement::Split { dim: 1 } => Placement::Split { dim: 2 },
                Placement::Split { dim: 2 } => Placement::Split { dim: 1 },
                p @ (Placement::Same | Placement::Split { .. }) => p,
                p @ Placement::Partial(Monoid::Sum) => p,
                _ => return None,
            };
            (on[1] == want).then_some(on[0])
        })?;
        Ok(vec![a.with_layout(layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        Ok((vec![sum(site, inputs)?], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![sum(site, tangents)?])
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let given = &cotangents[0];
        let to_b = with_real!(site, given.dtype(), T => {
            let mut to_b = buffer(given.len());
            each_transposed(given.elements::<T>(), &given.shape, &mut to_b, |to, x| *to = x);
            Ok(Shard::new(site.key(), site.input_shape(1), T::data(to_b)))
        })?;
        Ok(vec![wanted[0].then(|| given.clone()), Some(to_b)])
    }
}

fn sum(site: &Site, inputs: &[Shard]) -> Result<Shard> {
    with_real!(site, inputs[0].dtype(), T => {
        let mut y = inputs[0].elements::<T>().to_vec();
        let b = &inputs[1];
        // elements, not terms of a sum: `+=` would bring them to a grid
        each_transposed(b.elements::<T>(), &b.shape, &mut y, |y, b| {
            let sum = *y + b;
            *y = sum;
        });
        Ok(Shard::new(site.key(), inputs[0].shape.clone(), T::data(y)))
    })
}

/// Does something to every number and the one at the transposed pair of `[b, i, j, m]`.
fn each_transposed<T: Real>(of: &[T], shape: &[usize], to: &mut [T], work: impl Fn(&mut T, T)) {
    let [_, i, j, m] = [0, 1, 2, 3].map(|dim| shape.get(dim).copied().unwrap_or(0));
    for (at, of) in of.chunks_exact(m.max(1)).enumerate() {
        let (b, x, y) = (at / (i * j), at / j % i, at % j);
        let to = &mut to[((b * j + y) * i + x) * m..][..m];
        to.iter_mut().zip(of).for_each(|(to, &of)| work(to, of));
    }
}
