//! Traces.

use std::collections::BTreeMap;
use std::path::Path;

use advect_engine::Fabric;
use advect_engine::observe::Options;
use serde_json::Value;

use super::job::*;

fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let parsed: Value = serde_json::from_str(&text).unwrap();
    parsed.as_array().unwrap().clone()
}

fn nanos(value: &Value) -> i64 {
    (value.as_f64().unwrap() * 1e3).round() as i64
}

fn of_phase<'a>(events: &'a [Value], phase: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |e| e["ph"] == phase)
}

/// Slices of a thread lie inside one another or apart, and bytes never shrink.
fn check_trace(events: &[Value]) {
    let mut threads: BTreeMap<(u64, u64), Vec<(i64, i64)>> = BTreeMap::new();
    for e in of_phase(events, "X") {
        let thread = (e["pid"].as_u64().unwrap(), e["tid"].as_u64().unwrap());
        let (start, length) = (nanos(&e["ts"]), nanos(&e["dur"]));
        assert!(length >= 0);
        threads
            .entry(thread)
            .or_default()
            .push((start, start + length));
    }
    for slices in threads.values_mut() {
        // of two that begin together the longer is the outer
        slices.sort_by_key(|&(start, end)| (start, -end));
        let mut open: Vec<i64> = Vec::new();
        for &(start, end) in slices.iter() {
            while open.last().is_some_and(|&outer| outer <= start) {
                open.pop();
            }
            assert!(open.last().is_none_or(|&outer| end <= outer));
            open.push(end);
        }
    }
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for e in of_phase(events, "C") {
        let Some(bytes) = e["args"]["bytes"].as_u64() else {
            continue;
        };
        let before = last.insert(e["name"].as_str().unwrap(), bytes);
        assert!(before.unwrap_or(0) <= bytes);
    }
}

/// The trace of a run over threads nests, and every arrow that begins ends.
#[test]
fn trace_nests() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/trace.json");
    let run = Fabric::Threads(2).run_with(&Options::default().trace(&path), |w, c| {
        pipeline(w, c, Fault::None);
    });
    run.unwrap();
    let events = events(&path);
    check_trace(&events);
    let solved: u64 = of_phase(&events, "X")
        .filter(|e| e["name"] == "Solve")
        .map(|e| e["args"]["records_in"].as_u64().unwrap())
        .sum();
    assert_eq!(solved, STEPS * RECORDS * 2);
    let ends = |phase: &'static str| {
        let mut ids: Vec<_> = of_phase(&events, phase)
            .map(|e| e["id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    assert!(!ends("s").is_empty());
    assert_eq!(ends("s"), ends("f"));
    let frontiers: Vec<u64> = of_phase(&events, "C")
        .filter_map(|e| e["args"]["time"].as_u64())
        .collect();
    assert!(frontiers.len() as u64 >= STEPS / 2);
    assert!(frontiers.is_sorted());
}

/// Processes write files of their own, on one axis of time.
#[test]
fn trace_over_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let (_, runs) = over_tcp(
        2,
        || Options::default().trace(&path),
        |w, c| {
            pipeline(w, c, Fault::None);
        },
    );
    runs.into_iter().for_each(|r| drop(r.unwrap()));
    let mut all = events(&folder.path().join("trace.0.json"));
    all.extend(events(&folder.path().join("trace.1.json")));
    check_trace(&all);
    let mut spans: BTreeMap<u64, (i64, i64)> = BTreeMap::new();
    for e in of_phase(&all, "X") {
        let at = nanos(&e["ts"]);
        let span = spans.entry(e["pid"].as_u64().unwrap()).or_insert((at, at));
        *span = (span.0.min(at), span.1.max(at));
    }
    assert!(spans[&0].0 < spans[&1].1 && spans[&1].0 < spans[&0].1);
}

/// A run that fails leaves a closed trace in which the operator that failed can be seen.
#[test]
fn trace_after_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let run = Fabric::Threads(2).run_with(&Options::default().trace(&path), |w, c| {
        pipeline(w, c, Fault::Panic(5));
    });
    run.unwrap_err();
    let events = events(&path);
    check_trace(&events);
    assert!(of_phase(&events, "X").any(|e| e["name"] == "Solve" && e["tid"] == 1));
}

/// A trace keeps to its limit, says what it left out, and is closed.
#[test]
fn trace_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let options = Options::default().trace(&path).trace_limit(8 << 10);
    let run = Fabric::Threads(2).run_with(&options, |w, c| pipeline(w, c, Fault::None));
    run.unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 9 << 10);
    let events = events(&path);
    check_trace(&events);
    let labels = &events.last().unwrap()["args"]["labels"];
    assert!(!labels.as_str().unwrap().starts_with("0 "), "{labels}");
}
