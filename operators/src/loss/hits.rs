//! The number of targets that are the likeliest: what a mean over targets makes the accuracy.

use advect_engine::graph::{Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::network::rules::{layout, reals, refuse};

/// Logits `[…, V]` and targets `[…]` (`I64`; negative: none) to the number of targets whose logit is the greatest
/// of their row, a scalar of `F64`; of equal logits the first counts. Rows that are cut give `Partial(Sum)`. It has
/// no derivative.
#[derive(Debug, Clone, Copy)]
pub struct Hits;

impl Operator for Hits {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Hits";
        let [logits, targets] = inputs else {
            return refuse(NAME, format!("it takes 2 inputs, not {}", inputs.len()));
        };
        reals(NAME, &inputs[..1], &[1])?;
        let last = logits.shape.len() - 1;
        if targets.dtype != DType::I64 || targets.shape != logits.shape[..last] {
            let why = format!("{targets} are not one I64 for each row of {logits}");
            return refuse(NAME, why);
        }
        let mend = "cut logits and targets alike, and not in the last dimension of the logits";
        let layout = layout(NAME, inputs, mend, |on| match on[0] {
            _ if on[0] != on[1] => None,
            Placement::Same => Some(Placement::Same),
            Placement::Split { dim } if dim < last => Some(Placement::Partial(Monoid::Sum)),
            _ => None,
        })?;
        Ok(vec![Spec::new([], DType::F64, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let width = inputs[0].shape.last().copied().unwrap_or(1).max(1);
        let logits = inputs[0].data().doubles().unwrap_or_default();
        let rows = logits.chunks_exact(width);
        let hit = |(row, target): &(&[f64], &i64)| {
            let target = usize::try_from(**target).ok();
            target.is_some() && target == likeliest(row)
        };
        let targets = inputs[1].elements::<i64>();
        let count = rows.zip(targets).filter(hit).count() as f64;
        let count = Shard::new(site.key(), vec![], vec![count].into());
        Ok((vec![count], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, _: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![Shard::new(site.key(), vec![], vec![0.0].into())])
    }

    fn adjoint(&self, _: &Site, _: &Saved, _: &[Shard], _: &[bool]) -> Result<Vec<Option<Shard>>> {
        Ok(vec![None, None])
    }

    fn differentiable(&self, _: usize) -> bool {
        false
    }
}

/// The place of the greatest number, of equal ones the first.
fn likeliest(row: &[f64]) -> Option<usize> {
    let better = |best: Option<usize>, (i, x): (usize, &f64)| match best {
        Some(b) if row[b] >= *x => best,
        _ => Some(i),
    };
    row.iter().enumerate().fold(None, better)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use advect_engine::{Graph, Layout};

    use super::*;

    /// Counted are rows with a target that no other logit exceeds and none before it equals, on whole and cut rows.
    #[test]
    fn likeliest_targets_are_counted() {
        let logits = vec![0.0, 2.0, 1.0, 5.0, 5.0, 1.0, 3.0, 1.0, 9.0, 0.0, 0.0, -1.0];
        let targets: Vec<i64> = vec![1, 1, 2, -1];
        for (workers, placement) in [(1, Placement::Same), (2, Placement::Split { dim: 0 })] {
            let mesh = Mesh::line("rows", workers);
            let layout = Layout::new([placement]);
            let specs = [
                Spec::new([4, 3], DType::F64, layout.clone()),
                Spec::new([4], DType::I64, layout),
            ];
            let mut graph = Graph::new(mesh.clone());
            let names = ["logits", "targets"];
            let inputs: Vec<_> = (names.iter().zip(&specs))
                .map(|(name, spec)| graph.input(name, spec.clone()).expect("it fits"))
                .collect();
            let hits = graph.apply("hits", Hits, &inputs).expect("it fits");
            graph.output("hits", hits).expect("it is new");
            let whole = [logits.clone().into(), targets.clone().into()];
            let pieces = (specs.iter().zip(&whole))
                .map(|(spec, data)| spec.cut(&mesh, 0, data).expect("it fits"));
            let sources: BTreeMap<String, Vec<Shard>> =
                names.map(str::to_owned).into_iter().zip(pieces).collect();
            let now = graph.rehearse(&sources, [0, 0], 0).expect("it runs");
            let parts = now.value(hits);
            let count: f64 = parts.iter().map(|p| p.elements::<f64>()[0]).sum();
            assert_eq!(count, 2.0, "{workers} workers");
        }
        assert_eq!(likeliest(&[]), None);
    }
}
