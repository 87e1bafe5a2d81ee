//! In how many rows of an alignment both positions of a pair are there:
//!
//! $$ n_{ij} = \sum_s [a_{si} \ne 0] [b_{sj} \ne 0] . $$
//!
//! It is what a mean of outer products divides by, and where it is 0 there is no pair.
//!
//! | a | b | n |
//! |---|---|---|
//! | cut by batch (0) | cut alike | cut alike |
//! | cut by i (2) | Same | cut by i (1) |
//! | Same | cut by j (2) | cut by j (2) |
//! | cut by s (1) | cut alike | Partial(Sum) |

use advect_engine::graph::{Saved, Site};
use advect_engine::{DType, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use crate::network::rules::{layout, refuse};

const NAME: &str = "PairCount";

/// Masks a `[b, s, i]` and b `[b, s, j]` to `[b, i, j]`, all `I64`; it has no derivative.
#[derive(Debug, Clone, Copy)]
pub struct PairCount;

impl Operator for PairCount {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [a, b] = inputs else {
            return refuse(NAME, format!("it takes 2 inputs, not {}", inputs.len()));
        };
        let (&[batch, s, i], &[others, rows, j]) = (a.shape.as_slice(), b.shape.as_slice()) else {
            return refuse(NAME, "a is [b, s, i] and b is [b, s, j]");
        };
        let whole = a.dtype == DType::I64 && b.dtype == DType::I64;
        if (batch, s) != (others, rows) || !whole {
            return refuse(NAME, format!("{a} and {b} are not I64 of the same rows"));
        }
        let mend = "cut both by batch (0) or rows (1), or one of them by positions (2)";
        let layout = layout(NAME, inputs, mend, |on| {
            use Placement::{Same, Split};
            match (on[0], on[1]) {
                (Same, Same) => Some(Same),
                (cut @ Split { dim: 0 }, Split { dim: 0 }) => Some(cut),
                (Split { dim: 2 }, Same) => Some(Split { dim: 1 }),
                (Same, cut @ Split { dim: 2 }) => Some(cut),
                (Split { dim: 1 }, Split { dim: 1 }) => Some(Placement::Partial(Monoid::Sum)),
                _ => None,
            }
        })?;
        Ok(vec![Spec::new([batch, i, j], DType::I64, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let (s, i, j) = (inputs[0].shape[1], inputs[0].shape[2], inputs[1].shape[2]);
        let shape = site.output_shape(0);
        let mut counts = vec![0i64; shape.iter().product()];
        let (a, b) = (inputs[0].elements::<i64>(), inputs[1].elements::<i64>());
        for (at, counts) in counts.chunks_exact_mut((i * j).max(1)).enumerate() {
            for row in at * s..(at + 1) * s {
                let b = &b[row * j..][..j];
                let there = a[row * i..][..i]
                    .iter()
                    .zip(counts.chunks_exact_mut(j.max(1)));
                for (_, counts) in there.filter(|(a, _)| **a != 0) {
                    for (count, b) in counts.iter_mut().zip(b) {
                        *count += i64::from(*b != 0);
                    }
                }
            }
        }
        let counts = Shard::new(site.key(), shape, counts.into());
        Ok((vec![counts], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, _: &[Shard]) -> Result<Vec<Shard>> {
        let shape = site.output_shape(0);
        let none = vec![0i64; shape.iter().product()];
        Ok(vec![Shard::new(site.key(), shape, none.into())])
    }

    fn adjoint(&self, _: &Site, _: &Saved, _: &[Shard], _: &[bool]) -> Result<Vec<Option<Shard>>> {
        Ok(vec![None, None])
    }

    fn differentiable(&self, _: usize) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use advect_engine::{Graph, Layout};

    use super::*;

    /// The counts are those of a loop over rows, however the masks are cut.
    #[test]
    fn pairs_are_counted() {
        let [batch, s, i, j] = [2, 3, 4, 5];
        let mask = |seed: usize, n: usize| -> Vec<i64> {
            (0..n).map(|k| ((k * seed + k / 3) % 3) as i64).collect()
        };
        let (a, b) = (mask(7, batch * s * i), mask(5, batch * s * j));
        let want: Vec<i64> = (0..batch * i * j)
            .map(|at| {
                let (batch, x, y) = (at / (i * j), at / j % i, at % j);
                let both = |row: &usize| {
                    let row = batch * s + row;
                    a[row * i + x] != 0 && b[row * j + y] != 0
                };
                (0..s).filter(both).count() as i64
            })
            .collect();
        let split = |dim| Placement::Split { dim };
        for (workers, on) in [
            (1, [Placement::Same; 2]),
            (2, [split(0); 2]),
            (2, [split(1); 2]),
            (3, [split(2), Placement::Same]),
            (3, [Placement::Same, split(2)]),
        ] {
            let mut graph = Graph::new(Mesh::line("x", workers));
            let mut sources = BTreeMap::new();
            let mut inputs = Vec::new();
            for ((name, whole), (n, on)) in [("a", &a), ("b", &b)]
                .into_iter()
                .zip([i, j].iter().zip(on))
            {
                let spec = Spec::new([batch, s, *n], DType::I64, Layout::new([on]));
                let pieces = spec.cut(graph.mesh(), 0, &whole.clone().into());
                sources.insert(name.to_owned(), pieces.expect("it fits"));
                inputs.push(graph.input(name, spec).expect("it is new"));
            }
            let n = graph.apply("n", PairCount, &inputs).expect("it fits");
            let whole = Layout::same(graph.mesh());
            let n = graph.relayout(n, &whole).expect("it fits");
            let now = graph.rehearse(&sources, [0, 0], 0).expect("it works");
            assert_eq!(now.value(n)[0].elements::<i64>(), want, "{on:?}");
        }
    }
}
