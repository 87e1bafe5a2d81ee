//! In which order a worker with several sections begins them: the forward half of interleaved 1F1B.
//!
//! A *section* is what a worker does of a moment between two stays of it at other places: a chunk of a pipeline whose
//! chunks go around. A worker with one section takes moments as they come; with more, it has a choice, and what it
//! chooses says how long others wait. The order is that of Narayanan et al. (2021, *Efficient large-scale language model
//! training on GPU clusters*, §2.2): moments in groups of as many as there are places, each group through one section
//! after the other; what goes forward before what comes back; and back from the last section on.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::Graph;
use crate::graph::admission::Slot;
use crate::graph::build::Kind;
use crate::layout::Placement;

/// A moment (and key) on one section of a worker.
pub(crate) type Pair = (Slot, usize);

/// Way (forward first), step, group of moments, section (on the way back from the last on), moment, key.
type Rank = (bool, u64, u64, usize, u64, u64);

/// Which section of a worker each node belongs to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sections {
    /// By node, if it waits for admission there: one that belongs to no place is in the section of what is before it, and
    /// one of a later section on which nothing before it has an effect, such as a count of targets, may work at once.
    of: Vec<Option<usize>>,
    /// At least one.
    count: usize,
    /// Places of the graph, at least one: moments of a group.
    places: usize,
}

impl Sections {
    /// That of a node that waits for admission.
    pub(crate) fn of(&self, node: usize) -> Option<usize> {
        self.of[node]
    }

    /// Pairs without which no moment comes through: a group on all sections but the last, and one there.
    pub(crate) fn least(&self) -> usize {
        (self.count - 1) * self.places + 1
    }
}

impl Graph {
    /// The sections of `worker`.
    pub(crate) fn sections(&self, worker: usize) -> Sections {
        let (mut places, mut last) = (BTreeSet::new(), None);
        let mut sections = Sections::default();
        // the stay that is going on, and the first one that each value is made of
        let mut stay = 0;
        let mut since = vec![usize::MAX; self.values.len()];
        for node in &self.nodes {
            let at = match &node.kind {
                Kind::Apply(_) if !self.held(node) => self.place(node),
                _ => None,
            };
            let mut first = node.inputs.iter().map(|v| since[v.0]).min();
            if let Some(at) = at {
                let moved = last.as_ref() != Some(&at);
                let here = !self.site(node, worker).absent;
                stay += usize::from(moved);
                sections.count += usize::from(here && (moved || sections.count == 0));
                first = first.min(Some(stay)).or(Some(stay));
                places.insert(at.clone());
                last = Some(at);
            }
            for v in &node.outputs {
                since[v.0] = first.unwrap_or(usize::MAX);
            }
            let section = sections.count.saturating_sub(1);
            let follows = section == 0 || first.is_some_and(|first| first < stay);
            sections.of.push(follows.then_some(section));
        }
        sections.count = sections.count.max(1);
        sections.places = places.len().max(1);
        sections
    }

    /// Where a node works, on the axes on which it is at one place.
    fn place(&self, node: &crate::graph::build::Node) -> Option<Vec<Option<usize>>> {
        let axes = &self.spec(*node.inputs.first()?).layout.axes;
        let at = axes.iter().map(|placement| match placement {
            Placement::At { at } => Some(*at),
            _ => None,
        });
        let at: Vec<_> = at.collect();
        at.iter().any(Option::is_some).then_some(at)
    }
}

/// What a worker has begun and what is ready.
///
/// Workers of one place begin sections of moments in one order, but for what may begin earlier without taking the room of
/// what comes before it: so none waits with all it may have in work for one that waits for it.
#[derive(Debug)]
pub(crate) struct Order {
    sections: usize,
    places: u64,
    /// Begun on a section and not on the next.
    due: BTreeSet<Rank>,
    /// The latest moment that the first section has begun.
    latest: Option<[u64; 2]>,
    /// No moment before this comes to the first section any more.
    closed: [u64; 2],
    /// On their way back.
    back: BTreeSet<Pair>,
    /// What is ready, and how many beginnings there were when it was.
    ready: BTreeMap<Rank, u64>,
    begun: u64,
}

impl Order {
    pub(crate) fn new(sections: &Sections) -> Self {
        Order {
            sections: sections.count,
            places: sections.places as u64,
            due: BTreeSet::new(),
            latest: None,
            closed: [0, 0],
            back: BTreeSet::new(),
            ready: BTreeMap::new(),
            begun: 0,
        }
    }

    /// Whether there is none: moments are taken as they come.
    pub(crate) fn is_free(&self) -> bool {
        self.sections == 1
    }

    fn rank(&self, back: bool, (([step, moment], key), section): Pair) -> Rank {
        let section = match back {
            true => self.sections - 1 - section,
            false => section,
        };
        (back, step, moment / self.places, section, moment, key)
    }

    /// Whether a moment on a section may begin where `room` more pairs may: if nothing that is due comes before it, and
    /// what may still come of its group to the first section has room beside it, or none does.
    pub(crate) fn comes_next(&self, pair: Pair, room: usize) -> bool {
        let ([step, moment], _) = pair.0;
        let end = (moment / self.places)
            .saturating_add(1)
            .saturating_mul(self.places);
        let begun = match self.latest {
            Some(latest) if latest[0] == step => latest[1] + 1,
            Some(latest) if latest[0] > step => end,
            _ => 0,
        };
        let missing = match self.closed >= [step, end] || pair.1 == 0 {
            true => 0,
            false => end.saturating_sub(begun.max(end - self.places)),
        };
        let rank = self.rank(false, pair);
        let follows = pair.1 == 0 || self.due.contains(&rank);
        follows && missing < room as u64 && self.due.first().is_none_or(|due| *due >= rank)
    }

    /// Whether a pair that is ready begins: at once without an order; else a pass over the dataflow after the one before,
    /// when all that is ready has said so, the first of it does.
    pub(crate) fn turn(&mut self, back: bool, pair: Pair) -> bool {
        if !self.is_free() {
            let rank = self.rank(back, pair);
            let known = self.ready.insert(rank, self.begun) == Some(self.begun);
            let first = self.ready.first_key_value();
            if !known || first.is_some_and(|(first, _)| *first < rank) {
                return false;
            }
            self.ready.remove(&rank);
            self.begun += 1;
        }
        match back {
            true => _ = self.back.insert(pair),
            false => self.begin(pair),
        }
        true
    }

    /// Notes that a pair begins.
    fn begin(&mut self, pair: Pair) {
        self.due.remove(&self.rank(false, pair));
        if pair.1 == 0 {
            self.latest = self.latest.max(Some(pair.0.0));
        }
        if pair.1 + 1 < self.sections {
            self.due.insert(self.rank(false, (pair.0, pair.1 + 1)));
        }
    }

    /// Takes back that a pair is ready.
    pub(crate) fn withdraw(&mut self, back: bool, pair: Pair) {
        self.ready.remove(&self.rank(back, pair));
    }

    /// Whether a pair is on its way back.
    pub(crate) fn returns(&self, pair: Pair) -> bool {
        self.back.contains(&pair)
    }

    /// Forgets a pair that is through.
    pub(crate) fn end(&mut self, pair: Pair) {
        self.back.remove(&pair);
    }

    /// Whether all moments of the step have begun.
    pub(crate) fn is_through(&self) -> bool {
        let end = self.latest.map(|[step, _]| [step.saturating_add(1), 0]);
        self.due.is_empty() && end.is_none_or(|end| self.closed >= end)
    }

    /// Notes that no moment before `bound` comes to the first section any more; whether that is news.
    pub(crate) fn close(&mut self, bound: [u64; 2]) -> bool {
        let news = bound > self.closed;
        self.closed = self.closed.max(bound);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::graph::{Operator, Saved, Site, Spec};
    use crate::layout::Layout;
    use crate::mesh::Mesh;
    use crate::shard::{DType, Shard};

    fn order() -> Order {
        Order::new(&Sections {
            of: Vec::new(),
            count: 2,
            places: 2,
        })
    }

    fn pair(moment: u64, section: usize) -> Pair {
        (([0, moment], 0), section)
    }

    /// Two stages with two chunks each, and an operator on the last that reads a source alone.
    #[test]
    fn sections_are_stays_at_a_place() {
        #[derive(Debug)]
        struct Same;
        impl Operator for Same {
            fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
                Ok(inputs[..1].to_vec())
            }
            fn forward(&self, _: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
                Ok((inputs[..1].to_vec(), Saved::nothing()))
            }
            fn tangent(&self, _: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
                Ok(tangents[..1].to_vec())
            }
            fn adjoint(
                &self,
                _: &Site,
                _: &Saved,
                cotangents: &[Shard],
                _: &[bool],
            ) -> Result<Vec<Option<Shard>>> {
                Ok(vec![Some(cotangents[0].clone())])
            }
        }
        let at = |at| Layout::new([Placement::At { at }]);
        let mut graph = Graph::new(Mesh::line("stage", 2));
        let spec = |layout| Spec::new([1], DType::F64, layout);
        let mut x = graph.input("x", spec(at(0))).unwrap();
        let targets = graph.input("targets", spec(at(1))).unwrap();
        let mut nodes = Vec::new();
        for chunk in 0..4 {
            x = graph.relayout(x, &at(chunk % 2)).unwrap();
            x = graph.apply(&format!("chunk {chunk}"), Same, &[x]).unwrap();
            nodes.push(graph.values[x.0].maker);
        }
        let count = graph.apply("count", Same, &[targets]).unwrap();
        nodes.push(graph.values[count.0].maker);
        let of = |worker| {
            let sections = graph.sections(worker);
            assert_eq!(
                (sections.count, sections.places, sections.least()),
                (2, 2, 3)
            );
            nodes
                .iter()
                .map(|&node| sections.of[node])
                .collect::<Vec<_>>()
        };
        assert_eq!([of(0)[0], of(0)[2]], [Some(0), Some(1)]);
        assert_eq!([of(1)[1], of(1)[3], of(1)[4]], [Some(0), Some(1), None]);
    }

    /// Says twice that a pair is ready, as an operator does in two passes.
    fn begins(order: &mut Order, back: bool, pair: Pair) -> bool {
        order.turn(back, pair) || order.turn(back, pair)
    }

    #[test]
    fn groups_pass_one_section_after_the_other() {
        let mut order = order();
        assert!(
            !order.comes_next(pair(0, 1), 1),
            "its group is not through yet"
        );
        for moment in [0, 1] {
            assert!(order.comes_next(pair(moment, 0), 1));
            assert!(begins(&mut order, false, pair(moment, 0)));
        }
        assert!(!order.comes_next(pair(2, 0), 1), "the first group is due");
        for moment in [0, 1] {
            assert!(order.comes_next(pair(moment, 1), 1));
            assert!(begins(&mut order, false, pair(moment, 1)));
        }
        assert!(order.comes_next(pair(2, 0), 1));
    }

    #[test]
    fn a_group_ends_when_nothing_comes_any_more() {
        let mut order = order();
        assert!(begins(&mut order, false, pair(0, 0)));
        assert!(!order.comes_next(pair(0, 1), 1), "a second one may come");
        assert!(!order.close([0, 0]), "known before");
        assert!(order.close([1, 0]) && order.comes_next(pair(0, 1), 1));
    }

    #[test]
    fn no_section_begins_before_the_one_before_it() {
        let mut order = order();
        assert!(!order.comes_next(pair(0, 1), 9));
        assert!(begins(&mut order, false, pair(0, 0)));
        assert!(order.comes_next(pair(0, 1), 9) && begins(&mut order, false, pair(0, 1)));
        assert!(order.due.is_empty());
    }

    /// A source may give one moment, and wait for what comes of it.
    #[test]
    fn a_group_is_not_waited_for_where_it_has_room() {
        let mut order = order();
        assert!(begins(&mut order, false, pair(0, 0)));
        assert!(
            order.comes_next(pair(0, 1), 2),
            "one for it, and one for the other of the group"
        );
    }

    #[test]
    fn what_is_ready_at_once_begins_in_its_order() {
        let mut order = order();
        let ready = [(true, pair(0, 0)), (true, pair(1, 1)), (false, pair(4, 0))];
        assert!(
            !ready
                .map(|(back, pair)| order.turn(back, pair))
                .contains(&true),
            "a pass first"
        );
        assert!(!order.turn(true, pair(0, 0)), "what goes forward first");
        assert!(order.turn(false, pair(4, 0)));
        assert!(
            !order.turn(true, pair(1, 1)),
            "another pass after a beginning"
        );
        assert!(
            !order.turn(true, pair(0, 0)),
            "of what comes back the last section first"
        );
        assert!(order.turn(true, pair(1, 1)) && order.returns(pair(1, 1)));
        order.end(pair(1, 1));
        assert!(!order.returns(pair(1, 1)));
    }

    #[test]
    fn who_withdraws_holds_nobody_up() {
        let mut order = order();
        for (back, pair) in [(false, pair(0, 0)), (true, pair(0, 1))] {
            order.turn(back, pair);
        }
        order.withdraw(false, pair(0, 0));
        assert!(order.turn(true, pair(0, 1)));
    }
}
