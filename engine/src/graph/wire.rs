//! The forward dataflow of a graph: one timely operator for each operator, two for each step of a
//! relayout.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Stream, StreamVec};
use timely::progress::frontier::MutableAntichain;

use crate::error::{EngineError, Result};
use crate::graph::admission::Admission;
use crate::graph::build::Kind;
use crate::graph::{Delivery, Graph, Moment, Operator, Saved, Site, Value};
use crate::relayout::{Batches, relayout};
use crate::shard::{Batch, Shard};

/// Streams by the name of the tensor they carry.
pub type Streams<'s, T> = BTreeMap<String, Stream<'s, T, Batch>>;

/// Messages from an operator to its own adjoint: what was kept, by key.
pub(crate) type Keeps<'s, T> = StreamVec<'s, T, (u64, Rc<Saved>)>;
type KeepsBuilder = CapacityContainerBuilder<Vec<(u64, Rc<Saved>)>>;

/// Bytes of tensors that wait on this worker for their cotangents, counted as they come and go.
#[derive(Debug, Default)]
pub struct Kept {
    now: Cell<usize>,
    peak: Cell<usize>,
    points: Cell<usize>,
}

impl Kept {
    /// Bytes that are kept now.
    pub fn bytes(&self) -> usize {
        self.now.get()
    }

    /// The most bytes that were kept at once.
    pub fn peak(&self) -> usize {
        self.peak.get()
    }

    /// Number of points of operators that are kept now, those without tensors included.
    pub fn points(&self) -> usize {
        self.points.get()
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.now.set(self.now.get() + bytes);
        self.peak.set(self.peak.get().max(self.now.get()));
        self.points.set(self.points.get() + 1);
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.now.set(self.now.get() - bytes);
        self.points.set(self.points.get() - 1);
    }
}

impl From<Delivery> for Wiring {
    fn from(delivery: Delivery) -> Self {
        Wiring {
            delivery,
            ..Wiring::default()
        }
    }
}

/// A graph as a forward dataflow, ready to be mirrored by [`Graph::backward`].
pub struct Wired<'s, T: Moment> {
    pub(crate) values: Vec<Stream<'s, T, Batch>>,
    /// Per node the messages to its adjoint.
    pub(crate) keeps: Vec<Option<Keeps<'s, T>>>,
    pub(crate) delivery: Delivery,
    pub(crate) admission: Rc<Admission>,
    outputs: Vec<(String, Value)>,
    kept: Rc<Kept>,
}

/// How a graph is wired.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wiring {
    /// In which order messages are delivered: a test of determinism.
    pub delivery: Delivery,
    /// The most moments (and keys) that a worker has in work at once, forward and backward; `None`
    /// takes what comes. Sources then give moments in one order, the same on every worker.
    pub in_flight: Option<usize>,
}

impl<'s, T: Moment> Wired<'s, T> {
    /// The stream of a value.
    pub fn stream(&self, value: Value) -> Stream<'s, T, Batch> {
        self.values[value.0].clone()
    }

    /// The streams of the outputs.
    pub fn outputs(&self) -> Streams<'s, T> {
        self.outputs
            .iter()
            .map(|(name, v)| (name.clone(), self.stream(*v)))
            .collect()
    }

    /// What waits on this worker for cotangents.
    pub fn kept(&self) -> Rc<Kept> {
        Rc::clone(&self.kept)
    }
}

impl Graph {
    /// Wires the graph forward. Each worker gives, for every source, its own piece: of inputs one
    /// per moment and key, of parameters one per version.
    ///
    /// # Errors
    /// If a source has no stream, a stream no source, or the mesh is not of all workers.
    pub fn wire<'s, T: Moment>(&self, feeds: Streams<'s, T>) -> Result<Wired<'s, T>> {
        self.wire_with(feeds, Wiring::default())
    }

    /// [`Graph::wire`], in another way.
    ///
    /// # Errors
    /// As [`Graph::wire`].
    pub fn wire_with<'s, T: Moment>(
        &self,
        mut feeds: Streams<'s, T>,
        wiring: Wiring,
    ) -> Result<Wired<'s, T>> {
        let known: BTreeSet<&str> = self.sources().map(|(name, _)| name).collect();
        if let Some(name) = feeds.keys().find(|name| !known.contains(name.as_str())) {
            return Err(unknown(name, &known));
        }
        let mut wired = Wired {
            values: Vec::new(),
            keeps: Vec::new(),
            delivery: wiring.delivery,
            admission: Rc::new(Admission::new(wiring.in_flight.unwrap_or(usize::MAX))),
            outputs: self
                .outputs()
                .map(|(name, v)| (name.to_owned(), v))
                .collect(),
            kept: Rc::new(Kept::default()),
        };
        for (at, node) in self.nodes.iter().enumerate() {
            let mut keeps = None;
            match &node.kind {
                Kind::Source { .. } => {
                    let feed = feeds
                        .remove(&node.name)
                        .ok_or_else(|| EngineError::Operator {
                            operator: node.name.clone(),
                            why: "the source has no stream; feed it when the graph is wired".into(),
                        })?;
                    self.covers(feed.scope().peers())?;
                    wired.values.push(feed);
                }
                Kind::Relayout { there, .. } => {
                    let edge = wired.edge(node.inputs[0], at, 0);
                    wired.values.push(relayout(edge, there));
                }
                Kind::Apply(operator) => {
                    let streams = node.inputs.iter().enumerate();
                    let ports: Vec<_> = streams
                        .map(|(i, &v)| (wired.edge(v, at, i), self.values[v.0].held))
                        .collect();
                    let Some((first, _)) = ports.first() else {
                        continue;
                    };
                    let site = self.site(node, first.scope().index());
                    let work = Work {
                        operator: Arc::clone(operator),
                        held: self.held(node),
                        admission: wired.admission.of(&site, self.held(node)),
                        site,
                    };
                    let (outputs, kept) = work.wire(ports);
                    wired.values.extend(outputs);
                    keeps = Some(kept);
                }
            }
            wired.keeps.push(keeps);
        }
        Ok(wired)
    }

    fn covers(&self, workers: usize) -> Result<()> {
        if self.mesh.workers() == workers {
            return Ok(());
        }
        Err(EngineError::Layout {
            layout: format!("mesh {:?} {:?}", self.mesh.names(), self.mesh.sizes()),
            why: format!(
                "it has {} workers and the fabric {workers}; make them equal",
                self.mesh.workers()
            ),
        })
    }
}

impl<'s, T: Moment> Wired<'s, T> {
    /// The stream of a value on its way to input `port` of node `at`.
    fn edge(&self, value: Value, at: usize, port: usize) -> Stream<'s, T, Batch> {
        self.delivery
            .deliver(self.stream(value), (at as u64) << 8 | port as u64)
    }
}

pub(crate) fn unknown(name: &str, known: &BTreeSet<&str>) -> EngineError {
    EngineError::Operator {
        operator: name.to_owned(),
        why: format!("there is no such tensor in the graph; there are {known:?}"),
    }
}

/// Inputs of an operator at one moment and key.
struct Open<T: Moment> {
    /// One capability per output, the messages to the adjoint last.
    capabilities: Vec<Capability<T>>,
    parts: Vec<Option<Shard>>,
}

/// An operator on its way forward.
struct Work {
    operator: Arc<dyn Operator>,
    site: Site,
    /// Whether it works once a version, on parameters alone.
    held: bool,
    admission: Option<Rc<Admission>>,
}

impl Work {
    /// Works when all inputs of a moment and key have come, with the parameters of their version.
    fn wire<'s, T: Moment>(
        self,
        ports: Vec<(Stream<'s, T, Batch>, bool)>,
    ) -> (Vec<Stream<'s, T, Batch>>, Keeps<'s, T>) {
        let scope = ports[0].0.scope();
        let Work {
            operator,
            mut site,
            held,
            admission,
        } = self;
        let mut builder = OperatorBuilder::new(site.name.clone(), scope);
        let wake = scope.activator_for(builder.operator_info().address);
        // a port holds when its messages serve many moments of this operator
        let holds: Vec<bool> = ports.iter().map(|(_, port)| *port && !held).collect();
        let mut inputs: Vec<_> = ports
            .into_iter()
            .map(|(stream, _)| builder.new_input(stream, Pipeline))
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
                            });
                            entry.parts[port] = Some(shard);
                        }
                    });
                }
                let mut ready = Vec::new();
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
                        ready.push((time.clone(), *key));
                    }
                }
                for (time, key) in ready {
                    let slot = (time.coordinates(), key);
                    if (admission.as_ref()).is_some_and(|a| !a.enter(slot, &wake)) {
                        break;
                    }
                    let Some(entry) = open.remove(&(time.clone(), key)) else {
                        continue;
                    };
                    let parts = entry.parts.into_iter().enumerate();
                    let shards: Vec<Shard> = parts
                        .filter_map(|(port, part)| {
                            part.or_else(|| versions.get(&(time.version(), port)).cloned())
                        })
                        .collect();
                    (site.moment, site.key) = (time.coordinates(), key);
                    let (made, saved) = run(&*operator, &site, &shards);
                    for ((mut shard, output), cap) in
                        made.into_iter().zip(&mut outputs).zip(&entry.capabilities)
                    {
                        shard.key = key;
                        output.activate().session(cap).give(shard);
                    }
                    let cap = &entry.capabilities[outputs.len()];
                    keep.activate().session(cap).give((key, Rc::new(saved)));
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
pub(crate) fn expect(
    site: &Site,
    specs: &[crate::graph::Spec],
    made: &[Shard],
    what: &str,
) -> Result<()> {
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
