//! A graph of one operator, and whole tensors to try it on.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::graph::{Graph, Spec, Value};
use crate::laws::case::Case;
use crate::laws::vector::{cut, direction, draw};
use crate::layout::Layout;
use crate::mesh::Mesh;
use crate::shard::{Data, Shard};

/// Whole tensors of one experiment.
pub(crate) struct Whole {
    pub(crate) sources: BTreeMap<String, Data>,
    pub(crate) changes: BTreeMap<String, Data>,
    pub(crate) seeds: Vec<Data>,
}

/// A graph of one operator, with its inputs and outputs.
pub(crate) struct Bench {
    pub(crate) graph: Graph,
    pub(crate) inputs: Vec<(String, Value)>,
    pub(crate) outputs: Vec<(String, Value)>,
    /// Inputs with a derivative.
    pub(crate) smooth: Vec<(String, Value)>,
}

impl Bench {
    /// The graph of a case on a mesh.
    pub(crate) fn build(case: &Case, mesh: &Mesh, layouts: &[Layout]) -> Result<Self> {
        let mut graph = Graph::new(mesh.clone());
        let mut inputs = Vec::new();
        for (i, (input, layout)) in case.inputs.iter().zip(layouts).enumerate() {
            let mut spec = Spec::new(input.shape.clone(), input.dtype, layout.clone());
            spec.rows = input.rows;
            let name = format!("input {i}");
            inputs.push((name.clone(), graph.input(&name, spec)?));
        }
        let values: Vec<Value> = inputs.iter().map(|(_, v)| *v).collect();
        let made = graph.apply_all("operator", case.operator.clone(), &values)?;
        let outputs: Vec<(String, Value)> = made
            .iter()
            .enumerate()
            .map(|(i, v)| (format!("output {i}"), *v))
            .collect();
        for (name, value) in &outputs {
            graph.output(name, *value)?;
        }
        let smooth = inputs
            .iter()
            .enumerate()
            .filter(|(i, (_, v))| case.operator.differentiable(*i) && graph.spec(*v).is_real());
        let smooth = smooth.map(|(_, named)| named.clone()).collect();
        Ok(Bench {
            graph,
            inputs,
            outputs,
            smooth,
        })
    }

    /// Pieces of whole inputs.
    pub(crate) fn spread(
        &self,
        tensors: &BTreeMap<String, Data>,
    ) -> Result<BTreeMap<String, Vec<Shard>>> {
        let chosen = self
            .inputs
            .iter()
            .filter_map(|(n, v)| Some((n, v, tensors.get(n)?)));
        chosen
            .map(|(name, v, data)| {
                Ok((
                    name.clone(),
                    cut(self.graph.spec(*v), self.graph.mesh(), 0, data)?,
                ))
            })
            .collect()
    }

    /// Pieces of the cotangents of the outputs.
    pub(crate) fn seeds(&self, seeds: &[Data]) -> Result<BTreeMap<Value, Vec<Shard>>> {
        let named = self.outputs.iter().zip(seeds);
        named
            .filter(|((_, v), _)| self.graph.spec(*v).is_real())
            .map(|((_, v), data)| {
                let dual = self.graph.spec(*v).dual()?;
                Ok((*v, cut(&dual, self.graph.mesh(), 0, data)?))
            })
            .collect()
    }

    /// The whole tensor that pieces stand for.
    pub(crate) fn whole(&self, spec: &Spec, pieces: &[Shard]) -> Result<Data> {
        spec.join(self.graph.mesh(), pieces)
    }
}

/// Inputs, changes and cotangents of a case, from a seed.
pub(crate) fn sample(case: &Case, bench: &Bench, seed: u64) -> Whole {
    let seed = seed << 16;
    let inputs = bench.inputs.iter().zip(&case.inputs).enumerate();
    let sources = inputs
        .map(|(i, ((name, _), input))| (name.clone(), draw(input, seed + i as u64)))
        .collect();
    let smooth = bench.smooth.iter().enumerate();
    let changes = smooth
        .map(|(i, (name, v))| {
            (
                name.clone(),
                direction(bench.graph.spec(*v), seed + 100 + i as u64),
            )
        })
        .collect();
    let outputs = bench.outputs.iter().enumerate();
    let seeds = outputs
        .map(|(i, (_, v))| direction(bench.graph.spec(*v), seed + 200 + i as u64))
        .collect();
    Whole {
        sources,
        changes,
        seeds,
    }
}
