//! Small operators for the tests of the adjoint graph, and a few ways to be wrong.

use std::collections::BTreeMap;

use advect_engine::graph::{Saved, Site};
use advect_engine::{
    DType, EngineError, Layout, Mesh, Monoid, Operator, Placement, Result, Shard, Spec,
};

/// y = c x, in any layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale(pub(crate) f64);

fn map(site: &Site, x: &Shard, f: impl Fn(f64) -> f64) -> Shard {
    let y: Vec<f64> = x.elements::<f64>().iter().map(|&x| f(x)).collect();
    Shard::new(site.key(), x.shape.clone(), y.into())
}

impl Operator for Scale {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs.to_vec())
    }
    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        Ok((
            vec![map(site, &inputs[0], |x| self.0 * x)],
            Saved::nothing(),
        ))
    }
    fn tangent(&self, site: &Site, _: &Saved, t: &[Shard]) -> Result<Vec<Shard>> {
        Ok(vec![map(site, &t[0], |x| self.0 * x)])
    }
    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        y: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        Ok(vec![Some(map(site, &y[0], |x| self.0 * x))])
    }
}

/// z = x y element by element and, as a second output, x; keeps both inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) mistake: Mistake,
}

/// What is wrong with an operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mistake {
    None,
    Adjoint,
    Tangent,
    Layout,
    Order,
    Silent,
}

impl Operator for Times {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let sums = inputs
            .iter()
            .any(|s| s.layout.axes.contains(&Placement::Partial(Monoid::Sum)));
        if sums && self.mistake != Mistake::Layout {
            return Err(EngineError::Operator {
                operator: "Times".into(),
                why: "a product of sums is not a sum of products".into(),
            });
        }
        Ok(vec![inputs[0].clone(), inputs[0].clone()])
    }
    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let pairs = inputs[0]
            .elements::<f64>()
            .iter()
            .zip(inputs[1].elements::<f64>());
        let mut z: Vec<f64> = pairs.map(|(x, y)| x * y).collect();
        if self.mistake == Mistake::Order {
            // depends on the run and not on the inputs
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            z[0] *= 1.0 + (now.expect("after 1970").subsec_nanos() % 97) as f64 * f64::EPSILON;
        }
        let z = Shard::new(site.key(), inputs[0].shape.clone(), z.into());
        Ok((vec![z, inputs[0].clone()], Saved::shards(inputs.to_vec())))
    }
    fn tangent(&self, site: &Site, saved: &Saved, t: &[Shard]) -> Result<Vec<Shard>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        let (x, y) = (kept[0].elements::<f64>(), kept[1].elements::<f64>());
        let (dx, dy) = (t[0].elements::<f64>(), t[1].elements::<f64>());
        let slip = if self.mistake == Mistake::Tangent {
            1e-6
        } else {
            0.0
        };
        let z: Vec<f64> = (0..x.len())
            .map(|i| (1.0 + slip) * dx[i] * y[i] + x[i] * dy[i])
            .collect();
        Ok(vec![
            Shard::new(site.key(), t[0].shape.clone(), z.into()),
            t[0].clone(),
        ])
    }
    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        c: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        let (x, y) = (kept[0].elements::<f64>(), kept[1].elements::<f64>());
        let (z, w) = (c[0].elements::<f64>(), c[1].elements::<f64>());
        let slip = match self.mistake {
            Mistake::Adjoint => 1e-9,
            Mistake::Tangent => 1e-6,
            _ => 0.0,
        };
        let to_x: Vec<f64> = (0..x.len())
            .map(|i| (1.0 + slip) * z[i] * y[i] + w[i])
            .collect();
        let shard = |v: Vec<f64>| Shard::new(site.key(), kept[0].shape.clone(), v.into());
        let to_y = wanted[1] && self.mistake != Mistake::Silent;
        let to_y = to_y.then(|| shard((0..x.len()).map(|i| z[i] * x[i]).collect()));
        Ok(vec![wanted[0].then(|| shard(to_x)), to_y])
    }
}

/// `n` numbers that are the same on all workers.
pub(crate) fn spec(mesh: &Mesh, n: usize) -> Spec {
    Spec::new(
        [n],
        DType::F64,
        Layout::new(vec![Placement::Same; mesh.rank()]),
    )
}

/// The same numbers on every worker.
pub(crate) fn pieces(workers: usize, numbers: &[f64]) -> Vec<Shard> {
    vec![Shard::new(0, vec![numbers.len()], numbers.to_vec().into()); workers]
}

/// Pieces by name.
pub(crate) fn named(pairs: &[(&str, Vec<Shard>)]) -> BTreeMap<String, Vec<Shard>> {
    pairs
        .iter()
        .map(|(name, p)| ((*name).to_owned(), p.clone()))
        .collect()
}
