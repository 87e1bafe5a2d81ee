//! Finer grids: both last dimensions become a whole number of times as long.
//!
//! $y = A x B^\top$ with the same rule for rows (A) and columns (B). By the nearest element every row of A is one
//! of the identity; by straight lines element i of the fine grid lies at $t = (i + \tfrac12)/f - \tfrac12$ of the coarse
//! one and is $(1 - t + \lfloor t \rfloor)\, x_{\lfloor t \rfloor} + (t - \lfloor t \rfloor)\, x_{\lfloor t \rfloor + 1}$, with
//! the outermost elements beyond the edges. The adjoint is $\bar x = A^\top \bar y B$.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::{each, zeros};

/// What stands between the elements of the coarse grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// The nearest of them.
    Nearest,
    /// Straight lines.
    Linear,
}

/// `[…, h, w]` to `[…, f h, f w]`; `f32` or `f64`, cut before the last two dimensions; sums too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upsample {
    /// f.
    pub factor: usize,
    /// What stands between.
    pub between: Between,
}

impl Operator for Upsample {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Upsample";
        let dtype = reals(NAME, inputs, &[2])?;
        let x = &inputs[0];
        if self.factor == 0 || x.rows != Rows::Plain {
            return refuse(
                NAME,
                format!("{x} cannot be made {} times as fine", self.factor),
            );
        }
        let grid = x.shape.len() - 2;
        let mend = "gather the last two dimensions first";
        let layout = layout(NAME, inputs, mend, |on| match on[0] {
            p @ (Placement::Same | Placement::Partial(Monoid::Sum)) => Some(p),
            p @ Placement::Split { dim } if dim < grid => Some(p),
            _ => None,
        })?;
        let mut shape = x.shape.clone();
        shape[grid..].iter_mut().for_each(|n| *n *= self.factor);
        Ok(vec![Spec::new(shape, dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        Ok((vec![self.finer(site, &inputs[0])?], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![self.finer(site, &tangents[0])?])
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        with_real!(site, cotangents[0].dtype(), T => {
            let shape = site.input_shape(0);
            let [h, w] = grid(&shape);
            let given = cotangents[0].elements::<T>();
            let mut x = zeros(shape.iter().product());
            let fine = (self.factor * self.factor * h * w).max(1);
            let planes = x.chunks_mut((h * w).max(1)).zip(given.chunks(fine));
            let [rows, columns] = [h, w].map(|n| self.taps::<T>(n));
            each(planes.collect(), |(x, given): (&mut [T], &[T])| {
                for (row, given) in rows.iter().zip(given.chunks(columns.len().max(1))) {
                    for (column, &given) in columns.iter().zip(given) {
                        for &(i, a) in row {
                            for &(j, b) in column {
                                x[i * w + j] += a * b * given;
                            }
                        }
                    }
                }
            });
            Ok(vec![Some(Shard::new(site.key(), shape, x.into()))])
        })
    }
}

/// The last two extents.
fn grid(shape: &[usize]) -> [usize; 2] {
    [shape[shape.len() - 2], shape[shape.len() - 1]]
}

impl Upsample {
    fn finer(&self, site: &Site, x: &Shard) -> Result<Shard> {
        with_real!(site, x.dtype(), T => {
            let shape = site.output_shape(0);
            let [h, w] = grid(&x.shape);
            let mut y = buffer(shape.iter().product());
            let fine = (self.factor * self.factor * h * w).max(1);
            let planes = y.chunks_mut(fine).zip(x.elements::<T>().chunks((h * w).max(1)));
            let [rows, columns] = [h, w].map(|n| self.taps::<T>(n));
            each(planes.collect(), |(y, x): (&mut [T], &[T])| {
                for (row, y) in rows.iter().zip(y.chunks_mut(columns.len().max(1))) {
                    for (column, y) in columns.iter().zip(y) {
                        *y = T::of(0.0);
                        for &(i, a) in row {
                            for &(j, b) in column {
                                *y += a * b * x[i * w + j];
                            }
                        }
                    }
                }
            });
            Ok(Shard::new(site.key(), shape, y.into()))
        })
    }

    /// Of each of the fine elements on a line of `n` coarse ones: which of these, and how much.
    fn taps<T: Real>(&self, n: usize) -> Vec<Vec<(usize, T)>> {
        let f = self.factor;
        let of = |i: usize| match self.between {
            Between::Nearest => vec![(i / f, T::of(1.0))],
            Between::Linear => {
                let at = ((i as f64 + 0.5) / f as f64 - 0.5).clamp(0.0, (n - 1) as f64);
                let (below, part) = (at.floor() as usize, at - at.floor());
                match part > 0.0 {
                    true => vec![(below, T::of(1.0 - part)), (below + 1, T::of(part))],
                    false => vec![(below, T::of(1.0))],
                }
            }
        };
        (0..n * f).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(between: Between, n: usize, factor: usize) -> Vec<f64> {
        let taps = Upsample { factor, between }.taps::<f64>(n);
        let at = |taps: &Vec<(usize, f64)>| taps.iter().map(|(i, a)| *i as f64 * a).sum();
        taps.iter().map(at).collect()
    }

    /// Between 0, 1, 2 stand what images have there (half a pixel off the edges).
    #[test]
    fn lines_are_straight() {
        assert_eq!(line(Between::Nearest, 3, 2), [0., 0., 1., 1., 2., 2.]);
        assert_eq!(
            line(Between::Linear, 3, 2),
            [0., 0.25, 0.75, 1.25, 1.75, 2.]
        );
        assert_eq!(line(Between::Linear, 1, 3), [0., 0., 0.]);
        let thirds = line(Between::Linear, 2, 3);
        let want = [0., 0., 1. / 3., 2. / 3., 1., 1.];
        assert!(
            thirds.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15),
            "{thirds:?}"
        );
    }
}
