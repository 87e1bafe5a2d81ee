//! What several tests across the members need.

use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

/// Holds a curve against another: the same lines, and losses to `limit`, relative.
///
/// # Panics
/// If they differ.
pub fn overlay(place: &str, a: &[(String, u64, f64)], b: &[(String, u64, f64)], limit: f64) {
    assert_eq!(a.len(), b.len(), "{place}: lines");
    for (x, y) in a.iter().zip(b) {
        assert_eq!((&x.0, x.1), (&y.0, y.1), "{place}");
        assert!((x.2 - y.2).abs() <= limit * x.2, "{place}: {x:?} and {y:?}");
    }
}

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

/// What, step and loss of every line of the metrics of a run of `language`, in the order of the steps.
///
/// # Panics
/// If there are none, or a line is not what the run writes.
pub fn curve(out: &Path) -> Vec<(String, u64, f64)> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("there are metrics");
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("a line is JSON");
        let what = value["what"]
            .as_str()
            .expect("it says what it is")
            .to_owned();
        let step = value["step"].as_u64().expect("it has a step");
        (what, step, value["loss"].as_f64().expect("it has a loss"))
    };
    let mut lines: Vec<_> = text.lines().map(line).collect();
    // a validation may come before or after the next step
    lines.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    lines
}
