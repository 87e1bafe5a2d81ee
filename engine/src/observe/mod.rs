//! What a run shows of itself: metrics, traces, plans, names for failures, and logs.
//!
//! All of it is read off timely's own log of operators, channels, messages, activations and
//! progress; pipelines do nothing for it. [`Options`] choose what
//! [`Fabric::run_with`](crate::Fabric::run_with) observes; [`sent`], [`credits`], [`memory`] and
//! [`outside`] are for operators that know more about themselves than timely does.
//!
//! Cost: 0.2 to 0.5 µs for each activation of an operator, so nothing that shows in a step of a
//! millisecond. On a chain of 50 operators that do nothing, the worst case, a timestamp takes
//! about 1.4 times as long as with [`Options::bare`]; `cargo run --release -p advect-engine
//! --example observed` measures that.

mod board;
mod follow;
mod http;
mod meter;
mod metrics;
mod options;
mod page;
mod plan;
mod print;
mod prometheus;
mod sample;
mod session;
mod times;
mod trace;
mod watchdog;

pub use meter::{credits, memory, outside, planned, sent};
pub use metrics::METRICS;
pub use options::Options;
pub use plan::{Plan, PlanEdge, PlanNode};

pub(crate) use board::Place;
pub(crate) use session::Session;
