//! What was learned, as files: parameters under the names of the graph, and the extents of the model.

use std::collections::BTreeMap;
use std::path::Path;

use advect_engine::Shard;
use advect_operators::evoformer::Evoformer;

use crate::error::{PipelineError, Result};
use crate::training::whole::{single, write_model};

/// Writes whole parameters in single precision to `model.safetensors`, and the model to `config.json`, in `directory`.
///
/// # Errors
/// If the system refuses.
pub(super) fn write(
    model: &Evoformer,
    whole: &BTreeMap<String, Shard>,
    directory: &Path,
) -> Result<()> {
    let named = |(name, shard): (&String, &Shard)| {
        (name.clone(), shard.shape.clone(), single(shard.data()))
    };
    let tensors: Vec<_> = whole.iter().map(named).collect();
    let config = serde_json::to_string_pretty(model).map_err(std::io::Error::from);
    let mend = "choose another directory with --out";
    let config = config.map_err(PipelineError::file("write", directory, mend))?;
    write_model(directory, &tensors, &(config + "\n"))
}

#[cfg(test)]
mod tests {
    use advect_engine::DType;
    use advect_operators::network::Dropout;
    use advect_operators::transformer::Strategy;
    use safetensors::SafeTensors;

    use super::*;

    /// The files say all that the graph of inference needs: the model, and each of its parameters by name.
    #[test]
    fn a_model_survives_its_files() {
        let model = Evoformer {
            alphabet: 22,
            sequences: 3,
            length: 4,
            features: 2,
            prior: true,
            masked: true,
            blocks: 1,
            alignment: 4,
            pairs: 3,
            alignment_heads: 2,
            pair_heads: 1,
            head: 2,
            outer: 2,
            triangle: 2,
            transition: 2,
            max_relative_position: 2,
            bins: 3,
            distances_weight: 0.15,
            epsilon: 1e-5,
            dropout: Dropout { rate: 0.1, seed: 3 },
        };
        let alone = Strategy::alone();
        let made = model.train(1, DType::F64, &alone).expect("it fits");
        let mut next = 0.0;
        let mut number = || {
            next += 0.5;
            next
        };
        let parameter = |(name, value): (&str, _)| {
            let shape = made.graph.spec(value).shape.clone();
            let n = shape.iter().product::<usize>();
            let numbers: Vec<f64> = std::iter::repeat_with(&mut number).take(n).collect();
            (name.to_owned(), Shard::new(0, shape, numbers.into()))
        };
        let whole: BTreeMap<String, Shard> = made.graph.parameters().map(parameter).collect();
        let out = tempfile::tempdir().expect("a directory");
        let folder = out.path().join("model");
        write(&model, &whole, &folder).expect("it is written");
        let text = std::fs::read_to_string(folder.join("config.json")).expect("it is there");
        let read: Evoformer = serde_json::from_str(&text).expect("it is a model");
        assert_eq!(read, model);
        let bytes = std::fs::read(folder.join("model.safetensors")).expect("it is there");
        let file = SafeTensors::deserialize(&bytes).expect("it is whole");
        let inferred = read.infer(1, DType::F32, &alone).expect("it fits").graph;
        assert_eq!(file.names().len(), whole.len());
        for (name, value) in inferred.parameters() {
            let tensor = file.tensor(name).expect("it is there");
            assert_eq!(tensor.shape(), inferred.spec(value).shape, "{name}");
            let numbers: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
            let numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
            assert_eq!(numbers, whole[name].elements::<f64>(), "{name}");
        }
    }
}
