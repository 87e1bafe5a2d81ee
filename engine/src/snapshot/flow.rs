//! The dataflow of snapshots: entries to their keepers, orders from worker 0, receipts to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::{Operator, source};
use timely::progress::Timestamp;
use timely::worker::Worker;

use super::entry::{Change, Entry, Record, What, route};
use super::seal::{Desk, Next, Order, Reached, Receipt, Waiting};

/// Entries by epoch.
struct Pending<T> {
    changes: BTreeMap<u64, Vec<(T, Change)>>,
    records: BTreeMap<u64, Vec<Record>>,
}

impl<T: Ord> Waiting for Rc<RefCell<Pending<T>>> {
    fn take(&mut self, order: Order) -> (Vec<Change>, Vec<(u64, Record)>) {
        let mut pending = self.borrow_mut();
        let mut changes = Vec::new();
        for (_, mut of) in before(&mut pending.changes, order) {
            // by time and then by bytes: the order of arrival says nothing
            of.sort();
            changes.extend(of.into_iter().map(|(_, change)| change));
        }
        let mut records = Vec::new();
        for (epoch, mut of) in before(&mut pending.records, order) {
            of.sort();
            records.extend(of.into_iter().map(|record| (epoch, record)));
        }
        (changes, records)
    }
}

fn before<V>(held: &mut BTreeMap<u64, V>, order: Order) -> BTreeMap<u64, V> {
    match order {
        Some(epoch) => {
            let rest = held.split_off(&epoch);
            std::mem::replace(held, rest)
        }
        None => std::mem::take(held),
    }
}

/// Brings changes to the worker of their key, holds records where they are, and tells the desk
/// how far the frontier is.
pub(super) fn keep<T>(
    entries: StreamVec<'_, T, Entry<T>>,
    epoch: fn(&T) -> u64,
    desk: &Rc<RefCell<Desk>>,
) where
    T: Timestamp + Ord + serde::Serialize + for<'d> serde::Deserialize<'d>,
{
    let scope = entries.scope();
    let here = scope.worker().index() as u64;
    let pending = Rc::new(RefCell::new(Pending {
        changes: BTreeMap::new(),
        records: BTreeMap::new(),
    }));
    let desk = Rc::clone(desk);
    let begun = desk.borrow().begun;
    desk.borrow_mut().waiting = Some(Box::new(Rc::clone(&pending)));
    let mut builder = OperatorBuilder::new("Keep".to_owned(), scope);
    let to = move |entry: &Entry<T>| match &entry.what {
        What::Change(change) => route(&change.operator, &change.key),
        What::Record(_) => here,
    };
    let mut input = builder.new_input(entries, Exchange::new(to));
    builder.build(move |_| {
        move |frontiers| {
            let mut unseen = 0;
            input.for_each(|_, data| {
                let mut pending = pending.borrow_mut();
                for Entry { time, what } in data.drain(..) {
                    let at = epoch(&time);
                    if at < begun {
                        continue;
                    }
                    unseen = unseen.max(at.saturating_add(1));
                    match what {
                        What::Change(change) => {
                            pending.changes.entry(at).or_default().push((time, change));
                        }
                        What::Record(record) => {
                            pending.records.entry(at).or_default().push(record);
                        }
                    }
                }
            });
            let mut desk = desk.borrow_mut();
            let frontier = frontiers[0].frontier();
            let reached = frontier.iter().map(epoch).min();
            let reached = reached.map_or(Reached::End, Reached::Epoch);
            if let Reached::Epoch(e) = reached {
                unseen = unseen.max(e);
            }
            desk.unseen = desk.unseen.max(unseen);
            if desk.reached != reached {
                desk.reached = reached;
                desk.wake();
            }
        }
    });
}

/// Orders from worker 0 to all, receipts from all to worker 0: a dataflow of its own, so that it
/// holds up no time of the job.
pub(super) fn orders(worker: &mut Worker, desk: &Rc<RefCell<Desk>>) {
    worker.dataflow::<u64, _, _>(|scope| {
        let clerk = Rc::clone(desk);
        type Sent = (u64, Order);
        let orders = source::<_, CapacityContainerBuilder<Vec<Sent>>, _, _>(
            scope,
            "Orders",
            move |capability, info| {
                let wake = scope.activator_for(info.address);
                clerk.borrow_mut().clerk = Some(wake.clone());
                let mut capability = Some(capability);
                move |output| {
                    let mut desk = clerk.borrow_mut();
                    let next = desk.next();
                    let Some(cap) = &capability else { return };
                    match next {
                        Next::Order(order) => {
                            let to = 0..desk.peers as u64;
                            output.session(cap).give_iterator(to.map(|w| (w, order)));
                        }
                        Next::Wait => {}
                        Next::After(due) => wake.activate_after(due),
                        Next::End => capability = None,
                    }
                }
            },
        );
        let writer = Rc::clone(desk);
        let here = Exchange::new(|(worker, _): &Sent| *worker);
        let receipts = orders.unary::<CapacityContainerBuilder<Vec<Receipt>>, _, _, _>(
            here,
            "Write",
            move |_, _| {
                move |input, output| {
                    input.for_each(|cap, data| {
                        for (_, order) in data.drain(..) {
                            let receipt = writer.borrow_mut().write(order);
                            let receipt = receipt.unwrap_or_else(|e| panic!("{e}"));
                            output.session(&cap).give(receipt);
                        }
                    });
                }
            },
        );
        let sealer = Rc::clone(desk);
        let first = Exchange::new(|_: &Receipt| 0);
        receipts.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(first, "Seal", move |_, _| {
            move |input, _| {
                input.for_each(|_, data| {
                    for receipt in data.drain(..) {
                        let sealed = sealer.borrow_mut().seal(receipt);
                        sealed.unwrap_or_else(|e| panic!("{e}"));
                    }
                });
            }
        });
    });
}
