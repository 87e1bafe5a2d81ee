//! The mirrored dataflow: adjoints in the place of operators, from the outputs to the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

use crate::error::{EngineError, Result};
use crate::graph::admission::Admission;
use crate::graph::build::{Kind, Node, Rate};
use crate::graph::collect::sum;
use crate::graph::forward::{Keeps, expect};
use crate::graph::remake::Remade;
use crate::graph::sweep::Sweep;
use crate::graph::wire::{Streams, Wired, unknown};
use crate::graph::{Graph, Moment, Operator, Saved, Site, Spec, Value};
use crate::relayout::{Batches, relayout};
use crate::shard::{Batch, Shard};

/// Cotangents of one value, by the use they come from: node and input, seeds last.
type Uses<'s, T> = BTreeMap<(usize, usize), (Stream<'s, T, Batch>, bool)>;

impl Graph {
    /// Wires the adjoint of the graph: from cotangents of outputs (`seeds`, in the dual layouts of
    /// the outputs) to cotangents of the sources named in `wrt`, in the dual of their layouts.
    ///
    /// A cotangent of an input comes at the moment and key of the input. That of a parameter comes
    /// once a version, at its last moment, when the frontier of the seeds has passed the version:
    /// the source of the data advances its time before it waits for a gradient.
    ///
    /// What an operator kept is freed when its adjoint has worked, or when the frontier has passed
    /// and no cotangent has come.
    ///
    /// # Errors
    /// [`EngineError::NoAdjoint`] if a derivative is cut on its way, [`EngineError::Operator`] if
    /// a name is unknown.
    pub fn backward<'s, T: Moment>(
        &self,
        wired: &Wired<'s, T>,
        seeds: Streams<'s, T>,
        wrt: &[&str],
    ) -> Result<Streams<'s, T>> {
        let ends: BTreeMap<&str, Value> = self.outputs().collect();
        let sources: BTreeMap<&str, Value> = self.sources().collect();
        let find = |among: &BTreeMap<&str, Value>, name: &str| {
            let names: BTreeSet<&str> = among.keys().copied().collect();
            among
                .get(name)
                .copied()
                .ok_or_else(|| unknown(name, &names))
        };
        let mut uses: Vec<Uses<'s, T>> = (0..self.values.len()).map(|_| Uses::new()).collect();
        let mut from = Vec::new();
        for (port, (name, stream)) in seeds.into_iter().enumerate() {
            let value = find(&ends, &name)?;
            from.push(value);
            uses[value.0].insert((usize::MAX, port), (stream, false));
        }
        let asked: BTreeSet<&str> = wrt.iter().copied().collect();
        let to: Vec<Value> = asked
            .iter()
            .map(|name| find(&sources, name))
            .collect::<Result<_>>()?;
        let sweep = Sweep::plan(self, &from, &to)?;
        let mut mirror = Mirror {
            graph: self,
            wired,
            sweep,
            uses,
            remade: Remade::default(),
        };
        for (at, node) in self.nodes.iter().enumerate().rev() {
            mirror.node(at, node)?;
        }
        let named = asked.iter().zip(&to);
        named
            .map(|(name, &value)| Ok(((*name).to_owned(), mirror.collected(value, true)?)))
            .collect()
    }
}

/// A backward sweep that is being wired.
struct Mirror<'a, 's, T: Moment> {
    graph: &'a Graph,
    wired: &'a Wired<'s, T>,
    sweep: Sweep,
    uses: Vec<Uses<'s, T>>,
    remade: Remade<'s, T>,
}

impl<'s, T: Moment> Mirror<'_, 's, T> {
    /// Wires the adjoint of one node.
    fn node(&mut self, at: usize, node: &Node) -> Result<()> {
        let graph = self.graph;
        let wanted = self.sweep.wanted(node);
        if !wanted.contains(&true) {
            return Ok(());
        }
        let held = graph.held(node);
        match &node.kind {
            Kind::Source { .. } => {}
            Kind::Relayout { back, rate, .. } => {
                let back = back.as_ref().ok_or_else(|| EngineError::NoAdjoint {
                    what: format!("'{}'", node.name),
                    why: "its layouts have no dual".to_owned(),
                })?;
                let once = *rate != Rate::Back;
                let whole = self.cotangent(node.outputs[0], once)?;
                let stream = self.edge(whole, at, 0);
                let home = (relayout(stream, back), held && once);
                self.uses[node.inputs[0].0].insert((at, 0), home);
            }
            Kind::Apply(operator) => {
                let mut ports = Vec::new();
                for (i, &v) in node.outputs.iter().enumerate() {
                    if self.sweep.has(v) {
                        let whole = self.cotangent(v, true)?;
                        ports.push((i, self.edge(whole, at, i)));
                    }
                }
                let (first, again) = match node.remade {
                    Some(_) => (self.remade.keeps.remove(&at), Vec::new()),
                    None => (
                        self.wired.keeps[at].clone(),
                        self.again(node, operator.keeps())?,
                    ),
                };
                let keeps = first.ok_or_else(|| late(&node.name))?;
                let site = graph.site(node, keeps.scope().index());
                let work = Work {
                    operator: Arc::clone(operator),
                    wanted,
                    held,
                    admission: self.wired.admission.of(&site, held),
                    site,
                };
                let made = work.wire(keeps, ports, again).into_iter().enumerate();
                for (i, stream) in made.filter_map(|(i, stream)| Some((i, stream?))) {
                    self.uses[node.inputs[i].0].insert((at, i), (stream, held));
                }
            }
        }
        Ok(())
    }

    /// A stream on its way to the adjoint of node `at`.
    fn edge(&self, stream: Stream<'s, T, Batch>, at: usize, port: usize) -> Stream<'s, T, Batch> {
        let way = 1 << 40 | (at as u64) << 8 | port as u64;
        self.wired.delivery.deliver(stream, way)
    }

    /// What is made again of the inputs that an adjoint needs.
    fn again(&self, node: &Node, needs: &[usize]) -> Result<Vec<(usize, Stream<'s, T, Batch>)>> {
        let inputs = needs.iter().map(|&i| (i, node.inputs[i]));
        let remade = inputs.filter(|(_, v)| self.graph.remade(*v));
        remade
            .map(|(i, v)| match self.remade.values.get(&v) {
                Some(stream) => Ok((i, stream.clone())),
                None => Err(late(&node.name)),
            })
            .collect()
    }

    /// The whole cotangent of a value, at which others are made again.
    fn cotangent(&mut self, value: Value, once: bool) -> Result<Stream<'s, T, Batch>> {
        let whole = self.collected(value, once)?;
        let (graph, wired) = (self.graph, self.wired);
        graph.wire_again(wired, value, &whole, &mut self.remade);
        Ok(whole)
    }

    /// The whole cotangent of a value; of one that is held, once a version if `once`.
    fn collected(&mut self, value: Value, once: bool) -> Result<Stream<'s, T, Batch>> {
        let parts = std::mem::take(&mut self.uses[value.0]);
        let tensor = &self.graph.values[value.0];
        let held = tensor.held && once;
        let by_version = held && parts.values().any(|(_, held)| !held);
        let mut streams: Vec<_> = parts.into_values().map(|(stream, _)| stream).collect();
        match (streams.pop(), streams.is_empty()) {
            (Some(only), true) if !by_version => Ok(only),
            (Some(last), _) => {
                streams.push(last);
                Ok(sum(&tensor.name, streams, tensor.spec.dual()?, held))
            }
            (None, _) => Err(EngineError::NoAdjoint {
                what: format!("'{}'", tensor.name),
                why: "no cotangent reaches it".to_owned(),
            }),
        }
    }
}

/// What an adjoint needs is made again after it.
fn late(name: &str) -> EngineError {
    EngineError::NoAdjoint {
        what: format!("'{name}'"),
        why:
            "what it needs is made again at a cotangent that comes later, or never; name one that \
              comes before"
                .to_owned(),
    }
}

/// Cotangents of an operator at one moment and key.
struct Open<T: Moment> {
    /// One capability per wanted input.
    capabilities: Vec<Capability<T>>,
    parts: Vec<Option<Shard>>,
}

/// The adjoint of one operator.
struct Work {
    operator: Arc<dyn Operator>,
    site: Site,
    wanted: Vec<bool>,
    held: bool,
    admission: Option<Rc<Admission>>,
}

impl Work {
    /// Works when all cotangents of a moment and key have come, and the inputs that were made `again`;
    /// cotangents that have not come when the frontier passes are zero.
    fn wire<'s, T: Moment>(
        mut self,
        keeps: Keeps<'s, T>,
        ports: Vec<(usize, Stream<'s, T, Batch>)>,
        again: Vec<(usize, Stream<'s, T, Batch>)>,
    ) -> Vec<Option<Stream<'s, T, Batch>>> {
        let mut builder =
            OperatorBuilder::new(format!("Adjoint of {}", self.site.name), keeps.scope());
        let mut saves = builder.new_input(keeps, Pipeline);
        let at: Vec<usize> = ports.iter().map(|(i, _)| *i).collect();
        let given: Vec<usize> = again.iter().map(|(i, _)| *i).collect();
        // cotangents, then inputs that were made again
        let mut inputs: Vec<_> = ports
            .into_iter()
            .chain(again)
            .map(|(_, s)| builder.new_input(s, Pipeline))
            .collect();
        let (mut outputs, mut streams) = (Vec::new(), Vec::new());
        for &wanted in &self.wanted {
            streams.push(wanted.then(|| {
                let (output, stream) = builder.new_output::<Batch>();
                outputs.push(OutputBuilder::<_, Batches>::from(output));
                stream
            }));
        }
        builder.build(move |capabilities| {
            drop(capabilities);
            let mut open: BTreeMap<(T, u64), Open<T>> = BTreeMap::new();
            let mut saved: BTreeMap<(T, u64), Rc<Saved>> = BTreeMap::new();
            move |frontiers: &[MutableAntichain<T>]| {
                let held = self.held;
                let admission = self.admission.clone();
                let passed = |slot: &(T, u64)| {
                    if let Some(admission) = &admission {
                        admission.pass((slot.0.coordinates(), slot.1));
                    }
                };
                let slot = |time: &T, key: u64| match held {
                    true => (time.version(), 0),
                    false => (time.clone(), key),
                };
                saves.for_each(|cap, points| {
                    let Some(time) = cap.stamp().elements().first().cloned() else {
                        return;
                    };
                    for (key, point) in points.drain(..) {
                        saved.insert(slot(&time, key), point);
                    }
                });
                for (port, input) in inputs.iter_mut().enumerate() {
                    input.for_each(|cap, batch| {
                        let Some(time) = cap.stamp().elements().first().cloned() else {
                            return;
                        };
                        for shard in batch.shards.drain(..) {
                            let entry = open.entry(slot(&time, shard.key)).or_insert_with(|| {
                                let outs = 0..outputs.len();
                                Open {
                                    capabilities: outs.map(|o| cap.delayed(&time, o)).collect(),
                                    parts: vec![None; at.len() + given.len()],
                                }
                            });
                            entry.parts[port] = Some(shard);
                        }
                    });
                }
                let closed = |port: usize, slot: &(T, u64)| {
                    let time = if held { slot.0.last() } else { slot.0.clone() };
                    !frontiers[port].less_equal(&time)
                };
                for slot in open.keys() {
                    if !saved.contains_key(slot) && closed(0, slot) {
                        (self.site.moment, self.site.key) = (slot.0.coordinates(), slot.1);
                        let why = format!(
                            "a cotangent of key {} came for which there was no forward pass; \
                             give cotangents the time and key of their outputs",
                            slot.1
                        );
                        panic!("{}", self.site.error(why));
                    }
                }
                let ready: Vec<(T, u64)> = open
                    .iter()
                    .filter(|(slot, entry)| {
                        let parts = entry.parts.iter().enumerate();
                        saved.contains_key(slot)
                            && parts.fold(true, |all, (port, part)| {
                                all && (part.is_some() || closed(port + 1, slot))
                            })
                    })
                    .map(|(slot, _)| slot.clone())
                    .collect();
                for slot in ready {
                    let (Some(entry), Some(point)) = (open.remove(&slot), saved.remove(&slot))
                    else {
                        continue;
                    };
                    (self.site.moment, self.site.key) = (slot.0.coordinates(), slot.1);
                    let mut parts = vec![None; self.site.outputs.len()];
                    let mut came = entry.parts.into_iter();
                    for (&i, part) in at.iter().zip(&mut came) {
                        parts[i] = part;
                    }
                    for (&i, part) in given.iter().zip(came) {
                        part.into_iter().for_each(|part| point.take(i, part));
                    }
                    let answers = match transposed(
                        &*self.operator,
                        &self.site,
                        &point,
                        parts,
                        &self.wanted,
                    ) {
                        Ok(answers) => answers,
                        Err(why) => panic!("{why}"),
                    };
                    drop(point);
                    passed(&slot);
                    let answers = answers.into_iter().flatten();
                    for ((mut answer, output), cap) in
                        answers.zip(&mut outputs).zip(&entry.capabilities)
                    {
                        answer.key = slot.1;
                        output.activate().session(cap).give(answer);
                    }
                }
                saved.retain(|slot, _| {
                    let waits = open.contains_key(slot)
                        || (1..frontiers.len()).any(|port| !closed(port, slot));
                    if !waits {
                        passed(slot);
                    }
                    waits
                });
            }
        });
        streams
    }
}

/// [`Operator::adjoint`] between pieces of the right shapes; cotangents that did not come are zero.
pub(crate) fn transposed(
    operator: &dyn Operator,
    site: &Site,
    saved: &Saved,
    cotangents: Vec<Option<Shard>>,
    wanted: &[bool],
) -> Result<Vec<Option<Shard>>> {
    let dual = |spec: &Spec| {
        if spec.is_real() {
            spec.dual()
        } else {
            Ok(spec.clone())
        }
    };
    let specs = site.outputs.iter().map(dual).collect::<Result<Vec<_>>>()?;
    let parts: Vec<Shard> = cotangents
        .into_iter()
        .zip(&specs)
        .map(|(part, spec)| part.unwrap_or_else(|| spec.zero(&site.mesh, site.worker, site.key)))
        .collect();
    expect(site, &specs, &parts, "cotangent of output")?;
    if site.absent {
        let zero = |(spec, wanted): (&Spec, &bool)| match wanted {
            true => Ok(Some(spec.dual()?.zero(&site.mesh, site.worker, site.key))),
            false => Ok(None),
        };
        return site.inputs.iter().zip(wanted).map(zero).collect();
    }
    let mut answers = operator.adjoint(site, saved, &parts, wanted)?;
    answers.resize(wanted.len(), None);
    for (i, (answer, &wanted)) in answers.iter_mut().zip(wanted).enumerate() {
        let spec = &site.inputs[i];
        match answer {
            Some(part) if wanted => {
                let place = format!("cotangent of input {i} of {}", site.name);
                spec.dual()?.fits(&site.mesh, site.worker, part, &place)?;
            }
            None if wanted => {
                return Err(site.error(format!("its adjoint gave nothing for input {i}")));
            }
            _ => *answer = None,
        }
    }
    Ok(answers)
}
