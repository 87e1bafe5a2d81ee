//! Resident memory of this process, as the kernel counts it.

use std::fs;
use std::io;

/// Bytes that are resident now; the peak counts from here.
pub(super) fn resident() -> io::Result<usize> {
    // the value 5 resets the peak: proc_pid_clear_refs(5)
    fs::write("/proc/self/clear_refs", "5")?;
    status("VmRSS:")
}

/// The most bytes that were resident since [`resident`].
pub(super) fn peak() -> io::Result<usize> {
    status("VmHWM:")
}

fn status(key: &str) -> io::Result<usize> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok());
    let missing = || io::Error::other(format!("/proc/self/status has no {key}"));
    kilobytes.map(|n| n << 10).ok_or_else(missing)
}
