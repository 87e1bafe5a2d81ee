//! Advice to the system about large memory.

/// Bytes of a huge page on the machines that matter.
const HUGE: usize = 2 << 20;

/// Asks for pages of 2 MiB below memory that nothing was written to yet: fresh memory costs a page
/// fault a page, and transports pin and copy page by page. Memory of less than two such pages, and
/// systems other than Linux, are left alone.
pub fn prefer_huge_pages(memory: &mut [u8]) {
    let start = memory.as_ptr().align_offset(HUGE);
    let pages = memory.len().saturating_sub(start) / HUGE;
    #[cfg(target_os = "linux")]
    if let Some(inside) = memory.get_mut(start..start + pages * HUGE)
        && pages > 0
    {
        // SAFETY: the range lies within memory that is borrowed for writing, and the advice does not
        // change what it holds; a system that does not take it says so, and nothing is lost.
        unsafe {
            libc::madvise(
                inside.as_mut_ptr().cast(),
                inside.len(),
                libc::MADV_HUGEPAGE,
            )
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = pages;
}
