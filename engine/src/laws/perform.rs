//! Runs a graph and its adjoint on given tensors, over a fabric.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::{Inspect, Probe};

use crate::error::{EngineError, Result};
use crate::fabric::Fabric;
use crate::graph::{Graph, Kept, Streams, Wiring};
use crate::shard::Shard;
use crate::source::tensors;
use crate::time::Tick;

/// Pieces of tensors at one moment and key, by name and worker.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The moment.
    pub moment: Tick,
    /// The key.
    pub key: u64,
    /// Pieces of the sources; parameters at the first sample of a version.
    pub sources: BTreeMap<String, Vec<Shard>>,
    /// Pieces of the cotangents of outputs.
    pub seeds: BTreeMap<String, Vec<Shard>>,
}

/// What came out on the workers of this process.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Pieces of the outputs by name, moment and key, one per worker.
    pub outputs: BTreeMap<(String, Tick, u64), Vec<Shard>>,
    /// Pieces of the cotangents of sources, likewise.
    pub cotangents: BTreeMap<(String, Tick, u64), Vec<Shard>>,
    /// Per worker the most bytes that were kept for the adjoint at once.
    pub peak: Vec<usize>,
    /// Per worker the points of operators that were still kept at the end: 0.
    pub left: Vec<usize>,
}

type Found = Vec<(String, Tick, Shard)>;

/// Runs `graph` on `samples` and its adjoint with respect to the sources named in `wrt`.
///
/// # Errors
/// If the graph cannot be wired, or a worker fails.
pub fn perform(
    graph: &Graph,
    fabric: &Fabric,
    wiring: impl Into<Wiring>,
    samples: &[Sample],
    wrt: &[&str],
) -> Result<Outcome> {
    let wiring = wiring.into();
    let (graph, samples) = (Arc::new(graph.clone()), Arc::new(samples.to_vec()));
    let wrt: Vec<String> = wrt.iter().map(|&name| name.to_owned()).collect();
    let results = fabric.run(move |worker, context| {
        let outputs: Rc<RefCell<Found>> = Rc::default();
        let cotangents: Rc<RefCell<Found>> = Rc::default();
        let probe = ProbeHandle::new();
        let kept = worker.dataflow::<Tick, _, _>(|scope| -> Result<Rc<Kept>> {
            let names: Vec<String> = graph.sources().map(|(name, _)| name.to_owned()).collect();
            let feeds = names.into_iter().map(|name| {
                let shards = pick(&samples, context.index, |s| s.sources.get(&name));
                (name.clone(), tensors(scope, &name, shards))
            });
            let wired = graph.wire_with(feeds.collect(), wiring)?;
            collect(wired.outputs(), &outputs, &probe);
            if !wrt.is_empty() {
                let seeded: Vec<String> = graph.outputs().map(|(n, _)| n.to_owned()).collect();
                let seeds: Streams<'_, Tick> = seeded
                    .into_iter()
                    .filter(|name| samples.iter().any(|s| s.seeds.contains_key(name)))
                    .map(|name| {
                        let shards = pick(&samples, context.index, |s| s.seeds.get(&name));
                        (name.clone(), tensors(scope, &name, shards))
                    })
                    .collect();
                let names: Vec<&str> = wrt.iter().map(String::as_str).collect();
                collect(graph.backward(&wired, seeds, &names)?, &cotangents, &probe);
            }
            Ok(wired.kept())
        });
        let kept = kept.map_err(|e| e.to_string())?;
        context.drive(worker, || !probe.done());
        Ok::<_, String>((
            outputs.take(),
            cotangents.take(),
            kept.peak(),
            kept.points(),
        ))
    })?;
    let mut outcome = Outcome::default();
    for result in results {
        let (outputs, cotangents, peak, left) = result.map_err(|why| EngineError::Operator {
            operator: "the graph".to_owned(),
            why,
        })?;
        for (found, into) in [
            (outputs, &mut outcome.outputs),
            (cotangents, &mut outcome.cotangents),
        ] {
            for (name, moment, shard) in found {
                into.entry((name, moment, shard.key))
                    .or_insert_with(Vec::new)
                    .push(shard);
            }
        }
        outcome.peak.push(peak);
        outcome.left.push(left);
    }
    Ok(outcome)
}

/// The pieces of one name on one worker, with their moments and keys.
fn pick<'a>(
    samples: &'a [Sample],
    worker: usize,
    of: impl Fn(&'a Sample) -> Option<&'a Vec<Shard>>,
) -> Vec<(Tick, Shard)> {
    let pieces = samples
        .iter()
        .filter_map(|s| Some((s, of(s)?.get(worker)?.clone())));
    pieces
        .map(|(s, mut shard)| {
            shard.key = s.key;
            (s.moment, shard)
        })
        .collect()
}

fn collect(streams: Streams<'_, Tick>, into: &Rc<RefCell<Found>>, probe: &ProbeHandle<Tick>) {
    for (name, stream) in streams {
        let into = Rc::clone(into);
        let seen = stream.inspect_core(move |event| {
            if let Ok((stamp, batch)) = event {
                let moment = stamp.elements().first().copied().unwrap_or_default();
                let found = batch
                    .shards
                    .iter()
                    .map(|s| (name.clone(), moment, s.clone()));
                into.borrow_mut().extend(found);
            }
        });
        seen.probe_with(probe);
    }
}
