//! Checkpoints of a training job as dataflow: every worker writes what it owns while training goes on,
//! and worker 0 seals them.
//!
//! ```text
//! snapshots ──► Part (a thread writes) ──► receipts to worker 0 ──► Seal (the manifest, renamed)
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use advect_connectors::ConnectorError;
use advect_connectors::checkpoint::{
    Checkpoint, Manifest, Part, Piece, Progress, Region, at_step, keep_last, steps, write_part,
};
use advect_engine::{Data, EngineError, Mesh, Spec, Tick};
use advect_operators::training::{Held, Snapshot, Start};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;

use crate::error::{PipelineError, Result};
use crate::pipeline::Run;

/// When checkpoints are written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Steps from one to the next; 0 writes none.
    pub(crate) every: u64,
    /// How many are kept.
    pub(crate) keep: usize,
    /// The directory of a checkpoint to begin from; empty begins anew.
    pub(crate) from: String,
}

/// Where checkpoints of a run lie.
pub(crate) fn directory(run: &Run) -> PathBuf {
    run.result("checkpoints")
}

/// The checkpoint that a run begins from, if it does not begin anew.
///
/// # Errors
/// If there is none where one is asked for, it is damaged, or the run would begin anew over others.
pub(crate) fn begin(run: &Run, settings: &Settings) -> Result<Option<Arc<Checkpoint>>> {
    let directory = directory(run);
    let last = steps(&directory)?.pop();
    let from = match (run.resume, last) {
        (true, Some(step)) => at_step(&directory, step),
        (true, None) => {
            return Err(PipelineError::Usage {
                what: "--resume".to_owned(),
                why: format!("there is no checkpoint in {}", directory.display()),
                mend: "begin without it, or name the directory of the run with --out".to_owned(),
            });
        }
        (false, Some(step)) => {
            return Err(PipelineError::Usage {
                what: directory.display().to_string(),
                why: format!("it holds a checkpoint after {step} steps, and this run begins anew"),
                mend: "go on from it with --resume, or choose another directory with --out"
                    .to_owned(),
            });
        }
        (false, None) if settings.from.is_empty() => return Ok(None),
        (false, None) => PathBuf::from(&settings.from),
    };
    Ok(Some(Arc::new(Checkpoint::open(&from)?)))
}

/// Name of a tensor in a checkpoint: that of its parameter, and which state of it.
fn name(parameter: &str, slot: Option<&str>) -> String {
    match slot {
        Some(slot) => format!("{parameter}@{slot}"),
        None => parameter.to_owned(),
    }
}

/// The box of a tensor that `worker` has: what is stored is not dealt out in chunks or stripes, as positions
/// in attention may be.
fn region(spec: &Spec, mesh: &Mesh, worker: usize) -> Region {
    let owned = spec.layout.owned(mesh, &spec.shape, worker);
    debug_assert!(owned.iter().all(|runs| runs.len() < 2), "{spec}");
    let box_of = owned
        .into_iter()
        .map(|runs| runs.into_iter().next().unwrap_or(0..0));
    let (start, extent) = box_of.map(|run| (run.start, run.len())).unzip();
    Region { start, extent }
}

/// What `worker` of `mesh` goes on from.
pub(crate) fn start(checkpoint: &Arc<Checkpoint>, mesh: &Mesh, worker: usize) -> Start {
    let (checkpoint, mesh) = (Arc::clone(checkpoint), mesh.clone());
    Start {
        steps: checkpoint.progress().step,
        read: Rc::new(move |parameter, slot, spec| {
            let region = region(spec, &mesh, worker);
            if region.is_empty() {
                return Ok(Data::zeros(spec.dtype, 0));
            }
            let name = name(parameter, slot);
            let read = checkpoint.read(&name, spec.dtype, &spec.shape, &region);
            read.map_err(|e| EngineError::Operator {
                operator: format!("Start on worker {worker}"),
                why: e.to_string(),
            })
        }),
    }
}

/// The pieces of a snapshot that `worker` writes: of equal copies the first.
fn pieces(held: &[Held], mesh: &Mesh, worker: usize) -> Vec<Piece> {
    let mine = (held.iter()).filter(|held| held.spec.layout.counts(mesh, worker));
    mine.map(|held| Piece {
        name: name(&held.name, held.slot),
        shape: held.spec.shape.clone(),
        region: region(&held.spec, mesh, worker),
        data: held.data.clone(),
    })
    .collect()
}

/// What is told of a part, to worker 0.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Receipt {
    steps: u64,
    part: Part,
}

/// A part that is being written, and the right to tell of it.
type Writing = (
    u64,
    Capability<Tick>,
    Receiver<std::result::Result<Part, ConnectorError>>,
);

/// Writes `snapshots` below `directory`, and keeps the last `keep`. `progress` says what is said of a
/// number of steps. Gives, on worker 0, the steps of every checkpoint when it is whole.
///
/// # Panics
/// In an operator, with the file and the reason, if a part or a manifest cannot be written: the job ends
/// with it, and the checkpoint before stays whole.
pub(crate) fn write<'s>(
    snapshots: StreamVec<'s, Tick, Snapshot>,
    mesh: &Mesh,
    directory: &Path,
    keep: usize,
    progress: impl Fn(u64) -> Progress + 'static,
) -> StreamVec<'s, Tick, u64> {
    let scope = snapshots.scope();
    let (worker, peers) = (scope.index(), scope.peers());
    let (mesh, place) = (mesh.clone(), directory.to_owned());
    let parts = snapshots.unary::<CapacityContainerBuilder<Vec<Receipt>>, _, _, _>(
        Pipeline,
        "Checkpoint: part",
        move |_, info| {
            let wake = scope.worker().sync_activator_for(info.address.to_vec());
            let mut writing: Vec<Writing> = Vec::new();
            move |input, output| {
                input.for_each(|cap, data| {
                    let Some(&time) = cap.stamp().elements().first() else {
                        return;
                    };
                    for Snapshot { steps, held } in data.drain(..) {
                        let pieces = pieces(&held, &mesh, worker);
                        let (tell, told) = channel();
                        let (place, wake) = (at_step(&place, steps), wake.clone());
                        std::thread::spawn(move || {
                            // the receiver is gone only if the job has ended
                            let _ = tell.send(write_part(&place, worker, &pieces));
                            let _ = wake.activate();
                        });
                        writing.push((steps, cap.delayed(&time, 0), told));
                    }
                });
                writing.retain(|(steps, cap, told)| match told.try_recv() {
                    Ok(Ok(part)) => {
                        let receipt = Receipt {
                            steps: *steps,
                            part,
                        };
                        output.session(cap).give(receipt);
                        false
                    }
                    Ok(Err(e)) => panic!("{}", stopped(worker, &e)),
                    Err(_) => true,
                });
            }
        },
    );
    let place = directory.to_owned();
    let route = Exchange::new(|_: &Receipt| 0);
    parts.unary::<CapacityContainerBuilder<Vec<u64>>, _, _, _>(route, "Checkpoint: seal", |_, _| {
        let mut open: BTreeMap<u64, Vec<Part>> = BTreeMap::new();
        move |input, output| {
            input.for_each(|cap, data| {
                for Receipt { steps, part } in data.drain(..) {
                    let parts = open.entry(steps).or_default();
                    parts.push(part);
                    if parts.len() < peers {
                        continue;
                    }
                    let parts = open.remove(&steps).unwrap_or_default();
                    let sealed = Manifest::new(progress(steps), parts)
                        .and_then(|manifest| manifest.commit(&at_step(&place, steps)))
                        .and_then(|()| keep_last(&place, keep));
                    if let Err(e) = sealed {
                        panic!("{}", stopped(0, &e));
                    }
                    output.session(&cap).give(steps);
                }
            });
        }
    })
}

fn stopped(worker: usize, why: &ConnectorError) -> EngineError {
    EngineError::Operator {
        operator: format!("Checkpoint on worker {worker}"),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests;
