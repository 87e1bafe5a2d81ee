//! Asking a busy worker thread which operator it is in.
//!
//! timely hands its log over between operators, never during one, so that an operator that does
//! not come back is not in it yet. The thread itself knows. It is asked by a signal
//! (`SIGURG`, which nothing uses by default, as Go's scheduler does), and only when the watchdog
//! is about to warn.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use timely::scheduling::current::operator_id;

const UNANSWERED: usize = 0;
const OUTSIDE: usize = 1;
const FIRST: usize = 2;

thread_local! {
    static SLOT: Cell<*const AtomicUsize> = const { Cell::new(std::ptr::null()) };
}

/// Asks one thread.
#[derive(Debug)]
pub(crate) struct Probe {
    thread: libc::pthread_t,
    slot: Arc<AtomicUsize>,
}

/// What a thread is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Operator(usize),
    /// The pipeline's own code, or timely's.
    Other,
}

extern "C" fn answer(_: libc::c_int) {
    let slot = SLOT.get();
    if !slot.is_null() {
        let doing = operator_id().map_or(OUTSIDE, |id| id + FIRST);
        // SAFETY: the slot is that of this thread's probe, which is set to null before the probe
        // is dropped (`Probe::leave`), on this thread.
        unsafe { &*slot }.store(doing, Ordering::Release);
    }
}

/// Takes the signal, if no one else in the process has.
fn installed() -> bool {
    static DONE: OnceLock<bool> = OnceLock::new();
    *DONE.get_or_init(|| {
        // SAFETY: a zeroed `sigaction` is a valid one, and both pointers are to live locals. The
        // handler only reads thread-locals without destructors and stores to an atomic, which is
        // allowed in a signal handler.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGURG, std::ptr::null(), &mut old) != 0
                || (old.sa_sigaction != libc::SIG_DFL && old.sa_sigaction != libc::SIG_IGN)
            {
                return false;
            }
            let mut new: libc::sigaction = std::mem::zeroed();
            new.sa_sigaction = answer as *const () as usize;
            // interrupted system calls go on by themselves
            new.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGURG, &new, std::ptr::null_mut()) == 0
        }
    })
}

impl Probe {
    /// A probe of the calling thread; `None` where the signal is taken.
    pub(crate) fn here() -> Option<Self> {
        if !installed() {
            return None;
        }
        let slot = Arc::new(AtomicUsize::new(UNANSWERED));
        SLOT.set(Arc::as_ptr(&slot));
        // SAFETY: has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        Some(Probe { thread, slot })
    }

    /// Stops the calling thread from answering; to be called before its probe is dropped.
    pub(crate) fn leave() {
        SLOT.set(std::ptr::null());
    }

    /// What the thread is in; `None` without an answer in time. The caller makes sure that the
    /// thread lives meanwhile.
    pub(crate) fn ask(&self) -> Option<Doing> {
        self.slot.store(UNANSWERED, Ordering::Release);
        // SAFETY: the thread lives, by the contract of this function.
        if unsafe { libc::pthread_kill(self.thread, libc::SIGURG) } != 0 {
            return None;
        }
        for _ in 0..50 {
            match self.slot.load(Ordering::Acquire) {
                UNANSWERED => std::thread::sleep(Duration::from_millis(1)),
                OUTSIDE => return Some(Doing::Other),
                id => return Some(Doing::Operator(id - FIRST)),
            }
        }
        None
    }
}
