//! Cross-entropy whose mean in each sample counts as many times as is given:
//!
//! $$ J = \sum_b \frac{n_b}{t_b} \sum_{i \in b} (m_i + \ln \ell_i - h_i), \qquad
//!    (\mu, a)_i = (-m_i,\ \bar J\, n_b / (t_b \ell_i)), \quad \bar h_i = -\bar J\, n_b / t_b, $$
//!
//! from merged rows $(m, \ell)$ and hits $h$ of [`VocabularyPartial`](super::VocabularyPartial), with $t_b$ the number
//! of targets of sample b and 0 for a sample without any. Beside a sum over $n_b$ other targets of each sample it is a
//! loss of as many terms: divided by the sum of all $n_b$ both are means, whatever the extents of samples, and
//! samples may be dealt out to micro-batches and workers in any way. Where the rows are cut every worker gives its part
//! of $J$ as `Partial(Sum)`.

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use super::counted;
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, reals, refuse};

/// Scaled rows `[b, …, 2]`, hits `[b, …]`, targets `[b, …]` (`I64`; negative: none), n `[b]` and t `[b]` (`F64`) to a
/// scalar; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct BalancedCrossEntropy;

const NAME: &str = "BalancedCrossEntropy";

impl Operator for BalancedCrossEntropy {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [rows, hits, targets, n, t] = inputs else {
            return refuse(NAME, format!("it takes 5 inputs, not {}", inputs.len()));
        };
        let dtype = reals(NAME, &inputs[..2], &[2, 1])?;
        let last = rows.shape.len() - 1;
        let fits = rows.rows == Rows::Scaled && rows.shape[last] == 2;
        if !fits || hits.shape != rows.shape[..last] || targets.shape != hits.shape {
            let why = format!("{rows}, {hits} and {targets} are not of one batch");
            return refuse(NAME, why);
        }
        if targets.dtype != DType::I64 {
            return refuse(NAME, format!("{targets} are not I64"));
        }
        if [n, t]
            .iter()
            .any(|of| of.dtype != DType::F64 || of.shape != rows.shape[..1])
        {
            let why = format!("{n} and {t} are not one F64 for each sample of {rows}");
            return refuse(NAME, why);
        }
        let mend = "merge the partials of the vocabulary first, cut them and targets alike, and numbers by sample (0)";
        let layout = layout(NAME, inputs, mend, |on| {
            let alike = on[1] == on[0] && on[2] == on[0];
            let (numbers, made) = match on[0] {
                Placement::Same => (Placement::Same, Placement::Same),
                cut @ Placement::Split { dim: 0 } => (cut, Placement::Partial(Monoid::Sum)),
                Placement::Split { .. } => (Placement::Same, Placement::Partial(Monoid::Sum)),
                _ => return None,
            };
            (alike && on[3] == numbers && on[4] == numbers).then_some(made)
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
                None,
                None,
            ])
        })
    }

    fn differentiable(&self, input: usize) -> bool {
        input < 2
    }
}

/// What each row counts; nothing where there is no target.
fn counts<T: Real>(inputs: &[Shard]) -> impl Iterator<Item = Option<T>> {
    let (n, t) = (inputs[3].elements::<f64>(), inputs[4].elements::<f64>());
    let targets = inputs[2].elements::<i64>();
    let each = (targets.len() / n.len().max(1)).max(1);
    targets.iter().enumerate().map(move |(at, target)| {
        let sample = at / each;
        (*target >= 0 && t[sample] > 0.0).then(|| T::of(n[sample] / t[sample]))
    })
}
