//! Rotary embedding of positions: pairs of columns of queries and keys are turned by angles that grow with
//! the position.
//!
//! $$ \begin{pmatrix} y_i \\ y_{i + d/2} \end{pmatrix} = \begin{pmatrix} \cos p\,\theta_i & -\sin p\,\theta_i \\
//!    \sin p\,\theta_i & \cos p\,\theta_i \end{pmatrix} \begin{pmatrix} x_i \\ x_{i + d/2} \end{pmatrix},
//!    \quad \theta_i = \beta^{-2 i / d}, \quad 0 \le i < d/2, $$
//!
//! with the global position p, wherever positions and heads are cut. The transposed map turns back. Source:
//! Su et al. (2021), *RoFormer*.

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::kernels::{each, wide};
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// Queries `[b, n, …, d]`, or keys with values `[b, t, 2, …, d]` of which the keys are turned; d is even;
/// `f32` or `f64`, cut anywhere before d (keys are not cut from values), sums too.
#[derive(Debug, Clone, Copy)]
pub struct Rotary {
    /// β, 10,000 in the source.
    pub base: f64,
    /// Whether values stand beside the keys, and stay as they are.
    pub with_values: bool,
}

impl Operator for Rotary {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Rotary";
        let ranks = [3 + usize::from(self.with_values)];
        let dtype = reals(NAME, inputs, &ranks)?;
        let x = &inputs[0];
        let last = x.shape.len() - 1;
        if !x.shape[last].is_multiple_of(2) {
            return refuse(
                NAME,
                format!("the last extent of {x} is odd: it has no pairs"),
            );
        }
        if self.with_values && x.shape[2] != 2 {
            return refuse(NAME, format!("{x} is not [b, t, 2, …, d]: keys and values"));
        }
        let mend = "gather the last dimension first, and keep keys beside their values";
        let layout = layout(NAME, inputs, mend, |on| match on[0] {
            Placement::Same | Placement::Partial(Monoid::Sum) => Some(on[0]),
            Placement::Split { dim } if dim < last && !(self.with_values && dim == 2) => {
                Some(on[0])
            }
            _ => None,
        })?;
        Ok(vec![Spec::new(x.shape.clone(), dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        Ok((vec![self.turned(site, &inputs[0], 1.0)?], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![self.turned(site, &tangents[0], 1.0)?])
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        Ok(vec![Some(self.turned(site, &cotangents[0], -1.0)?)])
    }
}

impl Rotary {
    /// Forward by `direction` 1, back by −1.
    fn turned(&self, site: &Site, x: &Shard, direction: f64) -> Result<Shard> {
        with_real!(site, x.dtype(), T => {
            let positions = site.input_indices(0).swap_remove(1);
            let d = x.shape.last().copied().unwrap_or(0);
            let angles = |i: usize| self.base.powf(-2.0 * i as f64 / d as f64);
            let angles: Vec<f64> = (0..d / 2).map(angles).collect();
            let turns: Vec<T> = (positions.iter())
                .flat_map(|&p| {
                    let of = move |angle: &f64| p as f64 * angle;
                    let cosines = angles.iter().map(move |a| T::of(of(a).cos()));
                    cosines.chain(angles.iter().map(move |a| T::of(direction * of(a).sin())))
                })
                .collect();
            let row = x.shape[2..].iter().product::<usize>();
            let keys = if self.with_values { row / 2 } else { row };
            let mut y = buffer(x.len());
            // the positions of a sample are a task
            let sample = (row * positions.len()).max(1);
            let tasks = x.elements::<T>().chunks(sample).zip(y.chunks_mut(sample));
            each(tasks.collect(), |(x, y)| {
                let rows = x.chunks_exact(row.max(1)).zip(y.chunks_exact_mut(row.max(1)));
                for ((x, y), turn) in rows.zip(turns.chunks_exact(d.max(1))) {
                    rotate(&x[..keys], turn, &mut y[..keys]);
                    y[keys..].copy_from_slice(&x[keys..]);
                }
            });
            Ok(Shard::new(site.key(), x.shape.clone(), T::data(y)))
        })
    }
}

wide! {
    /// Turns rows of as many numbers as `turn` has: cosines, then sines.
    fn rotate<T: Real>(x: &[T], turn: &[T], y: &mut [T]) {
        let d = turn.len().max(1);
        let (cosines, sines) = turn.split_at(d / 2);
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let (first, second) = x.split_at(d / 2);
            let (to_first, to_second) = y.split_at_mut(d / 2);
            let pairs = first.iter().zip(second).zip(cosines.iter().zip(sines));
            for ((y, z), ((&a, &b), (&c, &s))) in to_first.iter_mut().zip(to_second).zip(pairs) {
                *y = a * c - b * s;
                *z = a * s + b * c;
            }
        }
    }
}
