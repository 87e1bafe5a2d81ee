//! What several tests across the members need.

use std::net::TcpListener;

/// Addresses of this machine that are free, one for each of `processes`.
///
/// # Panics
/// If the system has none.
pub fn free_hosts(processes: usize) -> Vec<String> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let held: Vec<TcpListener> = (0..processes).map(bind).collect();
    let address = |l: &TcpListener| l.local_addr().expect("it is bound").to_string();
    held.iter().map(address).collect()
}
