//! The C library of HDF5 in a process of its own.
//!
//! The library trusts the offsets and counts in a file: about one file in a thousand with a few
//! changed bytes makes it read beyond its memory, and a segmentation fault takes the whole
//! program with it. No check of ours before handing a file over could be complete without being
//! a second HDF5 library. So a program that reads files from elsewhere calls [`isolate`] first
//! thing in `main`; from then on every HDF5 file has a child process that opens it, tells where
//! the numbers lie and reads what cannot be read past the library. The child has bounded memory
//! and a bounded time for each answer; if it ends early, that is an error of the file, and of
//! nothing else. Bytes and inflation stay in the program, in safe code, on all its threads.

use std::ffi::{OsStr, OsString};
use std::io::{BufWriter, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::library::Library;
use super::model::{Values, Variable};
use super::slab::Slab;
use super::wire::{Answer, Ask, Fault, receive, send};
use crate::error::{ConnectorError, Result};

/// Says that the process is a child and serves its standard input.
pub(super) const CHILD: &str = "ADVECT_HDF5_CHILD";
/// The most memory a child may map: 2 GiB.
const MAX_MEMORY: u64 = 2 << 30;
/// The most seconds a child may take over one answer.
pub(super) const MAX_SECONDS: u32 = 30;

/// How a child is started.
#[derive(Debug)]
pub(super) struct Helper {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

static HELPER: OnceLock<Helper> = OnceLock::new();

/// Runs the HDF5 library in child processes from here on: call it first thing in `main`.
///
/// A child is this same program started anew; there the call does not return. `arguments` are
/// given to it, for programs that do not come to this call without (a test harness). Errors if
/// the path of the program is not known; then the library runs in this process.
pub fn isolate<S: AsRef<OsStr>>(arguments: &[S]) -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        serve_standard_input();
    }
    let program = std::env::current_exe().map_err(ConnectorError::io(
        "find",
        Path::new("the running program"),
        "mount /proc",
    ))?;
    let arguments = arguments.iter().map(|a| a.as_ref().to_owned()).collect();
    _ = HELPER.set(Helper { program, arguments });
    Ok(())
}

/// How to start a child, if [`isolate`] was called.
pub(super) fn helper() -> Option<&'static Helper> {
    HELPER.get()
}

/// Bounds this process and answers until the other side is gone.
fn serve_standard_input() -> ! {
    let limit = libc::rlimit {
        rlim_cur: MAX_MEMORY,
        rlim_max: MAX_MEMORY,
    };
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both structures are valid for the call, which only reads them.
    let bounded = unsafe {
        libc::setrlimit(libc::RLIMIT_AS, &limit) == 0
            && libc::setrlimit(libc::RLIMIT_CORE, &none) == 0
    };
    if !bounded {
        std::process::exit(1);
    }
    // SAFETY: the parent made descriptor 0 a socket for this purpose; nothing else reads it,
    // and the process ends before it could be closed twice.
    let mut socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    let ended = serve(&mut socket);
    std::process::exit(i32::from(ended.is_err()))
}

fn serve(socket: &mut UnixStream) -> std::io::Result<()> {
    let mut file = None;
    loop {
        let ask: Ask = receive(socket)?;
        // SAFETY: sets a timer of this process. Its signal is not handled, so it ends the
        // process: a loop inside the library cannot be ended otherwise.
        unsafe { libc::alarm(MAX_SECONDS) };
        let (answer, numbers) = respond(&mut file, ask).unwrap_or_else(|e| (fault(e), None));
        // SAFETY: as above; 0 stops the timer.
        unsafe { libc::alarm(0) };
        let mut out = BufWriter::new(&*socket);
        if let Err(e) = send(&mut out, &answer) {
            let text = Fault::Format(e.to_string());
            send(&mut out, &Answer::Fault(text))?;
        } else if let Some(numbers) = numbers {
            out.write_all(numbers.bytes())?;
        }
        out.flush()?;
    }
}

fn fault(error: ConnectorError) -> Answer {
    Answer::Fault(Fault::of(error))
}

type Open = (Library, std::collections::BTreeMap<String, Variable>);

fn respond(file: &mut Option<Open>, ask: Ask) -> Result<(Answer, Option<Values>)> {
    if let Ask::Open(path) = &ask {
        let path = Path::new(OsStr::from_bytes(path));
        let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
        let library = Library::open(path, bytes)?;
        let catalogue = library.catalogue()?;
        *file = Some((library, catalogue.variables.clone()));
        return Ok((Answer::Opened(catalogue.into()), None));
    }
    let unknown = || ConnectorError::invalid("the helper", "request", "another", "an open file");
    let (library, variables) = file.as_ref().ok_or_else(unknown)?;
    let find = |name: &str, slab: &Slab| {
        let variable = variables.get(name).ok_or_else(unknown)?;
        slab.check(variable, name, MAX_MEMORY)?;
        Ok::<_, ConnectorError>(variable)
    };
    match ask {
        Ask::Open(_) => Err(unknown()),
        Ask::Layout(name, slab) => {
            let plan = library.layout(find(&name, &slab)?, &slab)?;
            Ok((plan.into(), None))
        }
        Ask::Read(name, slab) => {
            let numbers = library.read(find(&name, &slab)?, &slab)?;
            let bytes = numbers.bytes().len() as u64;
            Ok((Answer::Numbers(bytes), Some(numbers)))
        }
    }
}
