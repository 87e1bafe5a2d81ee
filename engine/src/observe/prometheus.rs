//! Metrics in Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;

use super::board::{Board, locked};
use super::metrics::METRICS;
use super::page::{Page, dotted};

/// Samples by metric, in the order of [`METRICS`].
#[derive(Default)]
struct Samples {
    lines: BTreeMap<&'static str, String>,
}

impl Samples {
    fn put(&mut self, metric: &'static str, labels: &str, value: impl std::fmt::Display) {
        // writing to a string does not fail
        let _ = writeln!(
            self.lines.entry(metric).or_default(),
            "{metric}{{{labels}}} {value}"
        );
    }
}

/// All metrics of a process.
pub(crate) fn render(board: &Board) -> String {
    let mut s = Samples::default();
    let process = board.place.process;
    for page in &board.pages {
        let page = locked(page);
        worker(&mut s, board, &page);
    }
    queues(&mut s, board);
    times(&mut s, board);
    for peer in 0..board.place.peers {
        let of = board.place.process_of(peer);
        if of != process {
            let host = escaped(board.place.hosts.get(of).map_or("", String::as_str));
            let labels = format!("process=\"{process}\",peer=\"{peer}\",host=\"{host}\"");
            s.put(
                "advect_peer_unheard_seconds",
                &labels,
                board.unheard(peer).as_secs_f64(),
            );
        }
    }
    let labels = format!("process=\"{process}\"");
    if let Some(bytes) = resident() {
        s.put("advect_process_resident_bytes", &labels, bytes);
    }
    if let Some(feed) = &board.trace {
        s.put("advect_trace_left_out_total", &labels, feed.lost());
    }
    let mut out = String::new();
    for (name, kind, help) in METRICS {
        if let Some(lines) = s.lines.get(name) {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
        }
    }
    out
}

fn worker(s: &mut Samples, board: &Board, page: &Page) {
    let process = board.place.process;
    let place = format!("process=\"{process}\",worker=\"{}\"", page.worker);
    s.put(
        "advect_worker_idle_seconds_total",
        &place,
        page.idle.as_secs_f64(),
    );
    if page.alive {
        let unseen = board.now().saturating_sub(page.seen);
        s.put("advect_worker_unseen_seconds", &place, unseen.as_secs_f64());
    }
    let mut records_in: BTreeMap<Vec<usize>, (u64, u64)> = BTreeMap::new();
    // a fan-out sends the same records over several channels
    let mut records_out: BTreeMap<Vec<usize>, BTreeMap<usize, u64>> = BTreeMap::new();
    for c in page.channels.iter().flatten() {
        let into = records_in.entry(joined(&c.scope, c.target.0)).or_default();
        into.0 += c.records_received;
        into.1 += c.from.iter().sum::<u64>();
        let outputs = records_out.entry(joined(&c.scope, c.source.0)).or_default();
        let out = outputs.entry(c.source.1).or_default();
        *out = (*out).max(c.records_sent);
    }
    for o in page.operators.iter().flatten() {
        let l = format!(
            "{place},operator=\"{}\",address=\"{}\"",
            escaped(&o.name),
            dotted(&o.addr)
        );
        s.put("advect_operator_activations_total", &l, o.activations);
        s.put(
            "advect_operator_busy_seconds_total",
            &l,
            o.busy.as_secs_f64(),
        );
        if let Some((records, messages)) = records_in.get(&o.addr) {
            s.put("advect_operator_records_in_total", &l, records);
            s.put("advect_operator_messages_in_total", &l, messages);
        }
        if let Some(outputs) = records_out.get(&o.addr) {
            s.put(
                "advect_operator_records_out_total",
                &l,
                outputs.values().sum::<u64>(),
            );
        }
        if o.bytes > 0 || o.planned.is_some() {
            s.put("advect_operator_bytes_total", &l, o.bytes);
        }
        if let Some(credits) = o.credits {
            s.put("advect_operator_credits", &l, credits);
        }
        if let Some(memory) = o.memory {
            s.put("advect_operator_memory_bytes", &l, memory);
        }
    }
}

/// Messages that were sent to a worker and that it has not received, per operator.
fn queues(s: &mut Samples, board: &Board) {
    let place = &board.place;
    // by channel, sender and receiver
    let mut sent: BTreeMap<(usize, usize, usize), u64> = BTreeMap::new();
    for page in &board.pages {
        let page = locked(page);
        for (id, c) in page.channels.iter().enumerate() {
            for (to, n) in c.iter().flat_map(|c| c.to.iter().enumerate()) {
                sent.insert((id, page.worker, to), *n);
            }
        }
    }
    for page in &board.pages {
        let page = locked(page);
        let mut waiting: BTreeMap<Vec<usize>, u64> = BTreeMap::new();
        for (id, c) in page.channels.iter().enumerate() {
            let Some(c) = c else { continue };
            let of = waiting.entry(joined(&c.scope, c.target.0)).or_default();
            for from in place.first..place.first + place.local {
                let sent = sent.get(&(id, from, page.worker)).copied().unwrap_or(0);
                *of += sent.saturating_sub(c.from.get(from).copied().unwrap_or(0));
            }
        }
        for o in page.operators.iter().flatten() {
            if let Some(n) = waiting.get(&o.addr) {
                let l = format!(
                    "process=\"{}\",worker=\"{}\",operator=\"{}\",address=\"{}\"",
                    place.process,
                    page.worker,
                    escaped(&o.name),
                    dotted(&o.addr)
                );
                s.put("advect_operator_queue_messages", &l, n);
            }
        }
    }
}

fn times(s: &mut Samples, board: &Board) {
    let now = board.now();
    let process = board.place.process;
    let fronts = board.fronts();
    for front in &fronts {
        let Some((name, addr)) = board.scope_name(front.scope) else {
            continue;
        };
        let l = format!(
            "process=\"{process}\",scope=\"{}\",address=\"{addr}\"",
            escaped(&name)
        );
        if let Some((_, number)) = &front.time {
            s.put("advect_frontier", &l, number);
            let age = now.saturating_sub(front.moved);
            s.put("advect_frontier_age_seconds", &l, age.as_secs_f64());
        }
    }
    let newest: BTreeMap<usize, u64> = fronts.iter().map(|f| (f.scope, f.newest)).collect();
    // by operator: lag, age and records on their way
    let mut operators: BTreeMap<(usize, usize), (u64, f64, u64)> = BTreeMap::new();
    for h in board.held() {
        let lag = newest
            .get(&h.scope)
            .map_or(0, |n| n.saturating_sub(h.number));
        let age = now.saturating_sub(h.moved).as_secs_f64();
        let waiting = if h.worker.is_none() { h.count } else { 0 };
        let o = operators.entry((h.scope, h.node)).or_default();
        *o = (o.0.max(lag), o.1.max(age), o.2 + waiting);
    }
    let Some(page) = board.pages.first().map(locked) else {
        return;
    };
    for o in page.operators.iter().flatten() {
        let Some((&node, scope)) = o.addr.split_last() else {
            continue;
        };
        if scope.is_empty() || page.scopes.contains(&o.addr) {
            continue;
        }
        let held = page
            .find(scope)
            .and_then(|scope| operators.get(&(scope, node)));
        let (lag, age, waiting) = held.copied().unwrap_or_default();
        let l = format!(
            "process=\"{process}\",operator=\"{}\",address=\"{}\"",
            escaped(&o.name),
            dotted(&o.addr)
        );
        s.put("advect_operator_waiting_records", &l, waiting);
        s.put("advect_operator_lag", &l, lag);
        s.put("advect_operator_frontier_age_seconds", &l, age);
    }
}

fn joined(scope: &[usize], node: usize) -> Vec<usize> {
    scope.iter().copied().chain([node]).collect()
}

/// A label's value as the format writes it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Resident memory, where the system tells (Linux).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}
