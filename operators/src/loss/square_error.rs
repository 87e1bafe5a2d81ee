//! Half the square error of fields, summed, where [`MeanSquare`](super::MeanSquare) is its mean: $J = \frac12 \sum_i (x_i - y_i)^2$ over the targets that there are, and their number
//! $n$, so that a mean over micro-batches and workers weighs every target alike.
//!
//! $$ \bar x_i = (x_i - y_i)\, \bar J , \quad 0 \text{ where } y_i \text{ is NaN: not observed}. $$

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// A prediction and targets (NaN: none) of one shape and layout to J and n (`F64`), both scalars; what is cut gives
/// `Partial(Sum)`. `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct SquareError;

impl Operator for SquareError {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "SquareError";
        let dtype = reals(NAME, inputs, &[0, 0])?;
        let (x, y) = (&inputs[0], &inputs[1]);
        if x.shape != y.shape || [x, y].iter().any(|s| s.rows != Rows::Plain) {
            return refuse(NAME, format!("{x} and {y} are not tensors of one shape"));
        }
        let mend = "bring both to one layout without sums and halos";
        let layout = layout(NAME, inputs, mend, |on| match on[0] {
            _ if on[1] != on[0] => None,
            Placement::Same => Some(Placement::Same),
            Placement::Split { .. } => Some(Placement::Partial(Monoid::Sum)),
            _ => None,
        })?;
        let count = Spec::new([], DType::F64, layout.clone());
        Ok(vec![Spec::new([], dtype, layout), count])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let pairs = inputs[0].elements::<T>().iter().zip(inputs[1].elements::<T>());
            let mut apart: Vec<T> = buffer(inputs[0].len());
            let (mut loss, mut count) = (T::of(0.0), 0usize);
            for (apart, (&x, &y)) in apart.iter_mut().zip(pairs) {
                let there = there(y);
                count += usize::from(there);
                *apart = if there { x - y } else { T::of(0.0) };
                loss += *apart * *apart * T::of(0.5);
            }
            let apart = Shard::new(site.key(), inputs[0].shape.clone(), T::data(apart));
            let scalar = |data| Shard::new(site.key(), vec![], data);
            let made = vec![scalar(T::data(vec![loss])), scalar(vec![count as f64].into())];
            Ok((made, Saved::shards(vec![apart])))
        })
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        with_real!(site, kept[0].dtype(), T => {
            let mut sum = T::of(0.0);
            let changes = kept[0].elements::<T>().iter().zip(tangents[0].elements::<T>());
            changes.for_each(|(&apart, &dx)| sum += apart * dx);
            let scalar = |data| Shard::new(site.key(), vec![], data);
            Ok(vec![scalar(T::data(vec![sum])), scalar(vec![0.0].into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        with_real!(site, kept[0].dtype(), T => {
            let by = cotangents[0].elements::<T>()[0];
            let mut to_x: Vec<T> = buffer(kept[0].len());
            let pairs = to_x.iter_mut().zip(kept[0].elements::<T>());
            pairs.for_each(|(to, &apart)| *to = apart * by);
            let to_x = Shard::new(site.key(), kept[0].shape.clone(), T::data(to_x));
            Ok(vec![Some(to_x), None])
        })
    }

    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
}

/// Whether a target is a number.
fn there<T: Real>(y: T) -> bool {
    y.partial_cmp(&y).is_some()
}
