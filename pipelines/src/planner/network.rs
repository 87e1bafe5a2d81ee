//! Collectives: what they cost on the part of a machine that an axis spans.
//!
//! A ring of n devices gathers M bytes in $(n - 1)(\alpha + M / n\beta)$, and reduces to all in
//! twice that: Thakur et al. (2005). It is as slow as the slowest level that it crosses; rings that
//! leave a group side by side share its links.

use super::machine::Machine;
use super::run::{Axes, Axis};

/// The devices of one axis, or of several, as a ring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// n.
    pub members: usize,
    /// Index of the largest level that it crosses.
    pub level: usize,
    /// α, seconds a round.
    pub latency: f64,
    /// β that one member reaches, B/s.
    pub bandwidth: f64,
}

impl Group {
    /// Bytes that a member sends to gather M bytes of all, or to reduce M and scatter them.
    pub fn gather_bytes(&self, bytes: f64) -> f64 {
        let n = self.members as f64;
        (n - 1.0) / n * bytes
    }

    /// Seconds of a gather, or of a reduce and scatter, of M bytes.
    pub fn gather(&self, bytes: f64) -> f64 {
        (self.members as f64 - 1.0) * self.latency + self.gather_bytes(bytes) / self.bandwidth
    }

    /// Seconds of a reduction of M bytes to all.
    pub fn all_reduce(&self, bytes: f64) -> f64 {
        2.0 * self.gather(bytes)
    }

    /// Seconds of M bytes from one device to one other.
    pub fn send(&self, bytes: f64) -> f64 {
        self.latency + bytes / self.bandwidth
    }
}

/// A mesh on a machine.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    machine: &'a Machine,
    axes: Axes,
    order: [Axis; 4],
}

impl<'a> Network<'a> {
    /// The mesh of `axes`, neighbours first in `order`.
    pub fn new(machine: &'a Machine, axes: Axes, order: [Axis; 4]) -> Self {
        Network {
            machine,
            axes,
            order,
        }
    }

    /// Devices between two neighbours of an axis.
    pub fn stride(&self, axis: Axis) -> usize {
        let faster = self.order.iter().take_while(|a| **a != axis);
        faster.map(|a| self.axes.extent(*a)).product()
    }

    /// The ring over all devices that differ only on `axes`.
    pub fn group(&self, axes: &[Axis]) -> Group {
        let used = || axes.iter().filter(|a| self.axes.extent(**a) > 1);
        let members = used().map(|a| self.axes.extent(*a)).product();
        let stride = used().map(|a| self.stride(*a)).min().unwrap_or(1);
        let span = used().map(|a| self.stride(*a) * self.axes.extent(*a)).max();
        self.ring(members, stride, span.unwrap_or(1))
    }

    /// A ring of `members`, `stride` apart at least, within `span` devices.
    fn ring(&self, members: usize, stride: usize, span: usize) -> Group {
        let levels = &self.machine.levels;
        let holds = |size: usize| size.is_multiple_of(span);
        let top = levels
            .iter()
            .position(|l| holds(l.size))
            .unwrap_or(levels.len() - 1);
        let mut bandwidth = f64::INFINITY;
        let mut below = 1;
        for level in &levels[..=top] {
            // members in one group below leave it together, over its links
            let inside = (below / stride).clamp(1, members.max(1)) as f64;
            let links = (inside / level.shared_by as f64).min(level.rails as f64);
            bandwidth = bandwidth.min(level.bandwidth * links);
            below = level.size;
        }
        Group {
            members,
            level: top,
            latency: levels[top].latency,
            bandwidth: bandwidth * self.machine.link_efficiency,
        }
    }

    /// The link between pipeline ranks `i` and `j`: the slowest over all that send at once.
    pub fn hop(&self, i: usize, j: usize) -> Group {
        let levels = &self.machine.levels;
        let stride = self.stride(Axis::Pipeline);
        let shared = |size: usize| {
            let split = |o: usize| (i * stride + o) / size != (j * stride + o) / size;
            !(0..stride).any(split)
        };
        let top = levels
            .iter()
            .position(|l| shared(l.size))
            .unwrap_or(levels.len() - 1);
        let level = &levels[top];
        let below = if top == 0 { 1 } else { levels[top - 1].size };
        // devices of a group below that send over this level at once; a sender has one link at most
        let senders = stride.min(below) as f64;
        let links = below as f64 / level.shared_by as f64;
        let each = if level.shared_by == 1 {
            1.0
        } else {
            (links / senders).min(1.0)
        };
        Group {
            members: 2,
            level: top,
            latency: level.latency,
            bandwidth: level.bandwidth * each * self.machine.link_efficiency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::run::TENSOR_FIRST;

    fn axes(tensor: usize, context: usize, data: usize, pipeline: usize) -> Axes {
        Axes {
            tensor,
            pipeline,
            data,
            context,
        }
    }

    /// On Frontier, tensor axes of 2, 4 and 8 stay in the module, the half node and the node;
    /// beyond, and where groups straddle, they leave it. Replicas of whole nodes share four cards.
    #[test]
    fn axes_span_the_levels_that_their_order_says() {
        let machine = Machine::built_in("frontier").unwrap();
        let eta = machine.link_efficiency;
        let ring = |axes: Axes, axis| {
            let group = Network::new(&machine, axes, TENSOR_FIRST).group(&[axis]);
            let level = machine.levels[group.level].name.as_str();
            (
                level.to_owned(),
                (group.bandwidth / eta / 1e8).round() / 10.0,
            )
        };
        for (t, level, rate) in [
            (2, "module", 200.0),
            (4, "half node", 100.0),
            (8, "node", 50.0),
            (3, "system", 37.5),
        ] {
            assert_eq!(
                ring(axes(t, 1, 1, 16), Axis::Tensor),
                (level.to_owned(), rate)
            );
        }
        let data = |t, d| ring(axes(t, 1, d, 1), Axis::Data);
        assert_eq!(data(4, 2), ("node".to_owned(), 50.0));
        assert_eq!(data(8, 4), ("system".to_owned(), 12.5));
        assert_eq!(data(4, 8), ("system".to_owned(), 25.0));
        assert_eq!(data(1, 32), ("system".to_owned(), 50.0));
    }

    /// A stage that fills a node sends over the cards of the node, shared by all its devices; a
    /// smaller one sends inside the node, or alone over a card.
    #[test]
    fn hops_share_the_cards() {
        let machine = Machine::built_in("frontier").unwrap();
        let eta = machine.link_efficiency;
        let hop = |a: Axes, i| {
            let group = Network::new(&machine, a, TENSOR_FIRST).hop(i, i + 1);
            (group.level, group.bandwidth / eta)
        };
        assert_eq!(hop(axes(8, 1, 1, 4), 0), (3, 12.5e9));
        assert_eq!(hop(axes(4, 1, 2, 4), 2), (3, 12.5e9));
        assert_eq!(hop(axes(2, 1, 1, 8), 0), (1, 100e9));
        assert_eq!(hop(axes(2, 1, 1, 8), 3), (3, 25e9));
    }

    /// A ring of one costs nothing; of n, reducing costs twice gathering, and bytes are the closed
    /// form.
    #[test]
    fn rings_cost_the_closed_form() {
        let group = Group {
            members: 4,
            level: 0,
            latency: 1.0,
            bandwidth: 2.0,
        };
        assert_eq!(group.gather_bytes(8.0), 6.0);
        assert_eq!(group.gather(8.0), 3.0 + 3.0);
        assert_eq!(group.all_reduce(8.0), 12.0);
        let alone = Group {
            members: 1,
            ..group
        };
        assert_eq!(alone.all_reduce(8.0), 0.0);
    }
}
