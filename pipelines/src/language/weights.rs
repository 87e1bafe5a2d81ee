//! Weights under the names of Hugging Face's `transformers`, in a file of safetensors: written after the
//! last step, and read to begin from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use advect_engine::{DType, Data, EngineError, Mesh, Shard, Spec};
use advect_operators::training::Start;
use advect_operators::transformer::Gpt;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

use super::names::{Family, Theirs};
use crate::error::{PipelineError, Result};
use crate::training::whole::{single, write_model};

/// Bytes that a file may have beside its numbers.
const LONGEST: u64 = 100_000_000;

/// Whole parameters by name, in single precision.
pub(super) type Weights = BTreeMap<String, Vec<f32>>;

/// Writes `model.safetensors` and `config.json` of a model of a family into `directory`; of another model
/// nothing.
///
/// # Errors
/// If the system refuses.
pub(super) fn write(gpt: &Gpt, whole: &BTreeMap<String, Shard>, directory: &Path) -> Result<()> {
    let Some(family) = Family::of(gpt) else {
        return Ok(());
    };
    let weights: Weights = whole
        .iter()
        .map(|(name, shard)| (name.clone(), single(shard.data())))
        .collect();
    let named = |theirs: &Theirs| {
        let numbers = gather(theirs, &weights).ok_or_else(|| missing(&theirs.name))?;
        Ok((theirs.name.clone(), theirs.shape(), numbers))
    };
    let tensors = family.tensors(gpt);
    let tensors: std::io::Result<Vec<_>> = tensors.iter().map(named).collect();
    let mend = "choose another directory with --out";
    let tensors = tensors.map_err(PipelineError::file("write", directory, mend))?;
    write_model(directory, &tensors, &format!("{:#}\n", family.config(gpt)))
}

/// Reads the weights of a model from a file with the names of its family.
///
/// # Errors
/// If the model is of no family, the file cannot be read or is no safetensors, or a tensor is missing or
/// has other extents: with its name.
pub(super) fn read(gpt: &Gpt, path: &Path) -> Result<Weights> {
    let wrong = |why: String| PipelineError::Data {
        name: path.display().to_string(),
        why,
        mend:
            "give the weights of a model with these settings, with the names of GPT-2 or Llama in \
               transformers"
                .to_owned(),
    };
    let family = Family::of(gpt).ok_or_else(|| {
        wrong("the model is neither a GPT-2 (norm layer, positions learned, biases, tied, gelu) nor a \
               Llama (norm rms, positions rotary, no biases, swiglu)"
            .to_owned())
    })?;
    let mend = "name a file of safetensors in model.weights";
    let failed = || PipelineError::file("read", path, mend);
    let known = std::fs::metadata(path).map_err(failed())?;
    if !known.is_file() {
        return Err(wrong("it is no file".to_owned()));
    }
    if known.len() > 8 * gpt.parameters() as u64 + LONGEST {
        let (bytes, most) = (known.len(), gpt.parameters());
        return Err(wrong(format!(
            "it has {bytes} bytes, and the model {most} parameters"
        )));
    }
    agrees(family, gpt, path).map_err(wrong)?;
    let bytes = std::fs::read(path).map_err(failed())?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
    let (mut weights, mut taken) = (Weights::new(), BTreeSet::new());
    for theirs in family.tensors(gpt) {
        // files of the model without its head leave the prefix out
        let bare = theirs.name.trim_start_matches("transformer.");
        let found = [theirs.name.as_str(), bare]
            .into_iter()
            .find_map(|name| Some((name, file.tensor(name).ok()?)));
        let (name, view) =
            found.ok_or_else(|| wrong(format!("it has no tensor '{}'", theirs.name)))?;
        taken.insert(name.to_owned());
        if view.shape() != theirs.shape() {
            let (name, shape, want) = (&theirs.name, view.shape(), theirs.shape());
            return Err(wrong(format!("'{name}' is {shape:?}, not {want:?}")));
        }
        let numbers = numbers(&view)
            .ok_or_else(|| wrong(format!("'{}' is {:?}", theirs.name, view.dtype())))?;
        if numbers.iter().any(|x| !x.is_finite()) {
            return Err(wrong(format!("'{}' holds what is no number", theirs.name)));
        }
        scatter(&theirs, &numbers, &mut weights);
    }
    let table = || file.tensor(family.table());
    for (name, view) in file.iter().filter(|(name, _)| !taken.contains(*name)) {
        // a tied head may stand beside its table
        let tied = name == "lm_head.weight" && table().is_ok_and(|t| t.data() == view.data());
        if !family.ignores(name) && !tied {
            return Err(wrong(format!("it has '{name}', which this model has not")));
        }
    }
    Ok(weights)
}

/// Whether what `config.json` beside a file says of a model is what this one is: heads, and the constants of
/// norms and positions, do not show in the extents of tensors.
fn agrees(family: Family, gpt: &Gpt, path: &Path) -> std::result::Result<(), String> {
    let Ok(text) = std::fs::read_to_string(path.with_file_name("config.json")) else {
        return Ok(());
    };
    let theirs: Value =
        serde_json::from_str(&text).map_err(|e| format!("config.json beside it: {e}"))?;
    let ours = family.config(gpt);
    let told = [
        "architectures",
        "n_positions",
        "max_position_embeddings",
        "tie_word_embeddings",
    ];
    let pairs = ours.as_object().into_iter().flatten();
    for (key, ours) in pairs.filter(|(key, _)| !told.contains(&key.as_str())) {
        let same = match (ours.as_f64(), theirs.get(key).and_then(Value::as_f64)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => theirs.get(key) == Some(ours),
        };
        if theirs.get(key).is_some_and(|theirs| !theirs.is_null()) && !ours.is_null() && !same {
            let theirs = &theirs[key];
            return Err(format!(
                "config.json beside it has `{key}` {theirs}, and this model {ours}"
            ));
        }
    }
    Ok(())
}

/// What `worker` of `mesh` begins from: these weights, and no past of the optimizer.
pub(super) fn start(weights: &Arc<Weights>, mesh: &Mesh, worker: usize) -> Start {
    let (weights, mesh) = (Arc::clone(weights), mesh.clone());
    Start {
        steps: 0,
        // before the first step the optimizer has no past to be read
        read: Rc::new(move |parameter, _, spec| piece(&weights, parameter, spec, &mesh, worker)),
    }
}

fn piece(
    weights: &Weights,
    parameter: &str,
    spec: &Spec,
    mesh: &Mesh,
    worker: usize,
) -> advect_engine::Result<Data> {
    let numbers = weights
        .get(parameter)
        .ok_or_else(|| EngineError::Operator {
            operator: format!("Start on worker {worker}"),
            why: format!("there are no weights of '{parameter}'"),
        })?;
    let doubles = || numbers.iter().map(|x| f64::from(*x));
    let whole: Data = match spec.dtype {
        DType::F32 => numbers.clone().into(),
        DType::Canonical => doubles()
            .map(advect_engine::Canonical)
            .collect::<Vec<_>>()
            .into(),
        _ => doubles().collect::<Vec<_>>().into(),
    };
    let piece = spec.cut(mesh, 0, &whole)?.swap_remove(worker);
    Ok(piece.into_data())
}

fn numbers(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => bytemuck::pod_collect_to_vec(bytes),
        Dtype::F16 => each(bytes, f16::to_f32),
        Dtype::BF16 => each(bytes, bf16::to_f32),
        _ => return None,
    })
}

fn each<E: bytemuck::Pod>(bytes: &[u8], to: impl Fn(E) -> f32) -> Vec<f32> {
    let numbers: Vec<E> = bytemuck::pod_collect_to_vec(bytes);
    numbers.into_iter().map(to).collect()
}

/// A tensor of theirs from ours.
fn gather(theirs: &Theirs, ours: &Weights) -> Option<Vec<f32>> {
    let mut numbers = vec![0.0; theirs.rows.unwrap_or(1) * theirs.columns()];
    let mut whole = true;
    visit(theirs, |name, there, at| {
        match ours.get(name).and_then(|part| part.get(at)) {
            Some(number) => numbers[there] = *number,
            None => whole = false,
        }
    });
    whole.then_some(numbers)
}

fn missing(name: &str) -> std::io::Error {
    std::io::Error::other(format!("what '{name}' is made of is not there"))
}

/// The parts of a tensor of theirs into ours.
fn scatter(theirs: &Theirs, numbers: &[f32], ours: &mut Weights) {
    for part in &theirs.parts {
        ours.entry(part.ours.clone())
            .or_insert_with(|| vec![0.0; theirs.rows.unwrap_or(1) * part.of]);
    }
    visit(theirs, |name, there, at| {
        if let Some(part) = ours.get_mut(name) {
            part[at] = numbers[there];
        }
    });
}

/// Calls `each` with the name of ours, the place in theirs and the place in ours of every element.
fn visit(theirs: &Theirs, mut each: impl FnMut(&str, usize, usize)) {
    let (rows, columns) = (theirs.rows.unwrap_or(1), theirs.columns());
    let mut first = 0;
    for part in &theirs.parts {
        for row in 0..rows {
            for (j, column) in part.columns.clone().enumerate() {
                let there = match theirs.transposed {
                    true => (first + j) * rows + row,
                    false => row * columns + first + j,
                };
                each(&part.ours, there, row * part.of + column);
            }
        }
        first += part.columns.len();
    }
}

#[cfg(test)]
mod tests {
    use advect_operators::transformer::{Activation, Strategy, Style};

    use super::*;

    fn model(style: Style, activation: Activation, groups: usize) -> Gpt {
        Gpt {
            vocabulary: 11,
            context: 5,
            layers: 2,
            width: 12,
            heads: 4,
            groups,
            head: if style.biases { 3 } else { 6 },
            hidden: 7,
            activation,
            style,
        }
    }

    fn models() -> [Gpt; 3] {
        let tied = Style {
            tied: true,
            ..Style::LLAMA
        };
        [
            model(Style::GPT2, Activation::Gelu, 4),
            model(Style::LLAMA, Activation::Swiglu, 2),
            model(tied, Activation::Swiglu, 4),
        ]
    }

    /// Numbers that only one element of one parameter has.
    fn weights(gpt: &Gpt) -> BTreeMap<String, Shard> {
        let made = gpt
            .train(1, DType::F32, &Strategy::alone())
            .expect("it fits");
        let mut next = 0;
        let mut parameter = |(name, value): (&str, _)| {
            let shape = made.graph.spec(value).shape.clone();
            let n = shape.iter().product::<usize>();
            let numbers: Vec<f32> = (next..next + n).map(|i| i as f32).collect();
            next += n;
            (name.to_owned(), Shard::new(0, shape, numbers.into()))
        };
        made.graph.parameters().map(&mut parameter).collect()
    }

    /// What was written is read: every element of every parameter, and nothing is left over.
    #[test]
    fn weights_survive_their_file() {
        for gpt in models() {
            let out = tempfile::tempdir().expect("a directory");
            let whole = weights(&gpt);
            write(&gpt, &whole, out.path()).expect("it is written");
            let path = out.path().join("model.safetensors");
            let read = read(&gpt, &path).expect("it is read");
            assert_eq!(read.len(), whole.len());
            let mut elements = 0;
            for (name, numbers) in &read {
                assert_eq!(numbers, whole[name].elements::<f32>(), "{name}");
                elements += numbers.len();
            }
            assert_eq!(elements, gpt.parameters());
            let strategy: Strategy = "tensor 2, zero-1 2".parse().expect("a mesh");
            let cut = gpt.train(2, DType::F32, &strategy).expect("it fits");
            let weights = Arc::new(read);
            for (name, value) in cut.graph.parameters() {
                let (spec, mesh) = (cut.graph.spec(value), cut.graph.mesh());
                let pieces: Vec<Shard> = (0..4)
                    .map(|w| {
                        let data = (start(&weights, mesh, w).read)(name, None, spec);
                        Shard::new(0, spec.local_shape(mesh, w), data.expect("it is there"))
                    })
                    .collect();
                assert_eq!(
                    spec.join(mesh, &pieces).expect("it fits"),
                    *whole[name].data()
                );
            }
        }
    }

    /// A file of another model says which tensor differs, a cut one that it is cut.
    #[test]
    fn refuse_other_weights() {
        let [gpt2, llama, _] = models();
        let out = tempfile::tempdir().expect("a directory");
        write(&gpt2, &weights(&gpt2), out.path()).expect("it is written");
        let path = out.path().join("model.safetensors");
        let said = |gpt: &Gpt| read(gpt, &path).expect_err("another").to_string();
        let fewer = Gpt {
            heads: 2,
            groups: 2,
            head: 6,
            ..gpt2.clone()
        };
        assert!(
            said(&fewer).contains("`n_head` 4, and this model 2"),
            "{}",
            said(&fewer)
        );
        std::fs::remove_file(out.path().join("config.json")).expect("it is there");
        assert!(said(&llama).contains("model.embed_tokens.weight"));
        let wider = Gpt {
            hidden: 8,
            ..gpt2.clone()
        };
        assert!(said(&wider).contains("'transformer.h.0.mlp.c_fc.weight' is [12, 7], not [12, 8]"));
        let other = Gpt {
            activation: Activation::Silu,
            ..gpt2.clone()
        };
        assert!(said(&other).contains("neither"));
        let shallow = Gpt {
            layers: 1,
            ..gpt2.clone()
        };
        assert!(said(&shallow).contains("which this model has not"));
        let bytes = std::fs::read(&path).expect("it is there");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("it is cut");
        assert!(said(&gpt2).contains("model.safetensors"));
    }
}
