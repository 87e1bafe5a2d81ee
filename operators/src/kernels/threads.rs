//! Work that is shared between the threads of an operator.
//!
//! What is computed never depends on their number: tasks are cut by the shapes of tensors alone, each
//! writes what no other one reads, and sums over tasks are added in the order of the tasks.

use std::sync::{Arc, Mutex, PoisonError};

use advect_engine::threads;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Does every task.
pub(crate) fn each<I: Send>(tasks: Vec<I>, work: impl Fn(I) + Sync) {
    each_with(tasks, || (), |(), task| work(task));
}

/// Does every task, with memory that a thread has for itself and whose contents mean nothing.
pub(crate) fn each_with<I: Send, S>(
    tasks: Vec<I>,
    scratch: impl Fn() -> S + Sync + Send,
    work: impl Fn(&mut S, I) + Sync + Send,
) {
    let several = tasks.len() > 1 && threads::of_an_operator() > 1;
    if let Some(pool) = several.then(pool).flatten() {
        let tasks = || tasks.into_par_iter().with_max_len(1);
        pool.install(|| tasks().for_each_init(scratch, work));
        return;
    }
    let mut own = scratch();
    tasks.into_iter().for_each(|task| work(&mut own, task));
}

/// The threads of all operators of this process; `None` if the system has no more.
fn pool() -> Option<Arc<ThreadPool>> {
    static POOL: Mutex<Option<Arc<ThreadPool>>> = Mutex::new(None);
    let size = threads::of_all_operators();
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool
        .as_ref()
        .is_none_or(|p| p.current_num_threads() != size)
    {
        let named = ThreadPoolBuilder::new().thread_name(|i| format!("operators {i}"));
        *pool = named.num_threads(size).build().ok().map(Arc::new);
    }
    pool.clone()
}
