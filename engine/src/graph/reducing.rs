//! Gradients on their way: how many operators' a worker may have under way when it makes more.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use timely::scheduling::Activator;

use crate::graph::admission::Slot;
use crate::graph::build::{Kind, Rate};
use crate::graph::sweep::Sweep;
use crate::graph::{Graph, Moment};
use crate::relayout::Arrivals;

/// Operators whose gradients may be under way when an adjoint makes more: those of one move while the next works.
const UNDER_WAY: usize = 1;

/// A place in the order of the way back: the moment and key, and the node, the last first.
type Place = (Slot, Reverse<usize>);

/// Cotangents of parameters that are reduced at every moment (ZeRO-2, ZeRO-3), from when they leave until their
/// sum has come.
///
/// A worker that goes back through all its layers before it looks at what others sent holds all their gradients
/// at once. So an adjoint waits while those of more than [`UNDER_WAY`] operators before it are under way. The order
/// is the same on all workers, and nothing waits for what comes after it, so the first that is not done can
/// always go on: whatever order work comes in, no worker waits for one that waits for it.
#[derive(Debug, Default)]
pub(crate) struct Reducing {
    under_way: RefCell<BTreeMap<Place, usize>>,
    waiting: RefCell<Vec<Activator>>,
}

impl Reducing {
    /// Whether the adjoint of `node` may make gradients.
    pub(crate) fn goes_on(&self, slot: Slot, node: usize) -> bool {
        let before = ..(slot, Reverse(node));
        self.under_way.borrow().range(before).count() <= UNDER_WAY
    }

    /// Wakes an adjoint that waits when that may have changed.
    pub(crate) fn wait(&self, wake: &Activator) {
        self.waiting.borrow_mut().push(wake.clone());
    }

    /// Counts `gradients` that the adjoint of `node` has made, and that leave.
    pub(crate) fn leave(&self, slot: Slot, node: usize, gradients: usize) {
        if gradients > 0 {
            let mut under_way = self.under_way.borrow_mut();
            *under_way.entry((slot, Reverse(node))).or_default() += gradients;
        }
    }

    /// Is told of the sums of gradients to which the adjoint of `node` is the last to add.
    pub(crate) fn arrivals<T: Moment>(self: &Rc<Self>, node: usize) -> Arrivals<T> {
        let all = Rc::clone(self);
        Rc::new(move |time, key| all.came(((time.coordinates(), key), Reverse(node))))
    }

    fn came(&self, place: Place) {
        let mut under_way = self.under_way.borrow_mut();
        if let Some(left) = under_way.get_mut(&place) {
            *left -= 1;
            if *left == 0 {
                under_way.remove(&place);
                self.waiting.take().iter().for_each(Activator::activate);
            }
        }
    }
}

impl Graph {
    /// Relayouts whose gradients are reduced at every moment of a sweep, by the node whose adjoint is the last to add
    /// to them; without those that something adds to which answers once a version.
    pub(crate) fn reduced(&self, sweep: &Sweep) -> BTreeMap<usize, usize> {
        let (mut last, mut late) = (BTreeMap::new(), BTreeSet::new());
        for (at, node) in self.nodes.iter().enumerate().rev() {
            let once = match &node.kind {
                Kind::Relayout { rate, .. } => *rate == Rate::Version,
                _ => self.held(node),
            };
            let inputs = node.inputs.iter().zip(sweep.wanted(node));
            for (value, _) in inputs.filter(|(_, wanted)| *wanted) {
                let maker = self.values[value.0].maker;
                if let Kind::Relayout { rate, .. } = &self.nodes[maker].kind
                    && *rate != Rate::Version
                    && self.values[self.nodes[maker].inputs[0].0].held
                {
                    last.insert(maker, at);
                    late.extend(once.then_some(maker));
                }
            }
        }
        last.retain(|maker, _| !late.contains(maker));
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Tick;

    const NOW: Slot = ([0, 1], 0);

    #[test]
    fn gradients_of_one_operator_are_under_way_while_the_next_works() {
        let all = Rc::new(Reducing::default());
        all.leave(NOW, 9, 2);
        assert!(all.goes_on(NOW, 7), "one is under way");
        all.leave(NOW, 7, 1);
        assert!(!all.goes_on(NOW, 5), "two are");
        let came = all.arrivals::<Tick>(9);
        came(&Tick::new(0, 1), 0);
        assert!(!all.goes_on(NOW, 5), "one of the two of node 9 has come");
        came(&Tick::new(0, 1), 0);
        assert!(all.goes_on(NOW, 5));
    }

    #[test]
    fn nothing_waits_for_what_comes_after_it() {
        let all = Reducing::default();
        for node in [1, 3, 5] {
            all.leave(NOW, node, 1);
            all.leave(([0, 2], 0), node + 4, 1);
        }
        assert!(
            all.goes_on(NOW, 7),
            "of this moment, but closer to the sources"
        );
        assert!(all.goes_on(NOW, 5), "itself");
        assert!(!all.goes_on(([0, 2], 0), 9), "of the moment before");
        assert!(all.goes_on(([0, 0], 8), 0), "the moment before both");
    }

    /// What is not counted, or has been already, is no error: a sum may come of which this adjoint gave nothing.
    #[test]
    fn sums_of_nothing_are_no_matter() {
        let all = Rc::new(Reducing::default());
        all.arrivals::<Tick>(4)(&Tick::new(0, 1), 0);
        all.leave(NOW, 4, 0);
        assert!(all.under_way.borrow().is_empty());
    }
}
