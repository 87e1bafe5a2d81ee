//! Passes: what one virtual stage computes and sends for one micro-batch.
//!
//! Products run at κ times the peak; a layer cut over tensor ranks reduces its residual stream
//! twice forward, twice backward, and twice more if it is computed again: Shoeybi et al. (2019).
//! With sequence parallelism the reductions are gathers and scatters of the same bytes, and one and
//! a half times as many backward: Korthikanti et al. (2022).

use super::machine::Machine;
use super::model::{Gpt, Part};
use super::network::{Group, Network};
use super::run::{Axis, Policy, Recompute, Run};
use super::simulate::{Cost, Limit, Pipeline, Priority};

/// Nanoseconds of a second: the unit of simulated time.
const TICKS: f64 = 1e9;

/// Times that attention without flash touches its scores forward: the first product writes them,
/// softmax reads and writes, the second product reads.
const FORWARD: f64 = 4.0;
/// And backward: both products of each side read them or their gradient, one writes it, softmax
/// reads two and writes one.
const BACKWARD: f64 = 7.0;

/// Operators of a layer, of the embedding, and of the head with the loss, each way.
pub(super) const OPERATORS: [usize; 3] = [10, 3, 6];

/// Bytes that a device sends over each axis.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Wire {
    /// Over tensor ranks.
    pub tensor: f64,
    /// Over context ranks.
    pub context: f64,
    /// Over replicas: gradients and parameters.
    pub data: f64,
    /// To the stages before and after.
    pub pipeline: f64,
}

impl Wire {
    /// Over `axis`.
    pub fn over(&self, axis: Axis) -> f64 {
        match axis {
            Axis::Tensor => self.tensor,
            Axis::Context => self.context,
            Axis::Data => self.data,
            Axis::Pipeline => self.pipeline,
        }
    }
}

/// Seconds of the passes of one virtual stage over one micro-batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Pass {
    /// F.
    pub(super) forward: f64,
    /// B, with what is computed again.
    pub(super) backward: f64,
    /// W.
    pub(super) weight: f64,
    /// The part of all three that is arithmetic, traffic of scores and dispatch of operators included.
    pub(super) compute: f64,
}

/// Messages of a collective.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sent {
    /// Bytes that a device sends.
    pub(super) bytes: f64,
    /// Seconds.
    pub(super) seconds: f64,
}

impl Sent {
    /// A gather of `bytes` of all.
    fn gather(group: &Group, bytes: f64) -> Self {
        Sent {
            bytes: group.gather_bytes(bytes),
            seconds: group.gather(bytes),
        }
    }

    /// Both, one after the other.
    fn and(self, other: Self) -> Self {
        Sent {
            bytes: self.bytes + other.bytes,
            seconds: self.seconds + other.seconds,
        }
    }
}

/// A model, a run and a machine.
#[derive(Debug, Clone)]
pub(super) struct Setup<'a> {
    pub(super) machine: &'a Machine,
    pub(super) gpt: &'a Gpt,
    pub(super) run: &'a Run,
    /// m.
    pub(super) micro: usize,
    pub(super) tensor: Group,
    pub(super) context: Group,
    /// Workers that share a gradient, those of them that a replica's state is cut over, and those with the
    /// same piece.
    pub(super) replicas: Group,
    pub(super) sharers: Group,
    pub(super) copies: Group,
    /// Workers that share the gradient of positions.
    pub(super) beside: Group,
    /// From every rank to the next, and from the last to the first.
    pub(super) hops: Vec<Group>,
    /// The axis whose messages take no time.
    pub(super) free: Option<Axis>,
}

impl<'a> Setup<'a> {
    pub(super) fn new(machine: &'a Machine, gpt: &'a Gpt, run: &'a Run, micro: usize) -> Self {
        let network = Network::new(machine, run.axes, run.order);
        let p = run.axes.pipeline;
        let both = [Axis::Data, Axis::Context];
        let (sharers, copies): (&[Axis], &[Axis]) = match run.policy {
            Policy::Advect => (&both[..1], &both[1..]),
            _ => (&both, &[]),
        };
        let beside = match run.cuts_positions() {
            true => &both[..1],
            false => &both[..],
        };
        Setup {
            machine,
            gpt,
            run,
            micro,
            tensor: network.group(&[Axis::Tensor]),
            context: network.group(&[Axis::Context]),
            replicas: network.group(&both),
            sharers: network.group(sharers),
            copies: network.group(copies),
            beside: network.group(beside),
            hops: (0..p).map(|i| network.hop(i, (i + 1) % p)).collect(),
            free: None,
        }
    }

    /// `seconds`, or none if the axis is free.
    pub(super) fn unless(&self, axis: Axis, seconds: f64) -> f64 {
        if self.free == Some(axis) {
            0.0
        } else {
            seconds
        }
    }

    /// The residual stream of a micro-batch on one worker, bytes.
    fn residual(&self) -> f64 {
        (self.run.tokens(self.gpt) * self.gpt.width) as f64 * self.run.precision.bytes() as f64
    }

    /// Seconds to read and write the scores of one layer once, if attention keeps them.
    fn scores(&self) -> f64 {
        if self.run.flash {
            return 0.0;
        }
        let heads = self.gpt.heads.div_ceil(self.run.axes.tensor);
        let tokens = self.run.tokens(self.gpt) as f64;
        let scores = tokens * self.gpt.sequence as f64 * heads as f64;
        scores * self.run.precision.bytes() as f64 / self.machine.memory.bandwidth
    }

    /// What a gather of the parameters of `part` from the pieces that are stored takes, or a reduction of their
    /// gradients to these; nothing if they are whole. `positions_too` as in [`Gpt::parameters`].
    pub(super) fn gathered(&self, part: Part, positions_too: bool) -> Sent {
        match self.run.sharding() {
            0 => Sent::default(),
            _ => {
                let [rest, positions] = self.weights(part, positions_too);
                Sent::gather(&self.sharers, rest + positions)
            }
        }
    }

    /// What it takes to sum the gradients of `part` as they are stored over all that have the same.
    pub(super) fn summed(&self, part: Part, positions_too: bool) -> Sent {
        let [rest, positions] = self.weights(part, positions_too);
        let once = match self.run.sharding() {
            0 if self.beside == self.replicas => Sent::gather(&self.replicas, rest + positions),
            0 => Sent::gather(&self.replicas, rest).and(Sent::gather(&self.beside, positions)),
            _ => {
                let others = if self.beside == self.replicas {
                    positions
                } else {
                    0.0
                };
                let pieces = self.sharers.members as f64;
                Sent::gather(&self.copies, (rest + others) / pieces)
            }
        };
        once.and(once)
    }

    /// Parameters of `part` on a worker, bytes: all but positions, and these.
    fn weights(&self, part: Part, positions_too: bool) -> [f64; 2] {
        let (gpt, run) = (self.gpt, self.run);
        let all = gpt.parameters(part, run.axes.tensor, positions_too) as f64;
        let positions = match part.first {
            true => (gpt.sequence * gpt.width) as f64,
            false => 0.0,
        };
        let stored = positions / run.pieces_of_positions() as f64;
        [all - positions, stored].map(|n| n * run.learned() as f64)
    }

    /// Reductions of the residual stream over tensor ranks: forward, backward.
    fn reductions(&self, part: Part) -> [f64; 2] {
        let layers = part.layers as f64;
        let again = match self.run.recompute {
            Recompute::Full => 2.0,
            Recompute::None => 0.0,
        };
        let back = if self.run.sequence { 3.0 } else { 2.0 };
        // the embedding sums partial rows, the head partial gradients
        let ends = [part.first, part.last].map(|b| if b { 1.0 } else { 0.0 });
        [2.0 * layers + ends[0], (back + again) * layers + ends[1]]
    }

    /// The passes of virtual stage `k`.
    pub(super) fn pass(&self, k: usize) -> Pass {
        let run = self.run;
        let part = run.part(self.gpt, k);
        let rate = self.machine.kernel_efficiency * self.machine.peak(run.precision);
        let flops = self
            .gpt
            .forward(part, run.tokens(self.gpt), run.axes.tensor);
        let layers = part.layers as f64;
        let across = self.across(flops.attention / rate / layers.max(1.0));
        let attention = flops.attention / rate + layers * across.uneven;
        let (linear, head) = (flops.linear / rate, flops.head / rate);
        let once = linear + attention + head;
        let again = match run.recompute {
            Recompute::Full => linear + attention,
            Recompute::None => 0.0,
        };
        let weight = linear + head;
        // queries and keys have two gradients each, and no weights
        let input = linear + 2.0 * attention + head;
        let touch = part.layers as f64 * self.scores();
        let again = match run.recompute {
            Recompute::Full => again + FORWARD * touch,
            Recompute::None => again,
        };
        let once = once + FORWARD * touch;
        let input = input + again + BACKWARD * touch;
        let ends = [part.first, part.last].map(usize::from);
        let layers_alone = OPERATORS[0] * part.layers;
        let each = layers_alone + OPERATORS[1] * ends[0] + OPERATORS[2] * ends[1];
        let twice = match run.recompute {
            Recompute::Full => layers_alone,
            Recompute::None => 0,
        };
        let [once_more, back] = [each, each + twice].map(|n| n as f64 * self.machine.dispatch);
        let (once, input) = (once + once_more, input + back);
        let compute = once + input + weight;

        let [forward, backward] = self.reductions(part);
        let reduce = self.unless(Axis::Tensor, self.tensor.all_reduce(self.residual()));
        let mut pass = Pass {
            forward: once + forward * reduce + layers * across.messages[0],
            backward: input + backward * reduce + layers * across.messages[1],
            weight,
            compute,
        };
        // gathers and reductions over replicas run beside the arithmetic, and show what is longer
        let all = self.unless(Axis::Data, self.gathered(part, false).seconds);
        let beyond = |seconds: f64, beside: f64| (seconds - beside).max(0.0);
        if run.sharding() == 3 {
            pass.forward += beyond(all, once);
            pass.backward += beyond(2.0 * all, input + weight);
        } else if run.sharding() == 2 {
            pass.backward += beyond(all, input + weight);
        }
        pass
    }

    /// What a rank sends in one step.
    pub(super) fn wire(&self, i: usize) -> Wire {
        let run = self.run;
        let m = self.micro as f64;
        let stages = run.stages();
        let mut wire = Wire::default();
        let cut = self.residual() / run.axes.tensor as f64;
        let whole = !run.sequence;
        for k in (i..stages).step_by(run.axes.pipeline) {
            let part = run.part(self.gpt, k);
            let [forward, backward] = self.reductions(part);
            let once = self.tensor.gather_bytes(self.residual());
            let neighbours = f64::from(u8::from(!part.first)) + f64::from(u8::from(!part.last));
            let piped = if run.axes.pipeline > 1 {
                neighbours
            } else {
                0.0
            };
            wire.pipeline += m * piped * cut;
            wire.tensor += m * 2.0 * (forward + backward) * once;
            if whole {
                wire.tensor += m * piped * once;
            }
            let layers = part.layers as f64;
            wire.context += m * layers * self.context_bytes();
            let all = self.gathered(part, false).bytes;
            wire.data += self.summed(part, false).bytes
                + match run.sharding() {
                    0 | 1 => 2.0 * all,
                    2 => (m + 1.0) * all,
                    _ => 3.0 * m * all,
                };
        }
        wire
    }

    /// Seconds from the end of a pass on rank `i` to the start of the next on its neighbour.
    fn delay(&self, i: usize) -> f64 {
        if self.run.axes.pipeline == 1 {
            return 0.0;
        }
        let cut = self.residual() / self.run.axes.tensor as f64;
        let sent = self.unless(Axis::Pipeline, self.hops[i].send(cut));
        let gathered = if self.run.sequence {
            0.0
        } else {
            self.unless(Axis::Tensor, self.tensor.gather(self.residual()))
        };
        sent + gathered
    }

    /// The pipeline of one step, in nanoseconds.
    pub(super) fn pipeline(&self) -> Pipeline {
        let ticks = |seconds: f64| (seconds * TICKS).round() as u64;
        let cost = |pass: Pass| Cost {
            forward: ticks(pass.forward),
            backward: ticks(pass.backward),
            weight: ticks(pass.weight),
        };
        Pipeline {
            schedule: self.run.schedule,
            priority: Priority::Forward,
            limits: Limit::all(self.run.schedule, self.run.axes.pipeline, self.micro),
            ranks: self.run.axes.pipeline,
            micro: self.micro,
            costs: (0..self.run.stages()).map(|k| cost(self.pass(k))).collect(),
            delays: (0..self.run.axes.pipeline)
                .map(|i| ticks(self.delay(i)))
                .collect(),
        }
    }
}

/// Ticks as seconds.
pub(super) fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS
}
