//! A TCP listener for live observations from many clients at once.
//!
//! A client sends newline-delimited JSON (see [`crate::ndjson`]) or an Arrow IPC stream; the
//! first byte tells which (`0xff` begins an IPC stream). For every bad record it gets one line
//! `{"error":"…","line":n}` back on the same connection, and at its end of input one line
//! `{"accepted":n,"rejected":m}`.
//!
//! Memory is bounded: so many clients, so long a line or message, so many deliveries waiting per
//! client. When the engine does not keep up, reading pauses and TCP slows the clients down. A
//! client that stays silent, takes too long over one line, sends too many bad records in a row,
//! exceeds its rate or does not read its answers is disconnected, with one last line that says
//! why.
//!
//! | file | what |
//! |---|---|
//! | `hub` | accepting, one bounded channel per client, fair draining |
//! | `client` | one connection: reading, limits, deliveries |
//! | `answer` | the lines that go back |

mod answer;
mod client;
mod hub;
mod options;

pub use hub::{Listener, ListenerStats};
pub use options::ListenerOptions;

#[cfg(test)]
mod tests;
