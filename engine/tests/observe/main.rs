//! What a run shows of itself is true. Families:
//!
//! * `metrics_*`: what is counted at one end of a channel is counted at the other; no client can
//!   keep others from an answer.
//! * `trace_*`: the file is JSON, activations nest, arrows have two ends, counters grow; after a
//!   failure and at the limit of bytes as well.
//! * `names_*`: a panic, a worker that does not come back, one that holds its frontier, and a process
//!   that is stopped or killed are named with worker, host, operator and time, instead of a hang.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod job;
mod metrics;
mod names;
mod trace;
