//! How many threads an operator may use.
//!
//! Workers are threads themselves: where there are as many of them as cores, an operator works on the
//! thread of its worker alone; where there are fewer, it may use the cores that are left. What an
//! operator computes does not depend on this number.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the user asked for; 0 is nothing.
static ASKED: AtomicUsize = AtomicUsize::new(0);
/// Workers that run on this machine, as far as this process knows.
static WORKERS: AtomicUsize = AtomicUsize::new(0);

/// Fixes the number of threads of an operator in this process; 0 leaves it to [`of_an_operator`].
pub fn fix(threads: usize) {
    ASKED.store(threads, Ordering::Relaxed);
}

/// Threads that an operator of one worker may use: what was [fixed](fix), or the cores of this process
/// over its workers, and at least 1.
pub fn of_an_operator() -> usize {
    let now = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    share(now(&ASKED), cores(), now(&WORKERS))
}

/// What was asked for, or the cores of a worker.
fn share(asked: usize, cores: usize, workers: usize) -> usize {
    match asked {
        0 => (cores / workers.max(1)).max(1),
        asked => asked,
    }
}

/// Threads that all operators of this process may use together.
pub fn of_all_operators() -> usize {
    of_an_operator() * WORKERS.load(Ordering::Relaxed).max(1)
}

/// Cores that this process may run on.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Workers that are counted as long as this lives.
#[derive(Debug)]
pub(crate) struct Counted(usize);

impl Counted {
    pub(crate) fn new(workers: usize) -> Self {
        WORKERS.fetch_add(workers, Ordering::Relaxed);
        Counted(workers)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        WORKERS.fetch_sub(self.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All threads together are no more than the cores, as long as there are no more workers than these.
    #[test]
    fn cores_are_shared() {
        for cores in 1..20 {
            assert_eq!(share(0, cores, 0), cores, "outside of any job");
            for workers in 1..=cores {
                let threads = share(0, cores, workers);
                assert!(threads * workers <= cores && (threads + 1) * workers > cores);
            }
            assert_eq!(share(0, cores, cores + 1), 1);
            assert_eq!(share(7, cores, 3), 7, "as it was asked for");
        }
    }
}
