//! The forward dataflow of a graph: one timely operator for each operator, two for each step of a
//! relayout.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Stream;

use crate::error::{EngineError, Result};
use crate::graph::admission::Admission;
use crate::graph::build::{Kind, Node};
use crate::graph::forward::{Keeps, Port, Work};
use crate::graph::gate::gate;
use crate::graph::kept::Kept;
use crate::graph::offload::Room;
use crate::graph::reducing::Reducing;
use crate::graph::{Delivery, Graph, Moment, Value};
use crate::relayout::relayout;
use crate::shard::Batch;

/// Streams by the name of the tensor they carry.
pub type Streams<'s, T> = BTreeMap<String, Stream<'s, T, Batch>>;

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
    pub(crate) kept: Rc<Kept>,
    pub(crate) reducing: Rc<Reducing>,
    /// What relayouts send.
    sent: BTreeSet<Value>,
    /// Where tensors wait in files, by directory.
    rooms: RefCell<BTreeMap<Arc<Path>, Rc<RefCell<Room>>>>,
}

/// How a graph is wired.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wiring {
    /// In which order messages are delivered: a test of determinism.
    pub delivery: Delivery,
    /// The most moments (and keys) that a worker has in work at once, forward and backward; `None`
    /// is no limit. Sources then give moments in one order, the same on every worker. A worker that moments come
    /// to more than once, from other places, counts them on each of these sections, of which it takes at least one
    /// group of as many moments as there are places (a limit has to leave room for all keys of these); it begins them in
    /// the order of interleaved 1F1B.
    pub in_flight: Option<usize>,
    /// Cotangents of parameters are made when a worker has nothing else to do, and this many moments
    /// at most are in work or wait for that; `None` makes them with the others.
    pub deferred: Option<usize>,
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

    /// How often a node lets others go first: until a relayout of what it works on itself has sent it, through its
    /// gate and its cut, each of which is one pass over the dataflow. So hops run beside the work on what hops.
    pub(crate) fn yields(&self, node: &Node) -> u8 {
        match node.inputs.iter().any(|v| self.sent.contains(v)) {
            true => 2,
            false => 0,
        }
    }

    /// Where tensors of this worker wait in `directory`.
    pub(crate) fn room(&self, directory: &Arc<Path>) -> Rc<RefCell<Room>> {
        let mut rooms = self.rooms.borrow_mut();
        let room = rooms
            .entry(Arc::clone(directory))
            .or_insert_with(|| Rc::new(RefCell::new(Room::new(directory))));
        Rc::clone(room)
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
        let worker = feeds.values().next().map_or(0, |feed| feed.scope().index());
        let sections = self.sections(worker);
        let mut wired = Wired {
            values: Vec::new(),
            keeps: Vec::new(),
            delivery: wiring.delivery,
            admission: Rc::new(Admission::new(wiring.in_flight, wiring.deferred, sections)),
            outputs: self
                .outputs()
                .map(|(name, v)| (name.to_owned(), v))
                .collect(),
            kept: Rc::new(Kept::default()),
            reducing: Rc::default(),
            sent: self.sent(),
            rooms: RefCell::default(),
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
                    let mut ports = self.ports(&wired, at, node);
                    let moved = match (ports.pop(), ports.pop()) {
                        (Some(when), Some(value)) => {
                            gate(&node.name, value, when.stream, wired.kept())
                        }
                        (Some(only), None) => only.stream,
                        (None, _) => continue,
                    };
                    wired.values.push(relayout(moved, there));
                }
                Kind::Apply(operator) => {
                    let ports = self.ports(&wired, at, node);
                    let Some(first) = ports.first() else {
                        continue;
                    };
                    let site = self.site(node, first.stream.scope().index());
                    let here = |v: &Value| !self.comes_again(*v);
                    let work = Work {
                        operator: Arc::clone(operator),
                        held: self.held(node),
                        admission: wired.admission.of(&site, self.held(node), at),
                        site,
                        yields: wired.yields(node),
                        gives: (node.remade.is_none())
                            .then(|| node.inputs.iter().map(here).collect()),
                        kept: wired.kept(),
                    };
                    let (outputs, kept) = work.wire(ports, None);
                    wired.values.extend(outputs);
                    keeps = Some(kept);
                }
            }
            wired.keeps.push(keeps);
        }
        Ok(wired)
    }

    /// What comes at the moments and is sent by a relayout.
    fn sent(&self) -> BTreeSet<Value> {
        let moves = self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Relayout { .. } => node.inputs.first().copied(),
            _ => None,
        });
        moves.filter(|v| !self.values[v.0].held).collect()
    }

    /// What comes to the inputs of a node.
    fn ports<'s, T: Moment>(
        &self,
        wired: &Wired<'s, T>,
        at: usize,
        node: &Node,
    ) -> Vec<Port<'s, T>> {
        let inputs = node.inputs.iter().enumerate();
        let port = |(i, &v): (usize, &Value)| Port {
            stream: wired.edge(v, at, i),
            held: self.values[v.0].held,
        };
        inputs.map(port).collect()
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
    pub(crate) fn edge(&self, value: Value, at: usize, port: usize) -> Stream<'s, T, Batch> {
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
