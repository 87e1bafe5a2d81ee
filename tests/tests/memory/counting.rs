//! An allocator that counts.

#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts memory of such numbers, for the worker that took it.
pub(super) struct Counting;

/// Workers that are counted, from 1 on; 0 is everybody else.
const OWNERS: usize = 9;
pub(super) static NOW: [AtomicUsize; OWNERS] = [const { AtomicUsize::new(0) }; OWNERS];
pub(super) static PEAK: [AtomicUsize; OWNERS] = [const { AtomicUsize::new(0) }; OWNERS];
/// Room for the number of the owner before the memory.
const HEAD: usize = 16;

thread_local! {
    pub(super) static OWNER: Cell<usize> = const { Cell::new(0) };
}

fn counts(layout: Layout) -> bool {
    matches!(layout.align(), 2 | 4)
}

/// With room for the owner.
fn wider(layout: Layout) -> Option<Layout> {
    Layout::from_size_align(layout.size().checked_add(HEAD)?, HEAD).ok()
}

/// Notes the owner of memory of `wider` size, and gives what is behind the note.
unsafe fn note(start: *mut u8, bytes: usize) -> *mut u8 {
    if start.is_null() {
        return start;
    }
    let owner = OWNER.try_with(Cell::get).unwrap_or(0);
    let now = NOW[owner].fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK[owner].fetch_max(now, Ordering::Relaxed);
    // SAFETY: the memory is `HEAD` bytes larger than was asked for, and aligned to them.
    unsafe {
        start.cast::<usize>().write(owner);
        start.add(HEAD)
    }
}

// SAFETY: everything is left to the allocator of the system, with room for a note before it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match counts(layout).then(|| wider(layout)).flatten() {
            // SAFETY: the size is not zero.
            Some(wider) => unsafe { note(System.alloc(wider), layout.size()) },
            // SAFETY: the caller keeps the rules.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match counts(layout).then(|| wider(layout)).flatten() {
            // SAFETY: the size is not zero.
            Some(wider) => unsafe { note(System.alloc_zeroed(wider), layout.size()) },
            // SAFETY: the caller keeps the rules.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match counts(layout).then(|| wider(layout)).flatten() {
            // SAFETY: such memory came with a note before it.
            Some(wider) => unsafe {
                let start = at.sub(HEAD);
                let owner = start.cast::<usize>().read();
                NOW[owner].fetch_sub(layout.size(), Ordering::Relaxed);
                System.dealloc(start, wider);
            },
            // SAFETY: the caller keeps the rules.
            None => unsafe { System.dealloc(at, layout) },
        }
    }
}

/// Of all owners.
pub(super) fn now() -> usize {
    NOW.iter().map(|now| now.load(Ordering::Relaxed)).sum()
}
