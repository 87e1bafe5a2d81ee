//! Where the simulated network takes hold of messages: timely lets a policy rewrite the queue of
//! bytes from one worker to another each time it is written and before each time it is read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use timely::communication::allocator::zero_copy::bytes_exchange::QueueEntry;
use timely::communication::allocator::zero_copy::spill::{SpillPolicy, SpillPolicyFn};

use super::net::Net;

/// The way from one worker to another.
struct Way {
    net: Arc<Net>,
    from: usize,
    /// Known once the receiver has said who it is.
    to: OnceLock<usize>,
}

thread_local! {
    /// Ways that lead to the worker of this thread, in the order of their senders.
    static HERE: RefCell<Vec<Arc<Way>>> = const { RefCell::new(Vec::new()) };
}

/// Makes the queues of `net`: called by each receiver for its senders, in their order.
pub(super) fn policy(net: Arc<Net>) -> SpillPolicyFn {
    Arc::new(move || {
        let way = HERE.with_borrow_mut(|here| {
            let way = Arc::new(Way {
                net: Arc::clone(&net),
                from: here.len(),
                to: OnceLock::new(),
            });
            here.push(Arc::clone(&way));
            way
        });
        (Box::new(Send(Arc::clone(&way))), Box::new(Receive(way)))
    })
}

/// Tells the ways of this thread where they end.
pub(super) fn arrive(worker: usize) {
    for way in HERE.take() {
        let _ = way.to.set(worker);
    }
}

struct Send(Arc<Way>);

impl SpillPolicy for Send {
    fn apply(&mut self, queue: &mut VecDeque<QueueEntry>) {
        let Way { net, from, to } = &*self.0;
        match to.get() {
            // what a worker sends to itself does not leave it
            Some(to) if to == from => net.nudge(*from),
            Some(to) => {
                for entry in queue.drain(..) {
                    if let QueueEntry::Bytes(bytes) = entry {
                        net.send(*from, *to, bytes);
                    }
                }
            }
            None => {}
        }
    }
}

struct Receive(Arc<Way>);

impl SpillPolicy for Receive {
    fn apply(&mut self, queue: &mut VecDeque<QueueEntry>) {
        let Way { net, from, to } = &*self.0;
        match to.get() {
            // nobody else touches this queue, so the baton can go round while it is held
            Some(to) if to == from => net.turn(*to),
            Some(to) => queue.extend(net.arrived(*from, *to).map(QueueEntry::Bytes)),
            None => {}
        }
    }
}
