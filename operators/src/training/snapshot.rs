//! What training goes on from: all that was learned, at the frontier between two steps.

use std::fmt;
use std::rc::Rc;

use advect_engine::{Data, Result, Spec};

/// A tensor as one worker holds it: a parameter, or a number of state of its optimizer.
#[derive(Debug, Clone)]
pub struct Held {
    /// Name of the parameter.
    pub name: String,
    /// Which state of the optimizer it is ([`Method::slots`](super::Method::slots)); `None` for the
    /// parameter itself.
    pub slot: Option<&'static str>,
    /// The logical tensor, in the layout in which it is stored.
    pub spec: Spec,
    /// This worker's piece.
    pub data: Data,
}

/// Everything that one worker holds after a number of steps.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Steps that had been taken.
    pub steps: u64,
    /// The tensors.
    pub held: Rc<Vec<Held>>,
}

/// Reads this worker's piece of a tensor: name of the parameter, state of the optimizer, layout.
pub type Read = dyn Fn(&str, Option<&str>, &Spec) -> Result<Data>;

/// Where training goes on.
#[derive(Clone)]
pub struct Start {
    /// Steps that have been taken.
    pub steps: u64,
    /// Gives what was learned by then.
    pub read: Rc<Read>,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Start after {} steps", self.steps)
    }
}
