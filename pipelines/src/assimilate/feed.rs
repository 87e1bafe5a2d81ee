//! The source that plays the stream, one `known` after the other, no further than it may.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use advect_engine::Cycle;
use advect_operators::cycle::ReportUpdate;
use advect_operators::observations::Report;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Exchange as _;
use timely::dataflow::operators::generic::operator::{Operator, source};
use timely::dataflow::operators::vec::Map;
use timely::dataflow::{Scope, StreamVec};
use timely::scheduling::Activator;

/// How far the stream may go; worker 0 decides for all.
#[derive(Clone, Default)]
pub(crate) struct Pace {
    /// Number of `known` that may be given.
    allowed: Rc<Cell<u64>>,
    ended: Rc<Cell<bool>>,
    waiting: Rc<RefCell<Option<Activator>>>,
}

impl Pace {
    /// Lets the stream give every `known` before `to`.
    pub(crate) fn allow(&self, to: u64) {
        if to > self.allowed.replace(to) {
            self.wake();
        }
    }

    /// Ends the stream behind what was allowed.
    pub(crate) fn end(&self) {
        if !self.ended.replace(true) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(activator) = self.waiting.borrow().as_ref() {
            activator.activate();
        }
    }
}

/// One record per worker at (first open cycle, known) for every `known` of `span`. All come from
/// worker 0, so that all workers end at the same `known`.
pub(crate) fn ticks<'s>(
    scope: &Scope<'s, Cycle>,
    span: Range<u64>,
    window: u64,
    pace: &Pace,
) -> StreamVec<'s, Cycle, ()> {
    let (pace, scope) = (pace.clone(), *scope);
    let workers = scope.worker().peers() as u64;
    let first = scope.worker().index() == 0;
    let at = move |known: u64| Cycle::new(known.saturating_sub(window), known);
    type Out = CapacityContainerBuilder<Vec<u64>>;
    source::<_, Out, _, _>(scope, "Ticks", move |capability, info| {
        *pace.waiting.borrow_mut() = Some(scope.activator_for(info.address));
        let mut capability = first.then_some(capability);
        let mut known = span.start;
        move |output| {
            if let Some(cap) = capability.as_mut() {
                while known < pace.allowed.get().min(span.end) {
                    cap.downgrade(&at(known));
                    output.session(&*cap).give_iterator(0..workers);
                    known += 1;
                }
                cap.downgrade(&at(known));
            }
            if known >= span.end || pace.ended.get() {
                capability = None;
            }
        }
    })
    .exchange(|to| *to)
    .map(|_| ())
}

/// The updates of reports that each tick brings, each given by one worker. The first tick, at `begin`,
/// brings what came before as well, as far as it concerns cycles from `open` on.
pub(crate) fn reports<'s>(
    ticks: StreamVec<'s, Cycle, ()>,
    arrivals: &[Vec<ReportUpdate>],
    (begin, open): (u64, u64),
) -> StreamVec<'s, Cycle, ReportUpdate> {
    let (worker, workers) = (
        ticks.scope().worker().index(),
        ticks.scope().worker().peers(),
    );
    let mine = |updates: &[ReportUpdate]| -> Vec<ReportUpdate> {
        let mine = updates.iter().skip(worker).step_by(workers);
        mine.cloned().collect()
    };
    let mut left: Vec<Vec<ReportUpdate>> = arrivals.iter().map(|of| mine(of)).collect();
    if let Some((before, now)) = arrivals
        .get(..begin as usize)
        .zip(left.get_mut(begin as usize))
    {
        now.extend(mine(&standing(before, begin, open)));
    }
    type Out = CapacityContainerBuilder<Vec<ReportUpdate>>;
    ticks.unary::<Out, _, _, _>(Pipeline, "Reports", move |_, _| {
        move |input, output| {
            input.for_each(|cap, data| {
                data.clear();
                for tick in cap.stamp().elements() {
                    let updates = left.get_mut(tick.known as usize).map(std::mem::take);
                    for update in updates.into_iter().flatten() {
                        output.session(&cap.delayed(&update.1, 0)).give(update);
                    }
                }
            });
        }
    })
}

/// What stands of `updates` in cycles from `open` on, as if all of it came at `begin`.
fn standing(updates: &[Vec<ReportUpdate>], begin: u64, open: u64) -> Vec<ReportUpdate> {
    let mut counts: BTreeMap<(u64, &Report), isize> = BTreeMap::new();
    for (report, time, diff) in updates.iter().flatten().filter(|u| u.1.valid >= open) {
        *counts.entry((time.valid, report)).or_default() += diff;
    }
    let stand = counts.into_iter().filter(|(_, count)| *count != 0);
    stand
        .map(|((valid, report), count)| (report.clone(), Cycle::new(valid, begin), count))
        .collect()
}
