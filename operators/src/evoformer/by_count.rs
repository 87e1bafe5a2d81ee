//! Vectors that are kept where something is there, and means of those that are there:
//!
//! $$ y_{pm} = [n_p \ne 0]\, x_{pm} \quad \mathrm{or} \quad y_{pm} = [n_p \ne 0]\, \frac{S}{n_p} x_{pm}, \qquad
//!    \bar x = \lambda \bar y $$
//!
//! with the same λ. The second makes of a mean over S terms, of which others than $n_p$ are 0, the mean over these.
//!
//! | x | n | y |
//! |---|---|---|
//! | cut by a dimension of p | cut alike | cut alike |
//! | cut by m (the last) | Same | cut alike |

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{DType, Mesh, Operator, Placement, Result, Shard, Spec};

use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

const NAME: &str = "ByCount";

/// x `[…, m]` and n `[…]` (`I64`) to y like x; `f32` or `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByCount {
    /// S, if y are means.
    over: Option<usize>,
}

impl ByCount {
    /// x where n is not 0.
    pub const KEPT: Self = ByCount { over: None };

    /// The means over n terms, of x that are means over all of `terms`.
    pub const fn mean(terms: usize) -> Self {
        ByCount { over: Some(terms) }
    }
}

impl Operator for ByCount {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, n] = inputs else {
            return refuse(NAME, format!("it takes 2 inputs, not {}", inputs.len()));
        };
        reals(NAME, &inputs[..1], &[1])?;
        let last = x.shape.len().saturating_sub(1);
        if n.dtype != DType::I64 || x.shape.is_empty() || n.shape != x.shape[..last] {
            return refuse(NAME, format!("{n} is not one I64 for each vector of {x}"));
        }
        let mend = "cut both alike, and n not where x is cut in its last dimension";
        let layout = layout(NAME, inputs, mend, |on| match (on[0], on[1]) {
            (Placement::Same, Placement::Same) => Some(on[0]),
            (Placement::Split { dim }, Placement::Same) if dim == last => Some(on[0]),
            (Placement::Split { dim }, n) if dim < last && n == on[0] => Some(n),
            _ => None,
        })?;
        Ok(vec![x.with_layout(layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        Ok((
            vec![self.times(site, &inputs[0], &inputs[1])?],
            Saved::nothing(),
        ))
    }

    fn keeps(&self) -> &[usize] {
        &[1]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![self.times(
            site,
            &tangents[0],
            saved.input(site, 1)?,
        )?])
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let to_x = self.times(site, &cotangents[0], saved.input(site, 1)?)?;
        Ok(vec![Some(to_x), None])
    }

    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
}

impl ByCount {
    fn times(self, site: &Site, x: &Shard, n: &Shard) -> Result<Shard> {
        let width = x.shape.last().copied().unwrap_or(1).max(1);
        with_real!(site, x.dtype(), T => {
            let mut y = buffer(x.len());
            let vectors = x.elements::<T>().chunks_exact(width).zip(n.elements::<i64>());
            for (y, (x, &n)) in y.chunks_exact_mut(width).zip(vectors) {
                match (n, self.over) {
                    (0, _) => y.fill(T::of(0.0)),
                    (_, None) => y.copy_from_slice(x),
                    (n, Some(terms)) => {
                        let by = T::of(terms as f64 / n as f64);
                        y.iter_mut().zip(x).for_each(|(y, &x)| *y = by * x);
                    }
                }
            }
            Ok(Shard::new(site.key(), x.shape.clone(), T::data(y)))
        })
    }
}
