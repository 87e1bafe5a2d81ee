//! An operator on its way forward, for the first time or again.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Stream, StreamVec};
use timely::progress::frontier::MutableAntichain;

use crate::error::Result;
use crate::graph::admission::Entry;
use crate::graph::kept::{Held, Kept};
use crate::graph::{Moment, Operator, Saved, Site, Spec};
use crate::relayout::Batches;
use crate::shard::{Batch, Shard};

/// Messages from an operator to its own adjoint: what was kept, by key.
pub(crate) type Keeps<'s, T> = StreamVec<'s, T, (u64, Rc<Saved>)>;
type KeepsBuilder = CapacityContainerBuilder<Vec<(u64, Rc<Saved>)>>;

/// What comes to one input of an operator.
pub(crate) struct Port<'s, T: Moment> {
    pub(crate) stream: Stream<'s, T, Batch>,
    /// Whether it comes once a version.
    pub(crate) held: bool,
}

/// An operator on its way forward.
pub(crate) struct Work {
    pub(crate) operator: Arc<dyn Operator>,
    pub(crate) site: Site,
    /// Whether it works once a version, on parameters alone.
    pub(crate) held: bool,
    pub(crate) admission: Option<Entry>,
    /// How often it lets others go first when all has come for a moment: what is sent of that, leaves before.
    pub(crate) yields: u8,
    /// Which inputs its adjoint gets from here, if it gets anything: others are made again.
    pub(crate) gives: Option<Vec<bool>>,
    pub(crate) kept: Rc<Kept>,
}

/// Inputs of an operator at one moment and key.
struct Open<T: Moment> {
    /// One capability per output, the messages to the adjoint last.
    capabilities: Vec<Capability<T>>,
    parts: Vec<Option<Shard>>,
    /// What waits to be worked on again is kept for the way back.
    held: Vec<Held>,
    /// How often others went first.
    yielded: u8,
}

impl Work {
    /// Works when all inputs of a moment and key have come, with the parameters of their version, on one
    /// moment an activation, the first: so moments pass the graph one behind the other. And
    /// when something has come in `when`, if it is given: then moments for which nothing comes there are
    /// dropped.
    pub(crate) fn wire<'s, T: Moment>(
        self,
        mut ports: Vec<Port<'s, T>>,
        when: Option<Stream<'s, T, Batch>>,
    ) -> (Vec<Stream<'s, T, Batch>>, Keeps<'s, T>) {
        let scope = ports[0].stream.scope();
        let Work {
            operator,
            mut site,
            held,
            admission,
            yields,
            gives,
            kept,
        } = self;
        let (count, again) = (ports.len(), when.is_some());
        // what an operator computes may depend on its own name
        let name = match again {
            true => format!("{} again", site.name),
            false => site.name.clone(),
        };
        let mut builder = OperatorBuilder::new(name, scope);
        let wake = scope.activator_for(builder.operator_info().address);
        ports.extend(when.map(|stream| Port {
            stream,
            held: false,
        }));
        // a port holds when its messages serve many moments of this operator
        let holds: Vec<bool> = ports.iter().map(|port| port.held && !held).collect();
        let mut inputs: Vec<_> = ports
            .into_iter()
            .map(|port| builder.new_input(port.stream, Pipeline))
            .collect();
        let (mut outputs, mut streams) = (Vec::new(), Vec::new());
        for _ in 0..site.outputs.len() {
            let (output, stream) = builder.new_output::<Batch>();
            outputs.push(OutputBuilder::<_, Batches>::from(output));
            streams.push(stream);
        }
        let (keep, keeps) = builder.new_output::<Vec<(u64, Rc<Saved>)>>();
        let mut keep = OutputBuilder::<_, KeepsBuilder>::from(keep);
        builder.build(move |capabilities| {
            drop(capabilities);
            let mut open: BTreeMap<(T, u64), Open<T>> = BTreeMap::new();
            let mut versions: BTreeMap<(T, usize), Shard> = BTreeMap::new();
            move |frontiers: &[MutableAntichain<T>]| {
                for (port, input) in inputs.iter_mut().enumerate() {
                    input.for_each(|cap, batch| {
                        let Some(time) = cap.stamp().elements().first().cloned() else {
                            return;
                        };
                        for shard in batch.shards.drain(..) {
                            if holds[port] {
                                versions.insert((time.version(), port), shard);
                                continue;
                            }
                            let slot = if held {
                                (time.version(), 0)
                            } else {
                                (time.clone(), shard.key)
                            };
                            let entry = open.entry(slot).or_insert_with(|| Open {
                                capabilities: (0..=site.outputs.len())
                                    .map(|out| cap.delayed(&time, out))
                                    .collect(),
                                parts: vec![None; holds.len()],
                                held: Vec::new(),
                                yielded: 0,
                            });
                            if again && port < count {
                                entry.held.push(kept.hold(shard.bytes_len()));
                            }
                            entry.parts[port] = Some(shard);
                        }
                    });
                }
                // what nothing came for is not worked on again
                open.retain(|(time, _), entry| {
                    !again || entry.parts[count].is_some() || frontiers[count].less_equal(time)
                });
                if let Some(admission) = admission.as_ref().filter(|a| a.asks()) {
                    let comes = frontiers.iter().zip(&holds).filter(|(_, holds)| !**holds);
                    let comes =
                        comes.filter_map(|(f, _)| f.frontier().iter().map(T::coordinates).min());
                    let waits = open
                        .first_key_value()
                        .map(|((time, _), _)| time.coordinates());
                    admission.close(comes.chain(waits).min().unwrap_or([u64::MAX; 2]));
                }
                let (mut ready, mut more) = (None, false);
                for ((time, key), entry) in &open {
                    let mut complete = true;
                    for (port, holds) in holds.iter().enumerate() {
                        let here = match holds {
                            true => versions.contains_key(&(time.version(), port)),
                            false => entry.parts[port].is_some(),
                        };
                        if !here && !frontiers[port].less_equal(&time.last()) {
                            site.moment = time.coordinates();
                            site.key = *key;
                            let why =
                                format!("input {port} never came; feed every input of a moment");
                            panic!("{}", site.error(why));
                        }
                        complete &= here;
                    }
                    if complete {
                        more = ready.is_some();
                        ready.get_or_insert_with(|| (time.clone(), *key));
                    }
                    if more {
                        break;
                    }
                }
                if let Some(entry) = ready.as_ref().and_then(|slot| open.get_mut(slot))
                    && entry.yielded < yields
                {
                    entry.yielded += 1;
                    ready = None;
                    wake.activate();
                }
                // one moment, that what it makes flows on before the next is begun
                let first = ready.filter(|(time, key)| {
                    let slot = (time.coordinates(), *key);
                    admission.as_ref().is_none_or(|a| a.enter(slot, &wake))
                });
                if let Some((time, key)) = first
                    && let Some(entry) = open.remove(&(time.clone(), key))
                {
                    let slot = (time.coordinates(), key);
                    if more {
                        wake.activate();
                    }
                    let parts = entry.parts.into_iter().take(count).enumerate();
                    let shards: Vec<Shard> = parts
                        .filter_map(|(port, part)| {
                            part.or_else(|| versions.get(&(time.version(), port)).cloned())
                        })
                        .collect();
                    (site.moment, site.key) = (time.coordinates(), key);
                    let (made, mut saved) = run(&*operator, &site, &shards);
                    for ((mut shard, output), cap) in
                        made.into_iter().zip(&mut outputs).zip(&entry.capabilities)
                    {
                        shard.key = key;
                        output.activate().session(cap).give(shard);
                    }
                    if let Some(gives) = &gives {
                        saved.hold(operator.keeps(), &shards, |i| gives[i]);
                        saved.count(&kept);
                        let cap = &entry.capabilities[outputs.len()];
                        keep.activate().session(cap).give((key, Rc::new(saved)));
                    }
                    if let Some(admission) = &admission {
                        admission.pass(slot);
                    }
                }
                versions.retain(|(version, _), _| {
                    open.keys().any(|(time, _)| time.version() == *version)
                        || frontiers
                            .iter()
                            .zip(&holds)
                            .any(|(f, holds)| !holds && f.less_equal(&version.last()))
                });
            }
        });
        (streams, keeps)
    }
}

/// The forward pass of one operator with the checks that graphs owe to operators, and back.
///
/// # Panics
/// With the operator's name, place and reason: the fabric turns it into the error of the job.
fn run(operator: &dyn Operator, site: &Site, shards: &[Shard]) -> (Vec<Shard>, Saved) {
    match checked(operator, site, shards) {
        Ok(made) => made,
        Err(why) => panic!("{why}"),
    }
}

/// [`Operator::forward`] between pieces of the right shapes; nothing where the operator is not.
pub(crate) fn checked(
    operator: &dyn Operator,
    site: &Site,
    shards: &[Shard],
) -> Result<(Vec<Shard>, Saved)> {
    if site.absent {
        return Ok((site.nothing(), Saved::nothing()));
    }
    for (i, (shard, spec)) in shards.iter().zip(&site.inputs).enumerate() {
        spec.fits(
            &site.mesh,
            site.worker,
            shard,
            &format!("input {i} of {}", site.name),
        )?;
    }
    let (made, saved) = operator.forward(site, shards)?;
    expect(site, &site.outputs, &made, "output")?;
    Ok((made, saved))
}

/// An error unless an operator gave pieces of the expected shapes.
pub(crate) fn expect(site: &Site, specs: &[Spec], made: &[Shard], what: &str) -> Result<()> {
    if made.len() != specs.len() {
        return Err(site.error(format!(
            "it gave {} {what}s, not {}",
            made.len(),
            specs.len()
        )));
    }
    for (i, (shard, spec)) in made.iter().zip(specs).enumerate() {
        spec.fits(
            &site.mesh,
            site.worker,
            shard,
            &format!("{what} {i} of {}", site.name),
        )?;
    }
    Ok(())
}
