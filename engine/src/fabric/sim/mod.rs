//! The simulated network: all workers of a job in one process, one at a time, in an order and over
//! links that a seed decides.
//!
//! Every worker has its thread, but only the one that holds the baton runs. It passes the baton on
//! whenever it looks for messages, that is once a step, and the seed picks the next.
//! So the pipelines of the other fabrics run unchanged, and a seed that fails fails again, bit for
//! bit. Messages between workers are serialized by timely as they are between processes, held
//! back until their time has come, and lost where a link is cut. Simulated time is counted in
//! turns.
//!
//! What a pipeline does outside its dataflow must not wait for another worker: a thread that
//! blocks keeps the baton. It waits through [`Context::drive`](super::Context::drive).

mod faults;
mod net;
mod queue;
mod state;

pub use faults::{Crash, Cut, Faults, Pause};
pub(crate) use net::Net;
pub use state::Trace;
