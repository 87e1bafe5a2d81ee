//! Context ranks: what they send for a layer, and how long they wait for it.
//!
//! With $M_k$ the keys and values of a micro-batch at all positions and $M_q$ its queries, one of c ranks sends
//! $(c - 1)/c\,M_k$ whether these are gathered or go around, and $(c - 1)/c^2\,(2 M_k' + 2 M_q)$ where positions are
//! exchanged for heads, $M_k'$ being keys alone: Liu et al. (2023), Jacobs et al. (2023). The cotangents of what was
//! sent come back, and what was not kept is sent again.
//!
//! Causal attention over contiguous positions is uneven: the last rank works on $c - 1/2$ blocks where $c / 2$ are
//! the mean, $(2c - 1)/c$ times as many (Zhu 2024, *ring-flash-attention*).

use advect_operators::transformer::Context;

use super::pass::Setup;
use super::run::{Axis, Recompute};

/// One layer's attention on the busiest context rank, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Across {
    /// Arithmetic more than on the average rank, at one time over.
    pub(super) uneven: f64,
    /// What messages take beside arithmetic, forward and backward; layers that are computed again included.
    pub(super) messages: [f64; 2],
}

impl Setup<'_> {
    /// Keys and values of a micro-batch at all positions, bytes.
    fn keys(&self) -> f64 {
        let [_, kv] = self.gpt.columns(self.run.axes.tensor);
        (2 * self.run.micro * self.gpt.sequence * kv) as f64 * self.run.precision.bytes() as f64
    }

    /// Queries of a micro-batch at all positions, bytes.
    fn queries(&self) -> f64 {
        let [q, _] = self.gpt.columns(self.run.axes.tensor);
        (self.run.micro * self.gpt.sequence * q) as f64 * self.run.precision.bytes() as f64
    }

    /// Whether keys and values are sent once more for the adjoint: of themselves, or with all of a layer.
    fn sent_again(&self) -> bool {
        self.run.keys.again || self.run.recompute == Recompute::Full
    }

    /// Bytes that a context rank sends for one layer and micro-batch.
    pub(super) fn context_bytes(&self) -> f64 {
        let keys = self.context.gather_bytes(self.keys());
        let times = if self.sent_again() { 3.0 } else { 2.0 };
        match self.run.keys.come {
            Context::Gather(_) | Context::Chunks(_) | Context::Ring(_) => times * keys,
            Context::Heads => {
                let c = self.run.axes.context as f64;
                // queries there, outputs back
                let others = 2.0 * self.context.gather_bytes(self.queries()) / c;
                let again = if self.run.recompute == Recompute::Full {
                    3.0
                } else {
                    2.0
                };
                times * keys / c + again * others
            }
        }
    }

    /// Attention of a layer whose products take `attention` seconds forward on the average rank.
    pub(super) fn across(&self, attention: f64) -> Across {
        let c = self.run.axes.context as f64;
        if c < 2.0 {
            return Across::default();
        }
        let load = match self.run.keys.come {
            Context::Heads => {
                let [groups, most] = self.run.groups_of_ranks(self.gpt).map(|n| n as f64);
                c * most / groups
            }
            _ if self.run.keys.uneven() => (2.0 * c - 1.0) / c,
            _ => 1.0,
        };
        let uneven = (load - 1.0) * attention;
        let again = self.sent_again();
        let messages = match self.run.keys.come {
            Context::Gather(_) => {
                let once = self.context.gather(self.keys());
                [once, if again { 2.0 * once } else { once }]
            }
            Context::Heads => {
                let exchange = |bytes: f64| self.context.gather(bytes / c);
                let (kv, q) = (exchange(self.keys()), exchange(self.queries()));
                let back = match (self.run.recompute, self.run.keys.again) {
                    (Recompute::Full, _) => 2.0 * (kv + 2.0 * q),
                    (Recompute::None, true) => 2.0 * kv + 2.0 * q,
                    (Recompute::None, false) => kv + 2.0 * q,
                };
                [kv + 2.0 * q, back]
            }
            Context::Chunks(_) | Context::Ring(_) => {
                // the first turn is the block on the diagonal, half of the others where work is uneven
                let first = attention / c;
                let turn = (load * attention - first) / (c - 1.0);
                let around = self.run.keys.around();
                let waits = |times: f64, bytes: f64| {
                    let hop = self.context.send(bytes);
                    let [first, turns] = [times * first, (c - 2.0) * times * turn];
                    match around {
                        // a hop runs beside the turn before it
                        true => (hop - first).max(0.0) + ((c - 2.0) * hop - turns).max(0.0),
                        // hops follow each other, beside all turns but the last
                        false => {
                            let (one, all) = (hop - first, (c - 1.0) * hop - first - turns);
                            one.max(all).max(0.0)
                        }
                    }
                };
                let piece = self.keys() / c;
                match self.run.recompute {
                    Recompute::Full => [waits(1.0, piece), waits(1.0, piece) + waits(2.0, piece)],
                    // backward a turn has twice the arithmetic, and fetches a piece beside the cotangents
                    Recompute::None if again => [waits(1.0, piece), waits(2.0, 2.0 * piece)],
                    Recompute::None => [waits(1.0, piece), waits(2.0, piece)],
                }
            }
        };
        Across {
            uneven,
            messages: messages.map(|seconds| self.unless(Axis::Context, seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use advect_engine::DType;
    use advect_operators::transformer::{self, Activation, Strategy, Style};

    use super::*;
    use crate::planner::machine::Machine;
    use crate::planner::model::Gpt;
    use crate::planner::recipes::scripted;
    use crate::planner::run::{Keys, Policy, Precision, Run};
    use crate::planner::time::{estimate, setup};

    fn run(context: usize, keys: Keys) -> Run {
        let mut run = Run {
            precision: Precision::F32,
            recompute: Recompute::None,
            policy: Policy::Advect,
            keys,
            ..scripted(1, 1, 1, 0, 2)
        };
        (run.axes.context, run.micro) = (context, 2);
        run
    }

    /// In every way of keys to queries, kept, fetched again or recomputed, with as many groups as heads and with
    /// fewer, context ranks send what the graph that is trained sends, to the byte, and so do replicas of them.
    #[test]
    fn bytes_are_those_of_the_graph() {
        let machine = Machine::built_in("frontier").unwrap();
        for groups in [8, 4] {
            let gpt = Gpt {
                groups,
                hidden: 64,
                ..Gpt::plain(3, 32, 8, 32, 64)
            };
            let trained = transformer::Gpt {
                vocabulary: 64,
                context: 32,
                layers: 3,
                width: 32,
                heads: 8,
                groups,
                head: 4,
                hidden: 64,
                activation: Activation::Gelu,
                style: Style::GPT2,
            };
            for role in [
                "gather",
                "gather-zig-zag",
                "chunks",
                "ring",
                "zig-zag",
                "striped",
                "heads",
            ] {
                for (again, recompute) in
                    [(false, false), (true, false), (false, true), (true, true)]
                {
                    for (c, d) in [(2, 1), (4, 1), (2, 2)] {
                        let mesh = format!("data {d}, context-{role} {c}");
                        let strategy: Strategy = mesh.parse().unwrap();
                        let strategy = strategy.regathering(again).recomputing(recompute);
                        let made = trained.train(2 * d, DType::F32, &strategy).unwrap();
                        let of = |bytes: &dyn Fn(usize) -> usize| {
                            (0..c * d).map(bytes).sum::<usize>() as f64 / (c * d) as f64
                        };
                        let keys: Keys = role.parse().unwrap();
                        let mut run = run(c, Keys { again, ..keys });
                        (run.axes.data, run.batch) = (d, 2 * d);
                        if recompute {
                            run.recompute = Recompute::Full;
                        }
                        let wire = estimate(&machine, &gpt, &run).unwrap().wire;
                        let graph = &made.graph;
                        let sent = of(&|w| graph.bytes_sent(w) + graph.bytes_sent_back(w));
                        assert_eq!(wire.context, sent, "{run}, {groups} groups");
                        let gradients = of(&|w| made.gradient_bytes_sent(w).unwrap());
                        assert_eq!(wire.data, gradients, "{run}, {groups} groups");
                    }
                }
            }
        }
    }

    /// Of long sequences eight ranks lose nearly half where the last sees all keys, and next to nothing where work is
    /// even; of short ones a ring waits for its hops, and a gather for all of them.
    #[test]
    fn even_work_hides_hops() {
        let machine = Machine::built_in("dgx-h100").unwrap();
        let part = |keys, sequence| {
            let gpt = Gpt::plain(1, 4096, 32, sequence, 256);
            let run = run(8, keys);
            let setup = setup(&machine, &gpt, &run).unwrap();
            let attention = 1e-12 * (sequence * sequence) as f64;
            let across = setup.across(attention);
            let whole = 3.0 * (attention + across.uneven) + across.messages.iter().sum::<f64>();
            3.0 * attention / whole
        };
        let long = 1 << 20;
        assert!((part(Keys::RING, long) - 8.0 / 15.0).abs() < 0.01);
        assert!(part(Keys::GATHER, long) < part(Keys::RING, long));
        assert!(part(Keys::GATHER, long) < part(Keys::CHUNKS, long));
        for keys in [Keys::ZIG_ZAG, Keys::HEADS] {
            assert!(part(keys, long) > 0.9, "{keys}");
        }
        assert!(part(Keys::ZIG_ZAG, 4096) < 0.9);
        assert!(part(Keys::RING, 1 << 16) > part(Keys::GATHER_AGAIN, 1 << 16));
    }
}
