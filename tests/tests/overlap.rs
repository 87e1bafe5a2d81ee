//! What a trace shows of attention in pieces: a piece of keys and values has left for the next turn before this one
//! is worked on, and on the way back the cotangents of a turn before the next.

use advect_engine::Fabric;
use advect_pipelines::config::{Sources, resolve};
use advect_pipelines::language::Language;
use advect_pipelines::{Pipeline, Run, Stop};
use serde_json::Value;

const WORKERS: usize = 4;

/// Slices of every worker, in order of time: begin, name, records and bytes that were given.
type Slices = Vec<(f64, String, u64, u64)>;

/// A step on a mesh, as it is traced.
fn traced(mesh: &str) -> Vec<Slices> {
    let here = tempfile::tempdir().expect("a directory");
    let path = here.path().join("trace.json");
    let set = [
        "model.layers=1",
        "model.width=32",
        "model.heads=2",
        "model.groups=2",
        "model.hidden=32",
        "model.context=256",
        "samples.step=1",
        "samples.micro=1",
        "training.steps=1",
        "training.warm_up=0",
        &format!("layout.mesh={mesh}"),
    ];
    let sources = Sources {
        set: set.iter().map(|s| (*s).to_owned()).collect(),
        ..Sources::default()
    };
    let run = Run {
        config: resolve(&Language, &sources).expect("settings"),
        fabric: Fabric::Threads(WORKERS),
        out: here.path().join("out"),
        resume: false,
        trace: Some(path.clone()),
        metrics: None,
        quiet: true,
        stop: Stop::default(),
    };
    let _claim = run.claim_out().expect("a directory of its own");
    Language.run(&run).expect("it runs");
    let text = std::fs::read_to_string(path).expect("a trace");
    let events: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let of = |worker: usize| {
        let own = events
            .iter()
            .filter(|e| e["ph"] == "X" && e["tid"] == worker);
        let mut slices: Slices = own
            .map(|e| {
                let number = |key: &str| e["args"][key].as_u64().unwrap_or(0);
                let name = e["name"].as_str().unwrap_or_default().to_owned();
                let begin = e["ts"].as_f64().expect("a time");
                (begin, name, number("records_out"), number("bytes"))
            })
            .collect();
        slices.sort_by(|a, b| a.0.total_cmp(&b.0));
        slices
    };
    (0..WORKERS).map(of).collect()
}

/// The first time that something with such a name gave anything.
fn first(slices: &Slices, name: &str, gave: fn(&(f64, String, u64, u64)) -> u64) -> f64 {
    let mut found = slices.iter().filter(|s| s.1 == name && gave(s) > 0);
    let slice = found.next();
    slice
        .unwrap_or_else(|| panic!("'{name}' is in the trace"))
        .0
}

fn placed(by: usize) -> String {
    match by {
        0 => "Split(1)".to_owned(),
        by => format!("Split(1, shifted {by})"),
    }
}

#[test]
fn pieces_leave_before_turns_are_worked_on() {
    for (axis, around) in [("context-ring", true), ("context-chunks", false)] {
        for slices in traced(&format!("{axis} {WORKERS}")) {
            let cut = |from: usize, to: usize| {
                let name = format!("Relayout {axis}: {}→{}: cut", placed(from), placed(to));
                first(&slices, &name, |s| s.3)
            };
            let turn = |prefix: &str, by: usize| {
                let name = format!("{prefix}block 0.attention.turn {by}");
                first(&slices, &name, |s| s.2)
            };
            for by in 0..WORKERS - 1 {
                let next = by + 1;
                let [there, home] = match around {
                    true => [cut(by, next), cut(next, by)],
                    false => [cut(0, next), cut(next, 0)],
                };
                assert!(there < turn("", by), "{axis}: turn {by}");
                // cotangents that go around wait for those of the worker after, but for the first
                if !around || next == WORKERS - 1 {
                    assert!(home < turn("Adjoint of ", by), "{axis}: back of turn {by}");
                }
            }
        }
    }
}
