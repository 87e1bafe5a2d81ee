//! The adjoint of one operator, at once or in two turns.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

use crate::error::Result;
use crate::graph::admission::{Entry, Slot};
use crate::graph::forward::{Keeps, expect};
use crate::graph::reducing::Reducing;
use crate::graph::{Moment, Operator, Saved, Site, Spec};
use crate::relayout::Batches;
use crate::shard::{Batch, Shard};

/// Cotangents of an operator at one moment and key.
struct Open<T: Moment> {
    /// One capability per wanted input.
    capabilities: Vec<Capability<T>>,
    parts: Vec<Option<Shard>>,
}

/// What an adjoint has still to answer: cotangents of parameters, when nothing else is to do.
struct Later<T: Moment> {
    slot: (T, u64),
    capabilities: Vec<Capability<T>>,
    point: Rc<Saved>,
    parts: Vec<Option<Shard>>,
}

/// The adjoint of one operator.
pub(crate) struct Work {
    pub(crate) operator: Arc<dyn Operator>,
    pub(crate) site: Site,
    pub(crate) wanted: Vec<bool>,
    /// Which inputs are answered later.
    pub(crate) late: Vec<bool>,
    /// Its place among the nodes.
    pub(crate) at: usize,
    /// Which inputs' cotangents are reduced when it has worked.
    pub(crate) reduces: Vec<bool>,
    pub(crate) reducing: Rc<Reducing>,
    pub(crate) held: bool,
    pub(crate) admission: Option<Entry>,
}

impl Work {
    /// Works when all cotangents of a moment and key have come, and the inputs that were made `again`, on
    /// one moment an activation; cotangents that have not come when the frontier passes are zero. Inputs that
    /// are `late` are answered one at a time when this worker has had nothing else to do for a round, and for
    /// a part of the time that the last such answer took ([`Admission::patience`]).
    pub(crate) fn wire<'s, T: Moment>(
        mut self,
        keeps: Keeps<'s, T>,
        ports: Vec<(usize, Stream<'s, T, Batch>)>,
        again: Vec<(usize, Stream<'s, T, Batch>)>,
    ) -> Vec<Option<Stream<'s, T, Batch>>> {
        let scope = keeps.scope();
        let mut builder = OperatorBuilder::new(format!("Adjoint of {}", self.site.name), scope);
        let wake = scope.activator_for(builder.operator_info().address);
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
            let mut later: VecDeque<Later<T>> = VecDeque::new();
            let mut seen = None;
            let [now, after] = [false, true].map(|late| -> Vec<bool> {
                let inputs = self.late.iter().zip(&self.wanted);
                inputs.map(|(is, wanted)| *wanted && *is == late).collect()
            });
            let splits = after.contains(&true);
            // gradients that leave at once, and later
            let leave = [&now, &after].map(|mask| {
                let both = mask.iter().zip(&self.reduces);
                both.filter(|(answers, reduces)| **answers && **reduces)
                    .count()
            });
            move |frontiers: &[MutableAntichain<T>]| {
                let held = self.held;
                let admission = self.admission.clone();
                let passed = |slot: &(T, u64)| {
                    if let Some(admission) = &admission {
                        admission.pass(plain(slot));
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
                        (self.site.moment, self.site.key) = plain(slot);
                        let why = format!(
                            "a cotangent of key {} came for which there was no forward pass; \
                             give cotangents the time and key of their outputs",
                            slot.1
                        );
                        panic!("{}", self.site.error(why));
                    }
                }
                let mut ready = open
                    .iter()
                    .filter(|(slot, entry)| {
                        let parts = entry.parts.iter().enumerate();
                        saved.contains_key(slot)
                            && parts.fold(true, |all, (port, part)| {
                                let zero = port < at.len() && closed(port + 1, slot);
                                all && (part.is_some() || zero)
                            })
                    })
                    .map(|(slot, _)| slot.clone());
                let (first, more) = (ready.next(), ready.next().is_some());
                let goes_on = |slot: &(T, u64), gradients: usize| {
                    gradients == 0 || self.reducing.goes_on(plain(slot), self.at)
                };
                let first = first.filter(|slot| {
                    let ready = goes_on(slot, leave[0]);
                    if !ready {
                        self.reducing.wait(&wake);
                    }
                    (admission.as_ref()).map_or(ready, |a| a.returns(plain(slot), ready, &wake))
                });
                if more && first.is_some() {
                    wake.activate();
                }
                if let Some(slot) = first
                    && let Some(entry) = open.remove(&slot)
                    && let Some(point) = saved.remove(&slot)
                {
                    (self.site.moment, self.site.key) = plain(&slot);
                    let mut parts = vec![None; self.site.outputs.len()];
                    let mut came = entry.parts.into_iter();
                    for (&i, part) in at.iter().zip(&mut came) {
                        parts[i] = part;
                    }
                    for (&i, part) in given.iter().zip(came) {
                        part.into_iter().for_each(|part| point.take(i, part));
                    }
                    let begun = Instant::now();
                    if let Some(admission) = &admission {
                        admission.works();
                    }
                    let answers = match splits && !now.contains(&true) {
                        true => Vec::new(),
                        false => self.transposed(&point, parts.clone(), &now),
                    };
                    give(
                        &mut outputs,
                        answers,
                        &entry.capabilities,
                        &self.wanted,
                        slot.1,
                    );
                    self.reducing.leave(plain(&slot), self.at, leave[0]);
                    if splits {
                        if let Some(admission) = &admission {
                            admission.took(false, begun.elapsed());
                            admission.defer(plain(&slot));
                        }
                        let capabilities = entry.capabilities;
                        later.push_back(Later {
                            slot: slot.clone(),
                            capabilities,
                            point,
                            parts,
                        });
                    } else {
                        drop(point);
                    }
                    passed(&slot);
                }
                if let (Some(admission), false) = (&admission, later.is_empty()) {
                    let waits = admission.patience();
                    let idle = seen == Some(admission.worked()) && waits.is_zero();
                    let turn = |next: &mut Later<T>| idle && goes_on(&next.slot, leave[1]);
                    if let Some(next) = later.pop_front_if(turn) {
                        let begun = Instant::now();
                        let Later {
                            slot,
                            capabilities,
                            point,
                            parts,
                        } = next;
                        (self.site.moment, self.site.key) = plain(&slot);
                        let answers = self.transposed(&point, parts, &after);
                        give(&mut outputs, answers, &capabilities, &self.wanted, slot.1);
                        self.reducing.leave(plain(&slot), self.at, leave[1]);
                        drop(point);
                        admission.took(true, begun.elapsed());
                        admission.works();
                        admission.caught_up(plain(&slot));
                    }
                    seen = Some(admission.worked());
                    match later.front() {
                        Some(next) if !goes_on(&next.slot, leave[1]) => self.reducing.wait(&wake),
                        Some(_) => wake.activate_after(admission.patience()),
                        None => {}
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

    /// [`transposed`] of this operator here.
    ///
    /// # Panics
    /// With the operator's name, place and reason.
    fn transposed(
        &self,
        point: &Saved,
        parts: Vec<Option<Shard>>,
        wanted: &[bool],
    ) -> Vec<Option<Shard>> {
        match transposed(&*self.operator, &self.site, point, parts, wanted) {
            Ok(answers) => answers,
            Err(why) => panic!("{why}"),
        }
    }
}

/// A moment and key, as what counts moments knows them.
fn plain<T: Moment>(slot: &(T, u64)) -> Slot {
    (slot.0.coordinates(), slot.1)
}

/// Gives answers, one place for each input, to the outputs, one for each input that is wanted.
fn give<T: Moment>(
    outputs: &mut [OutputBuilder<T, Batches>],
    answers: Vec<Option<Shard>>,
    capabilities: &[Capability<T>],
    wanted: &[bool],
    key: u64,
) {
    let ports = answers
        .into_iter()
        .zip(wanted)
        .filter(|(_, wanted)| **wanted);
    for (((answer, _), output), cap) in ports.zip(outputs).zip(capabilities) {
        if let Some(mut answer) = answer {
            answer.key = key;
            output.activate().session(cap).give(answer);
        }
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
