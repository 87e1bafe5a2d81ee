//! A gate: $y_i = f(a_i)\, b_i$, with $\bar a_i = f'(a_i)\, b_i \bar y_i$ and $\bar b_i = f(a_i)\, \bar y_i$.
//!
//! With `Pointwise::Silu` and a and b two linear maps of one tensor it is SwiGLU. Source: Shazeer (2020),
//! *GLU variants improve transformer*.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Operator, Overlap, Placement, Result, Shard, Spec};

use super::Pointwise;
use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::{RUN, each, wide};

/// a and b of one shape; `f32` or `f64`, in any layout that both share but sums.
#[derive(Debug, Clone, Copy)]
pub struct Gated(pub Pointwise);

impl Operator for Gated {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        reals("Gated", inputs, &[0, 0])?;
        let (a, b) = (&inputs[0], &inputs[1]);
        if a.shape != b.shape || [a, b].iter().any(|s| s.rows != Rows::Plain) {
            let why = format!("{a} and {b} are not plain tensors of one shape");
            return refuse("Gated", why);
        }
        let mend = "finish sums first, and bring both to one layout";
        let layout = layout("Gated", inputs, mend, |on| match on[0] {
            Placement::Partial(_)
            | Placement::Halo {
                overlap: Overlap::Sums,
                ..
            } => None,
            p => (p == on[1]).then_some(p),
        })?;
        Ok(vec![a.with_layout(layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let [a, b] = [0, 1].map(|i| inputs[i].elements::<T>());
            let mut y = buffer(a.len());
            let tasks = a.chunks(RUN).zip(b.chunks(RUN)).zip(y.chunks_mut(RUN));
            each(tasks.collect(), |((a, b), y)| {
                self.0.values(a, y);
                multiply(b, y);
            });
            let y = Shard::new(site.key(), inputs[0].shape.clone(), y.into());
            Ok((vec![y], Saved::nothing()))
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1]
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let kept = [saved.input(site, 0)?, saved.input(site, 1)?];
        with_real!(site, kept[0].dtype(), T => {
            let [a, b] = kept.map(Shard::elements::<T>);
            let [da, db] = [0, 1].map(|i| tangents[i].elements::<T>());
            let (mut by_a, mut by_b) = (buffer(a.len()), buffer(a.len()));
            self.0.slopes(a, da, &mut by_a);
            multiply(b, &mut by_a);
            self.0.values(a, &mut by_b);
            multiply(db, &mut by_b);
            by_a.iter_mut().zip(by_b).for_each(|(sum, b): (&mut T, T)| *sum += b);
            Ok(vec![Shard::new(site.key(), tangents[0].shape.clone(), by_a.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let kept = [saved.input(site, 0)?, saved.input(site, 1)?];
        with_real!(site, kept[0].dtype(), T => {
            let [a, b] = kept.map(Shard::elements::<T>);
            let given = cotangents[0].elements::<T>();
            let (mut to_a, mut to_b) = (buffer(a.len()), buffer(a.len()));
            let to = to_a.chunks_mut(RUN).zip(to_b.chunks_mut(RUN));
            let tasks = a.chunks(RUN).zip(b.chunks(RUN)).zip(given.chunks(RUN)).zip(to);
            each(tasks.collect(), |(((a, b), given), (to_a, to_b))| {
                self.0.slopes(a, given, to_a);
                multiply(b, to_a);
                self.0.values(a, to_b);
                multiply(given, to_b);
            });
            let shard = |v: Vec<T>| Some(Shard::new(site.key(), kept[0].shape.clone(), v.into()));
            Ok(vec![shard(to_a), shard(to_b)])
        })
    }
}

wide! {
    fn multiply<T: Real>(by: &[T], x: &mut [T]) {
        for (x, &by) in x.iter_mut().zip(by) {
            *x *= by;
        }
    }
}
