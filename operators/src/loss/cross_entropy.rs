//! Cross-entropy in nats, summed over the targets that there are.
//!
//! $$ J = \sum_i (m_i + \ln \ell_i - h_i), \qquad (\mu, a)_i = (-m_i,\ \bar J / \ell_i), \quad \bar h_i = -\bar J, $$
//!
//! from merged rows $(m, \ell)$ and hits $h$ of [`VocabularyPartial`](super::VocabularyPartial). It is a sum and
//! no mean, so that steps of any number of micro-batches and tokens add up: whoever seeds the backward sweep
//! gives one over the number of targets of the whole step. Where the rows are cut every worker gives its
//! part of $J$ as `Partial(Sum)`.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use super::counted;
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// Scaled rows `[…, 2]`, hits `[…]` and targets `[…]` (`I64`; negative: none) to a scalar; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy;

impl Operator for CrossEntropy {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "CrossEntropy";
        let [rows, hits, targets] = inputs else {
            return refuse(NAME, format!("it takes 3 inputs, not {}", inputs.len()));
        };
        let dtype = reals(NAME, &inputs[..2], &[1, 0])?;
        let last = rows.shape.len() - 1;
        let fits = rows.rows == Rows::Scaled && rows.shape[last] == 2;
        if !fits || hits.shape != rows.shape[..last] || targets.shape != hits.shape {
            return refuse(
                NAME,
                format!("{rows}, {hits} and {targets} are not of one batch"),
            );
        }
        if targets.dtype != DType::I64 {
            return refuse(NAME, format!("{targets} are not I64"));
        }
        let mend = "merge the partials of the vocabulary first, and cut all three alike";
        let layout = layout(NAME, inputs, mend, |on| match on[0] {
            _ if on[1] != on[0] || on[2] != on[0] => None,
            Placement::Same => Some(Placement::Same),
            Placement::Split { .. } => Some(Placement::Partial(Monoid::Sum)),
            _ => None,
        })?;
        Ok(vec![Spec::new([], dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let kept = inputs.to_vec();
        let bytes = kept.iter().map(Shard::bytes_len).sum();
        with_real!(site, inputs[0].dtype(), T => {
            let loss = counted::sum::<T>([&inputs[0], &inputs[1]], counts(inputs));
            let loss = Shard::new(site.key(), vec![], vec![loss].into());
            Ok((vec![loss], Saved::new(kept, bytes)))
        })
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        with_real!(site, kept[0].dtype(), T => {
            let changes = [&tangents[0], &tangents[1]];
            let sum = counted::tangent::<T>(&kept[0], changes, counts(kept));
            Ok(vec![Shard::new(site.key(), vec![], vec![sum].into())])
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
            let seed = cotangents[0].elements::<T>()[0];
            let [rows, hits] = counted::adjoint::<T>(&kept[0], seed, counts(kept));
            Ok(vec![
                Some(Shard::new(site.key(), kept[0].shape.clone(), rows.into())),
                Some(Shard::new(site.key(), kept[1].shape.clone(), hits.into())),
                None,
            ])
        })
    }

    fn differentiable(&self, input: usize) -> bool {
        input < 2
    }
}

/// Every row with a target counts once.
fn counts<T: Real>(inputs: &[Shard]) -> impl Iterator<Item = Option<T>> {
    let targets = inputs[2].elements::<i64>().iter();
    targets.map(|&target| (target >= 0).then(|| T::of(1.0)))
}
