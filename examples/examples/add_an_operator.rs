//! cargo run --release --example add_an_operator
//! last line: gradient of the energy = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], on 3 workers
//!
//! A new operator in four functions, held against the laws, then used in a graph.

use std::collections::BTreeMap;

use advect_engine::graph::{Delivery, Saved, Site};
use advect_engine::laws::{Case, Sample, check, perform};
use advect_engine::{
    DType, EngineError, Fabric, Graph, Layout, Mesh, Monoid, Operator, Placement, Result, Shard,
    Spec,
};

/// The energy of each row: e_i = ½ Σ_j x_ij², from `[rows, columns]` to `[rows]`, `f64`.
#[derive(Debug, Clone, Copy)]
struct Energy;

impl Operator for Energy {
    /// Rows stay where they are; cut columns give sums that are not finished yet.
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = inputs else {
            return refuse("it takes one input");
        };
        let ([rows, _], DType::F64) = (x.shape.as_slice(), x.dtype) else {
            return refuse("the input is [rows, columns] of F64");
        };
        let mut axes = Vec::new();
        for placement in &x.layout.axes {
            axes.push(match placement {
                Placement::Split { dim: 1 } => Placement::Partial(Monoid::Sum),
                Placement::Split { .. } | Placement::Same => *placement,
                _ => return refuse("sums are finished and halos dropped first"),
            });
        }
        Ok(vec![Spec::new([*rows], DType::F64, Layout::new(axes))])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let x = inputs[0].clone();
        let energy = rows(&x).map(|row| 0.5 * dot(row, row)).collect();
        Ok((
            vec![shard(site, site.output_shape(0), energy)],
            Saved::shards(vec![x]),
        ))
    }

    /// de_i = Σ_j x_ij dx_ij
    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        let change = rows(&kept[0])
            .zip(rows(&tangents[0]))
            .map(|(x, dx)| dot(x, dx))
            .collect();
        Ok(vec![shard(site, site.output_shape(0), change)])
    }

    /// x̄_ij = x_ij ē_i: a cotangent of cut columns is Same, so nothing is sent.
    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let kept: &Vec<Shard> = saved.get(site)?;
        let given = cotangents[0].elements::<f64>();
        let back = rows(&kept[0])
            .zip(given)
            .flat_map(|(row, e)| row.iter().map(move |x| x * e));
        Ok(vec![Some(shard(site, site.input_shape(0), back.collect()))])
    }
}

fn refuse<T>(why: &str) -> Result<T> {
    Err(EngineError::Operator {
        operator: "Energy".to_owned(),
        why: why.to_owned(),
    })
}

fn rows(x: &Shard) -> impl Iterator<Item = &[f64]> {
    let columns = x.shape[1];
    (0..x.shape[0]).map(move |i| &x.elements::<f64>()[i * columns..(i + 1) * columns])
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn shard(site: &Site, shape: Vec<usize>, numbers: Vec<f64>) -> Shard {
    Shard::new(site.key(), shape, numbers.into())
}

fn main() -> Result<()> {
    let (by_row, by_column) = (Placement::Split { dim: 0 }, Placement::Split { dim: 1 });
    let case = Case::new("Energy", Energy)
        .input(&[4, 7], -1.0..1.0)
        .on_line([by_row])
        .on_line([by_column])
        .on_plane([[by_row, by_column]])?;
    let found = check(&case)?;
    println!(
        "adjoint {:.0e}, tangent {:.0e}, {} placings",
        found.adjoint, found.tangent, found.placings
    );

    let mesh = Mesh::line("columns", 3);
    let mut graph = Graph::new(mesh.clone());
    let x = graph.input("x", Spec::new([1, 6], DType::F64, Layout::new([by_column])))?;
    let energy = graph.apply("energy", Energy, &[x])?;
    graph.output("energy", energy)?;
    print!("{graph}");

    let numbers: Vec<f64> = (1..=6).map(f64::from).collect();
    let pieces = graph.spec(x).cut(&mesh, 0, &numbers.into())?;
    let ones = graph
        .spec(energy)
        .dual()?
        .cut(&mesh, 0, &vec![1.0].into())?;
    let named = |name: &str, pieces: Vec<Shard>| BTreeMap::from([(name.to_owned(), pieces)]);
    let sample = Sample {
        sources: named("x", pieces),
        seeds: named("energy", ones),
        ..Sample::default()
    };
    let run = perform(
        &graph,
        &Fabric::Threads(3),
        Delivery::AsTheyCome,
        &[sample],
        &["x"],
    )?;
    for pieces in run.cotangents.values() {
        let gradient = graph.spec(x).dual()?.join(&mesh, pieces)?;
        let numbers = gradient.get::<f64>().unwrap_or(&[]);
        println!("gradient of the energy = {numbers:?}, on 3 workers");
    }
    Ok(())
}
