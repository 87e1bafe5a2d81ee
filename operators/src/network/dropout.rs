//! Dropout: $y_i = m_i x_i / (1 - p)$ with independent masks $m_i$ that are 0 with probability p.
//!
//! The mask of an element is a function of the seed, the name of the operator, the step, and the place of the
//! element among all samples of the step: word `i` of the ChaCha8 stream that seed, name and step choose. So
//! every layout, every cut into micro-batches, and an activation that is made again have the same masks.
//! Source: Srivastava et al. (2014).

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::random;

/// x `[b, …]`, of the samples of a micro-batch, to the same shape; `f32` or `f64`, in any layout of pieces or
/// sums. A time of two counters is (step, micro-batch).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    /// p, from 0 on and below 1.
    pub rate: f64,
    /// Chooses the masks.
    pub seed: u64,
}

impl Operator for Dropout {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Dropout";
        reals(NAME, inputs, &[1])?;
        if !(0.0..1.0).contains(&self.rate) {
            let why = format!("a rate of {} is no probability below 1", self.rate);
            return refuse(NAME, why);
        }
        let x = &inputs[0];
        if x.rows != Rows::Plain {
            return refuse(NAME, format!("{x} is no plain tensor"));
        }
        let mend = "bring x to pieces first";
        let layout = layout(NAME, inputs, mend, |on| match on[0] {
            p @ (Placement::Same | Placement::Split { .. } | Placement::Partial(Monoid::Sum)) => {
                Some(p)
            }
            _ => None,
        })?;
        Ok(vec![x.with_layout(layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        Ok((vec![self.masked(site, &inputs[0])?], Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![self.masked(site, &tangents[0])?])
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        Ok(vec![Some(self.masked(site, &cotangents[0])?)])
    }
}

impl Dropout {
    /// Nothing is left out.
    pub const NONE: Dropout = Dropout { rate: 0.0, seed: 0 };

    fn masked(&self, site: &Site, x: &Shard) -> Result<Shard> {
        with_real!(site, x.dtype(), T => {
            let numbers = x.elements::<T>();
            let mut y = buffer(numbers.len());
            let [step, micro] = site.moment();
            let spec = &site.inputs()[0];
            let before = u128::from(micro) * spec.shape.iter().product::<usize>() as u128;
            let mut random = random::stream(self.seed, &format!("{} at {step}", site.name()));
            let (least, by) = (self.least(), T::of(1.0 / (1.0 - self.rate)));
            let mut at = 0;
            for run in random::runs(spec, site.mesh(), site.worker()) {
                random.set_word_pos(before + run.start as u128);
                let n = run.len();
                for (y, &x) in y[at..at + n].iter_mut().zip(&numbers[at..at + n]) {
                    *y = if random.random::<u32>() < least { T::of(0.0) } else { x * by };
                }
                at += n;
            }
            Ok(Shard::new(site.key(), x.shape.clone(), y.into()))
        })
    }

    /// The least word that keeps an element.
    fn least(&self) -> u32 {
        (self.rate * 2f64.powi(32)) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use advect_engine::{DType, Graph, Layout};

    use super::*;

    /// Which of ten thousand elements stay, by name, seed, step and micro-batch.
    fn mask(name: &str, seed: u64, moment: [u64; 2]) -> Vec<bool> {
        let mesh = Mesh::line("data", 1);
        let spec = Spec::new([100, 100], DType::F32, Layout::same(&mesh));
        let mut graph = Graph::new(mesh);
        let x = graph.input("x", spec).expect("it fits");
        let dropout = Dropout { rate: 0.3, seed };
        let y = graph.apply(name, dropout, &[x]).expect("it fits");
        graph.output("y", y).expect("it is free");
        let ones = Shard::new(0, vec![100, 100], vec![1f32; 10_000].into());
        let sources = BTreeMap::from([("x".to_owned(), vec![ones])]);
        let now = graph.rehearse(&sources, moment, 0).expect("it runs");
        let kept = now.value(y)[0].elements::<f32>();
        assert!(kept.iter().all(|&y| y == 0.0 || y == 1.0 / 0.7));
        kept.iter().map(|&y| y > 0.0).collect()
    }

    /// The part that is left out is the rate, and masks of operators, seeds, steps and micro-batches have
    /// nothing to do with each other: two of them agree where chance says.
    #[test]
    fn masks_are_independent() {
        let others = [
            mask("a", 1, [0, 0]),
            mask("b", 1, [0, 0]),
            mask("a", 2, [0, 0]),
            mask("a", 1, [1, 0]),
            mask("a", 0, [1, 0]),
            mask("a", 1, [0, 1]),
        ];
        for (i, mask) in others.iter().enumerate() {
            let stay = mask.iter().filter(|stays| **stays).count();
            assert!((6_800..7_200).contains(&stay), "{stay} of 10,000");
            for other in &others[..i] {
                let agree = mask.iter().zip(other).filter(|(a, b)| a == b).count();
                assert!((5_600..6_000).contains(&agree), "{agree} of 10,000");
            }
        }
        assert_eq!(others[0], mask("a", 1, [0, 0]));
    }
}
