//! Figures that only an operator knows itself: bytes, credits, memory.
//!
//! Called from within an operator's activation, these functions count for that operator; on a
//! thread that is not an observed worker they do nothing.

use std::cell::RefCell;
use std::sync::Arc;

use timely::scheduling::current::operator_id;

use super::board::{Board, locked};
use super::page::{Operator, Page};

thread_local! {
    static HERE: RefCell<Option<(Arc<Board>, usize)>> = const { RefCell::new(None) };
}

/// Gives this worker thread its page.
pub(crate) fn open(page: Option<(Arc<Board>, usize)>) {
    HERE.with(|here| *here.borrow_mut() = page);
}

/// Reads the page of this worker thread.
pub(crate) fn page<R>(read: impl FnOnce(&Page) -> R) -> Option<R> {
    HERE.with(|here| {
        let here = here.borrow();
        let (board, local) = here.as_ref()?;
        Some(read(&locked(board.pages.get(*local)?)))
    })
}

fn with(set: impl FnOnce(&mut Operator)) {
    let Some(id) = operator_id() else { return };
    of(id, set);
}

fn of(id: usize, set: impl FnOnce(&mut Operator)) {
    HERE.with(|here| {
        if let Some((board, local)) = here.borrow().as_ref()
            && let Some(page) = board.pages.get(*local)
        {
            set(locked(page).operator(id));
        }
    });
}

/// Counts `bytes` that the operator being scheduled sends to other workers.
pub fn sent(bytes: usize) {
    let Some(id) = operator_id().filter(|_| bytes > 0) else {
        return;
    };
    HERE.with(|here| {
        if let Some((board, local)) = here.borrow().as_ref()
            && let Some(page) = board.pages.get(*local)
        {
            let at = board.now();
            locked(page).sent(at, id, bytes as u64);
        }
    });
}

/// Reports the credits (bytes or records) that the operator being scheduled has left.
pub fn credits(left: i64) {
    with(|o| o.credits = Some(left));
}

/// Reports the bytes that the operator being scheduled keeps.
pub fn memory(bytes: usize) {
    with(|o| o.memory = Some(bytes as u64));
}

/// Says whether the operator being scheduled waits for something outside the job: the watchdog
/// does not hold its silence against it.
pub fn outside(waits: bool) {
    with(|o| o.outside = waits);
}

/// Notes at wiring time how many bytes operator `id`
/// ([`OperatorInfo::global_id`](timely::dataflow::operators::generic::OperatorInfo)) will send to
/// other workers per time and tensor.
pub fn planned(id: usize, bytes: usize) {
    of(id, |o| o.planned = Some(bytes as u64));
}
