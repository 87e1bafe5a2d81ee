//! What was learned, whole: gathered on one worker, and as files.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::rc::Rc;

use advect_engine::graph::Streams;
use advect_engine::{Data, Shard, Tick};
use advect_operators::training::Trainable;
use safetensors::tensor::{Dtype, TensorView};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::{Inspect, Probe};

use crate::error::{PipelineError, Result};

const MEND: &str = "choose another directory with --out";

/// Parameters as they come, by name.
pub(crate) type Whole = Rc<RefCell<BTreeMap<String, Shard>>>;

/// Keeps the parameters of `versions` in `whole`, on the worker that they are gathered on.
///
/// # Errors
/// If a parameter has no stream.
pub(crate) fn keep_whole<'s>(
    trainable: &Trainable,
    versions: Streams<'s, Tick>,
    whole: &Whole,
    probe: &ProbeHandle<Tick>,
) -> advect_engine::Result<()> {
    for (name, stream) in trainable.gather(versions)? {
        let whole = Rc::clone(whole);
        let seen = stream.inspect_core(move |event| {
            if let Ok((_, batch)) = event {
                for shard in &batch.shards {
                    whole.borrow_mut().insert(name.clone(), shard.clone());
                }
            }
        });
        seen.probe_with(probe);
    }
    Ok(())
}

/// Numbers in single precision.
pub(crate) fn single(data: &Data) -> Vec<f32> {
    let doubles = data.doubles().unwrap_or_default();
    doubles.into_iter().map(|x| x as f32).collect()
}

/// A tensor of a file: name, shape, and numbers in single precision.
pub(crate) type Named = (String, Vec<usize>, Vec<f32>);

/// Writes `model.safetensors`, and `config` to `config.json`, in `directory`.
///
/// # Errors
/// If the system refuses.
pub(crate) fn write_model(directory: &Path, tensors: &[Named], config: &str) -> Result<()> {
    let path = directory.join("model.safetensors");
    let failed = |e: io::Error| PipelineError::file("write", &path, MEND)(e);
    let other = |e: safetensors::SafeTensorError| match e {
        safetensors::SafeTensorError::IoError(source) => source,
        other => io::Error::other(other.to_string()),
    };
    let views = tensors.iter().map(|(name, shape, numbers)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(numbers));
        view.map(|view| (name.as_str(), view))
    });
    let views: Vec<_> = views
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| failed(other(e)))?;
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    std::fs::create_dir_all(directory).map_err(failed)?;
    safetensors::serialize_to_file(views, Some(format), &path).map_err(|e| failed(other(e)))?;
    let path = directory.join("config.json");
    std::fs::write(&path, config).map_err(PipelineError::file("write", &path, MEND))
}
