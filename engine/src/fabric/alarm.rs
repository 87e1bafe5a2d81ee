//! The alarm of a job: the first failure, seen by every worker of the process.

use std::any::Any;
use std::sync::OnceLock;

/// Holds the first failure of a job.
#[derive(Debug, Default)]
pub struct Alarm {
    first: OnceLock<String>,
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
