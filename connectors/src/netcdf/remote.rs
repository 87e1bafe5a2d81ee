//! The side that asks a child process about an HDF5 file.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::apart::{CHILD, Helper, MAX_SECONDS};
use super::library::{Catalogue, Plan};
use super::model::Variable;
use super::slab::{Slab, for_each_index};
use super::wire::{Answer, Ask, receive, send};
use crate::error::{ConnectorError, Result};

/// The most bytes that are asked for at once: 64 MiB.
const PIECE: usize = 64 << 20;

/// A child process that has a file open.
#[derive(Debug)]
pub(super) struct Remote {
    place: String,
    socket: UnixStream,
    child: Child,
    /// How the child ended, once it did.
    ended: Option<String>,
}

impl Remote {
    /// Starts a child that opens `path`. Errors if it cannot be started, ends, or refuses the
    /// file.
    pub(super) fn open(helper: &Helper, path: &Path) -> Result<(Self, Catalogue)> {
        let start = || {
            ConnectorError::io(
                "start a process to read",
                path,
                "raise the limit of processes",
            )
        };
        let (socket, theirs) = UnixStream::pair().map_err(start())?;
        // The child bounds its own time; this is for a child that is stopped altogether.
        let patience = Duration::from_secs(u64::from(MAX_SECONDS) + 10);
        socket.set_read_timeout(Some(patience)).map_err(start())?;
        socket.set_write_timeout(Some(patience)).map_err(start())?;
        let child = Command::new(&helper.program)
            .args(&helper.arguments)
            .env(CHILD, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(start())?;
        let mut remote = Self {
            place: path.display().to_string(),
            socket,
            child,
            ended: None,
        };
        let ask = Ask::Open(path.as_os_str().as_bytes().to_vec());
        match remote.ask(&ask)? {
            Answer::Opened(contents) => {
                let catalogue = contents.catalogue().ok_or_else(|| remote.nonsense())?;
                Ok((remote, catalogue))
            }
            _ => Err(remote.nonsense()),
        }
    }

    pub(super) fn layout(&mut self, variable: &Variable, slab: &Slab) -> Result<Plan> {
        match self.ask(&Ask::Layout(variable.name.clone(), slab.clone()))? {
            Answer::NotNow => Ok(Plan::NotNow),
            Answer::Layout(None) => Ok(Plan::Known(None)),
            Answer::Layout(Some(wire)) => {
                let layout = wire.layout(variable).ok_or_else(|| self.nonsense())?;
                Ok(Plan::Known(Some(layout)))
            }
            _ => Err(self.nonsense()),
        }
    }

    /// Reads a box into `out`, which has its size, in pieces that the child can hold.
    pub(super) fn read(&mut self, variable: &Variable, slab: &Slab, out: &mut [u8]) -> Result<()> {
        let size = variable.number_type.size();
        let rank = slab.count.len();
        // The first dimension whose single places are small enough to be asked for.
        let bytes = |d: usize| slab.count[d..].iter().product::<usize>() * size;
        let cut = (0..rank).find(|&d| bytes(d + 1) <= PIECE).unwrap_or(0);
        if rank == 0 || bytes(0) <= PIECE {
            return self.piece(variable, slab, out);
        }
        let most = (PIECE / bytes(cut + 1).max(1)).max(1);
        // Whole chunks, so that none is inflated twice.
        let chunk = variable.chunk.as_ref().and_then(|c| c.get(cut).copied());
        let step = match chunk {
            Some(c) if c > 0 && c <= most => most - most % c,
            _ => most,
        };
        let mut at = 0;
        for_each_index(&slab.count[..cut], |index| {
            for first in (0..slab.count[cut]).step_by(step) {
                let mut piece = slab.clone();
                for (d, i) in index.iter().enumerate() {
                    (piece.start[d], piece.count[d]) = (slab.start[d] + i, 1);
                }
                piece.start[cut] += first;
                piece.count[cut] = step.min(slab.count[cut] - first);
                let length = piece.count[cut] * bytes(cut + 1);
                self.piece(variable, &piece, &mut out[at..at + length])?;
                at += length;
            }
            Ok(())
        })
    }

    fn piece(&mut self, variable: &Variable, slab: &Slab, out: &mut [u8]) -> Result<()> {
        match self.ask(&Ask::Read(variable.name.clone(), slab.clone()))? {
            Answer::Numbers(bytes) if bytes == out.len() as u64 => {
                let read = self.socket.read_exact(out);
                read.map_err(|e| self.gone(&e))
            }
            _ => Err(self.nonsense()),
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer> {
        if let Some(how) = &self.ended {
            return Err(self.broke_off(how));
        }
        let answered = send(&mut self.socket, ask).and_then(|()| receive(&mut self.socket));
        match answered {
            Ok(Answer::Fault(fault)) => Err(fault.error(&self.place)),
            Ok(answer) => Ok(answer),
            Err(e) => Err(self.gone(&e)),
        }
    }

    /// Ends a child that does not answer as it should, and says how it ended.
    fn gone(&mut self, error: &std::io::Error) -> ConnectorError {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        let late = matches!(error.kind(), WouldBlock | TimedOut);
        if late {
            _ = self.child.kill();
        }
        let how = match self.child.wait() {
            _ if late => "it did not answer".to_string(),
            Ok(status) if status.signal() == Some(libc::SIGALRM) => {
                format!("it took more than {MAX_SECONDS} s")
            }
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        };
        let error = self.broke_off(&how);
        self.ended = Some(how);
        error
    }

    fn nonsense(&mut self) -> ConnectorError {
        _ = self.child.kill();
        self.gone(&std::io::ErrorKind::InvalidData.into())
    }

    fn broke_off(&self, how: &str) -> ConnectorError {
        let detail = format!("the HDF5 library broke off in its own process ({how})");
        ConnectorError::format(&*self.place, "HDF5", detail, "fetch the file anew")
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
