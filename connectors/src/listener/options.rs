//! The limits of a listener.

use std::time::Duration;

/// Limits and sizes of a [`Listener`](super::Listener).
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// The most clients at once; others are told to come back.
    pub max_clients: usize,
    /// The longest line of JSON in bytes.
    pub max_line: usize,
    /// The longest Arrow IPC message in bytes.
    pub max_message: usize,
    /// The most records of one delivery.
    pub rows: usize,
    /// How many deliveries of one client may wait before it is no longer read.
    pub queue: usize,
    /// The longest time that a record waits for others before it is delivered.
    pub flush: Duration,
    /// A client silent for so long is disconnected.
    pub idle: Duration,
    /// A client that takes so long over one line or message is disconnected.
    pub slow: Duration,
    /// So many bad records in a row disconnect a client.
    pub max_bad: u64,
    /// So many records in one second disconnect a client; `None` for no limit.
    pub max_rate: Option<u64>,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            max_clients: 64,
            max_line: 1 << 16,
            max_message: 16 << 20,
            rows: 8192,
            queue: 4,
            flush: Duration::from_millis(50),
            idle: Duration::from_secs(300),
            slow: Duration::from_secs(30),
            max_bad: 10_000,
            max_rate: None,
        }
    }
}
