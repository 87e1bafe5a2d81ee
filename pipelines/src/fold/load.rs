//! From samples to the pieces of the inputs of a graph on one worker.

use std::collections::{BTreeMap, BTreeSet};

use advect_engine::{Canonical, DType, Data, Graph, Shard, Spec};

use super::alignment::{Alignment, GAP};
use super::profile::Profile;
use super::sample::Sample;
use super::settings::Settings;
use super::structure::distances;

/// Samples of one micro-batch; `None` where there is none.
pub(crate) type Places = Vec<Option<Sample>>;

/// The inputs of a graph, and what of each this worker has.
pub(crate) struct Cuts(Vec<(String, Cut)>);

struct Cut {
    spec: Spec,
    /// Shape of the piece.
    shape: Vec<usize>,
    /// Places in the whole, by dimension; the first are samples.
    indices: Vec<Vec<usize>>,
}

/// The whole of an input for one sample.
#[derive(Debug)]
enum Numbers {
    Whole(Vec<i64>),
    Real(Vec<f64>),
}

impl Cuts {
    pub(crate) fn new(graph: &Graph, worker: usize) -> Self {
        let parameters: BTreeSet<&str> = graph.parameters().map(|(name, _)| name).collect();
        let inputs = graph
            .sources()
            .filter(|(name, _)| !parameters.contains(name));
        let cut = |(name, value): (&str, _)| {
            let (spec, mesh) = (graph.spec(value).clone(), graph.mesh());
            let cut = Cut {
                shape: spec.local_shape(mesh, worker),
                indices: spec.layout.indices(mesh, &spec.shape, worker),
                spec,
            };
            (name.to_owned(), cut)
        };
        Cuts(inputs.map(cut).collect())
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The pieces of a micro-batch, in the order of the names; what no piece needs is not made.
    pub(crate) fn pieces(
        &self,
        places: &Places,
        alignments: &[Alignment],
        settings: &Settings,
    ) -> Vec<Shard> {
        let here = self.0.iter().filter(|(_, cut)| !cut.shape.contains(&0));
        let needed: BTreeSet<usize> = here.flat_map(|(_, cut)| cut.indices[0].clone()).collect();
        let made = needed.into_iter().map(|place| {
            let sample = places.get(place).and_then(Option::as_ref);
            (place, self.numbers(sample, alignments, settings))
        });
        let made: BTreeMap<usize, Vec<Numbers>> = made.collect();
        let piece = |(input, (_, cut)): (usize, &(String, Cut))| cut.piece(input, &made);
        self.0.iter().enumerate().map(piece).collect()
    }

    /// The whole of every input for a sample.
    fn numbers(
        &self,
        sample: Option<&Sample>,
        alignments: &[Alignment],
        settings: &Settings,
    ) -> Vec<Numbers> {
        let extents = settings.extents();
        let alignment = sample.map(|sample| (sample, &alignments[sample.alignment]));
        let profiled = settings.model.prior.then_some(alignment).flatten();
        let inputs = profiled.map(|(sample, alignment)| {
            Profile::new(alignment, sample, extents).inputs(alignment, sample, extents)
        });
        let [mut features, mut prior] = inputs.map_or([None, None], |pair| pair.map(Some));
        let one = |(name, cut): &(String, Cut)| {
            let size: usize = cut.spec.shape[1..].iter().product();
            let none = || vec![0.0; size];
            match (name.as_str(), alignment) {
                ("features", _) => Numbers::Real(features.take().unwrap_or_else(none)),
                ("prior", _) => Numbers::Real(prior.take().unwrap_or_else(none)),
                ("tokens", Some((sample, _))) => {
                    Numbers::Whole(sample.tokens.iter().map(|t| i64::from(*t)).collect())
                }
                ("mask", Some((sample, _))) => {
                    let there = |at: usize| {
                        let (row, column) = (at / extents.length, at % extents.length);
                        i64::from(row < sample.rows.len() && column < sample.columns)
                    };
                    Numbers::Whole((0..size).map(there).collect())
                }
                ("mask", None) => Numbers::Whole(vec![0; size]),
                ("tokens", None) => Numbers::Whole(vec![i64::from(GAP); size]),
                ("targets", Some((sample, _))) => {
                    let number = |t: &Option<u8>| t.map_or(-1, i64::from);
                    Numbers::Whole(sample.targets.iter().map(number).collect())
                }
                ("distances", Some((sample, alignment))) => {
                    let bins = settings.model.bins;
                    Numbers::Whole(distances(alignment, sample, extents, bins))
                }
                // no sample has no target
                _ => Numbers::Whole(vec![-1; size]),
            }
        };
        self.0.iter().map(one).collect()
    }
}

impl Cut {
    fn piece(&self, input: usize, made: &BTreeMap<usize, Vec<Numbers>>) -> Shard {
        let (mut whole, mut real) = (Vec::new(), Vec::new());
        let inner = &self.spec.shape[1..];
        if !self.shape.contains(&0) {
            for place in &self.indices[0] {
                match made.get(place).map(|inputs| &inputs[input]) {
                    Some(Numbers::Whole(n)) => gather(n, inner, &self.indices[1..], &mut whole),
                    Some(Numbers::Real(x)) => gather(x, inner, &self.indices[1..], &mut real),
                    None => {}
                }
            }
        }
        let data: Data = match self.spec.dtype {
            DType::F32 => real.iter().map(|x| *x as f32).collect::<Vec<_>>().into(),
            DType::F64 => real.into(),
            DType::BF16 => {
                let rounded = real.iter().map(|x| half::bf16::from_f64(*x));
                rounded.collect::<Vec<_>>().into()
            }
            DType::Canonical => {
                let grid = real.iter().map(|x| Canonical(*x).on_grid());
                grid.collect::<Vec<_>>().into()
            }
            _ => whole.into(),
        };
        Shard::new(0, self.shape.clone(), data)
    }
}

/// The elements at these places of each dimension, in row-major order.
fn gather<T: Copy>(data: &[T], shape: &[usize], places: &[Vec<usize>], out: &mut Vec<T>) {
    let (Some((here, places)), Some((_, inner))) = (places.split_first(), shape.split_first())
    else {
        out.extend_from_slice(data);
        return;
    };
    let stride: usize = inner.iter().product();
    for &place in here {
        gather(&data[place * stride..][..stride], inner, places, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of each dimension, in their order.
    #[test]
    fn gathers_boxes() {
        let data: Vec<i64> = (0..24).collect();
        let mut out = Vec::new();
        gather(
            &data,
            &[2, 3, 4],
            &[vec![1], vec![0, 2], vec![1, 2]],
            &mut out,
        );
        assert_eq!(out, [13, 14, 21, 22]);
    }
}
