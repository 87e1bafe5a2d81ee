//! The alarm of a job: the first failure, seen by every worker of the process.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Holds the first failure of a job.
#[derive(Debug, Default)]
pub struct Alarm {
    first: OnceLock<String>,
    /// Sockets to cut when a failed job does not come to its end.
    held: Mutex<Vec<TcpStream>>,
}

impl Alarm {
    /// Reports a failure; only the first one is kept.
    pub fn raise(&self, why: String) {
        let _ = self.first.set(why);
    }

    /// The first failure, if there was one.
    pub fn raised(&self) -> Option<String> {
        self.first.get().cloned()
    }

    /// Takes a second handle on a socket, to cut it if need be ([`Alarm::cut`]).
    ///
    /// # Errors
    /// If the process is out of descriptors.
    pub(crate) fn hold(&self, socket: &TcpStream) -> std::io::Result<()> {
        let second = socket.try_clone()?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(second);
        Ok(())
    }

    /// Cuts all sockets: threads that wait for a silent peer fail instead.
    pub(crate) fn cut(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in held.iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// # Panics
    /// If the alarm was raised: the calling worker goes down with the job.
    pub fn check(&self) {
        if let Some(why) = self.first.get() {
            std::panic::resume_unwind(Box::new(why.clone()));
        }
    }
}

/// The words of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "panicked without a message".to_owned())
}
