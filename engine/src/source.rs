//! Sources that read from outside no faster than the dataflow takes.
//!
//! A source stops by bytes in flight, which bounds the memory before a slow consumer, and by the
//! distance of its time from the frontier of the results, which bounds the state that operators
//! keep per time. Neither polls: returned credits and a moving frontier wake the source.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use timely::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::generic::{self, OutputBuilder};
use timely::dataflow::{Scope, Stream};
use timely::progress::Timestamp;
use timely::scheduling::Activator;

use crate::credit::{Cargo, Credit, Lent, Returned, Wire, lend, loop_back};
use crate::relayout::Batches;
use crate::shard::{Batch, Shard};

/// Records read in one go before other operators run.
const BURST: usize = 1024;

/// What a source reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<T, D> {
    /// A record of a time that the source has not left behind.
    Record(T, D),
    /// No record of an earlier time comes any more.
    Advance(T),
    /// Nothing is there; look again after this long.
    Wait(Duration),
}

/// How far a source may run ahead of the results; clones are the same.
pub struct Pace<T> {
    ahead: u64,
    position: fn(&T) -> u64,
    /// Least position in the frontier of the results; `None` when they are complete.
    reached: Rc<Cell<Option<u64>>>,
    waiting: Rc<RefCell<Vec<Activator>>>,
}

impl<T> Clone for Pace<T> {
    fn clone(&self) -> Self {
        Pace {
            ahead: self.ahead,
            position: self.position,
            reached: Rc::clone(&self.reached),
            waiting: Rc::clone(&self.waiting),
        }
    }
}

impl<T> std::fmt::Debug for Pace<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ahead, reached) = (self.ahead, self.reached.get());
        write!(f, "Pace {{ ahead: {ahead}, reached: {reached:?} }}")
    }
}

impl<T: Timestamp> Pace<T> {
    /// At most `ahead` beyond the results, as counted by `position`, which must not decrease
    /// along the order of times. The results are at the minimum until [`Pace::follow`] says what
    /// they are.
    pub fn new(ahead: u64, position: fn(&T) -> u64) -> Self {
        Pace {
            ahead,
            position,
            reached: Rc::new(Cell::new(Some(position(&T::minimum())))),
            waiting: Rc::default(),
        }
    }

    /// Takes the frontier of `results`, which is that of all workers, as what is reached.
    pub fn follow<'s, C>(&self, results: Stream<'s, T, C>) -> Stream<'s, T, C>
    where
        C: timely::Container + timely::container::SizableContainer + 'static,
        CapacityContainerBuilder<C>: timely::container::ContainerBuilder<Container = C>,
    {
        let Pace {
            position,
            reached,
            waiting,
            ..
        } = self.clone();
        results.unary_frontier::<CapacityContainerBuilder<C>, _, _, _>(
            Pipeline,
            "Pace",
            move |_, _| {
                move |(input, frontier), output| {
                    input.for_each(|cap, data| output.session(&cap).give_container(data));
                    reached.set(frontier.frontier().iter().map(position).min());
                    for source in waiting.borrow_mut().drain(..) {
                        source.activate();
                    }
                }
            },
        )
    }

    /// Whether what is of `time` may be given now; if not, `wake` is called when that may have changed.
    pub fn ready(&self, time: &T, wake: &Activator) -> bool {
        let allowed = self.allows(time);
        if !allowed {
            self.waiting.borrow_mut().push(wake.clone());
        }
        allowed
    }

    fn allows(&self, time: &T) -> bool {
        match self.reached.get() {
            Some(at) => (self.position)(time) <= at.saturating_add(self.ahead),
            None => true,
        }
    }
}

/// Gives tensors at their times, all at once, and ends.
pub fn tensors<'s, T: Timestamp>(
    scope: Scope<'s, T>,
    name: &str,
    tensors: Vec<(T, Shard)>,
) -> Stream<'s, T, Batch> {
    generic::source::<_, Batches, _, _>(scope, name, move |capability, _| {
        let mut rest = Some((capability, tensors));
        move |output| {
            if let Some((capability, tensors)) = rest.take() {
                for (time, shard) in tensors {
                    output.session(&capability.delayed(&time)).give(shard);
                }
            }
        }
    })
}

/// Reads `items` and sends each record to the worker that `route` says (modulo their number),
/// while the bytes in flight stay within `credit` and the time within `pace`. The source of a
/// worker that has nothing to read gets an empty iterator.
///
/// # Panics
/// If an item is of a time that the source has left behind; that is an error of the iterator.
pub fn source<'s, T, D, R, I>(
    scope: Scope<'s, T>,
    name: &str,
    items: I,
    route: R,
    credit: &Credit,
    pace: &Pace<T>,
) -> Stream<'s, T, Vec<Lent<D>>>
where
    T: Timestamp,
    D: Cargo + ExchangeData,
    R: Fn(&D) -> u64 + 'static,
    I: IntoIterator<Item = Item<T, D>>,
    I::IntoIter: 'static,
{
    let me = scope.worker().index() as u32;
    let (credit, pace, name) = (credit.clone(), pace.clone(), name.to_owned());
    let mut items = items.into_iter();
    let (handle, returned) = loop_back(scope);
    let mut builder = OperatorBuilder::new(name.clone(), scope);
    let home = Exchange::new(|r: &Returned| u64::from(r.0));
    let mut back = builder.new_input_connection(returned, home, []);
    let (output, wire) = builder.new_output_connection::<Vec<Wire<D>>, _>([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(output);
    let address = builder.operator_info().address;
    builder.build(move |mut capabilities| {
        let wake = scope.activator_for(Rc::clone(&address));
        let mut now = capabilities.pop();
        let mut next: Option<Item<T, D>> = None;
        wake.activate();
        move |_| {
            back.for_each(|_, returns| {
                returns
                    .drain(..)
                    .for_each(|(_, bytes)| credit.give_back(bytes));
            });
            crate::observe::outside(false);
            let mut output = output.activate();
            for count in 0.. {
                let Some(cap) = now.as_mut() else { break };
                if count == BURST {
                    wake.activate();
                    break;
                }
                match next.take().or_else(|| items.next()) {
                    None => now = None,
                    Some(Item::Wait(time)) => {
                        crate::observe::outside(true);
                        wake.activate_after(time);
                        break;
                    }
                    Some(Item::Advance(time)) => {
                        if cap.try_downgrade(&time).is_err() {
                            panic!("{name}: advanced to {time:?} after {:?}", cap.time());
                        }
                    }
                    Some(Item::Record(time, record)) => {
                        let bytes = record.bytes() as u64;
                        let Some(at) = cap.try_delayed(&time) else {
                            panic!("{name}: a record of {time:?} after {:?}", cap.time());
                        };
                        if pace.ready(&time, &wake) && credit.spend(bytes) {
                            output.session(&at).give((me, bytes, record));
                            continue;
                        }
                        next = Some(Item::Record(time, record));
                        break;
                    }
                }
            }
            credit.report();
        }
    });
    lend(wire, route, handle)
}
