//! What a run shows of itself is true. Families:
//!
//! * `metrics_*`: what is counted at one end of a channel is counted at the other; no client can
//!   keep others from an answer.
//! * `trace_*`: the file is JSON, activations nest, arrows have two ends, counters grow; after a
//!   failure and at the limit of bytes as well.
//! * `names_*`: a panic, a worker that does not come back, one that holds its frontier, and a process
//!   that is stopped or killed are named with worker, host, operator and time, instead of a hang.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use advect_engine::fabric::Context;
use advect_engine::observe::{METRICS, Options};
use advect_engine::{
    Batch, DType, EngineError, Fabric, Layout, Mesh, Monoid, Placement, Relayout, Shard, relayout,
};
use serde_json::Value;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::{Input, Probe};
use timely::worker::Worker;

type Records = CapacityContainerBuilder<Vec<u64>>;

/// Steps of the pipeline below, and records that each worker gives in each.
const STEPS: u64 = 20;
const RECORDS: u64 = 8;

/// What is to go wrong in the pipeline, at which step, on worker 1.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Panic(u64),
    Sleep(u64, Duration),
    /// The source no longer moves.
    Hold(u64),
}

/// Every worker gives records at each tick, they are exchanged, and "Solve" takes them up.
fn pipeline(worker: &mut Worker, context: &Context, fault: Fault) {
    let mut input = InputHandle::<u64, Records>::new();
    let me = context.index;
    let probe = worker.dataflow_named::<u64, _, _>("Training", |scope| {
        let route = Exchange::new(|x: &u64| *x);
        let shared =
            scope
                .input_from(&mut input)
                .unary::<Records, _, _, _>(route, "Share", |_, _| {
                    |input, output| {
                        input.for_each(|cap, data| output.session(&cap).give_container(data))
                    }
                });
        let solved = shared.unary_frontier::<Records, _, _, _>(Pipeline, "Solve", move |_, _| {
            move |(input, frontier), output| {
                input.for_each(|cap, data| output.session(&cap).give_container(data));
                let late = |step| me == 1 && !frontier.less_equal(&step);
                match fault {
                    Fault::Panic(step) if late(step) => panic!("singular matrix"),
                    Fault::Sleep(step, time) if late(step) => std::thread::sleep(time),
                    _ => {}
                }
            }
        });
        solved.probe().0
    });
    for step in 0..STEPS {
        for i in 0..RECORDS {
            input.send(step * RECORDS + i);
        }
        if me == 1 && fault == Fault::Hold(step) {
            context.drive(worker, || true);
        }
        input.advance_to(step + 1);
        context.drive(worker, || probe.less_than(&(step + 1)));
    }
}

/// `processes` of two workers each over TCP, as threads of this process.
fn over_tcp<R: Send + 'static>(
    processes: usize,
    options: impl Fn() -> Options,
    pipeline: impl Fn(&mut Worker, &Context) -> R + Send + Sync + Clone + 'static,
) -> (Vec<String>, Vec<Result<Vec<R>, EngineError>>) {
    let free: Vec<_> = (0..processes)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let hosts: Vec<String> = free
        .iter()
        .map(|l| l.local_addr().unwrap().to_string())
        .collect();
    drop(free);
    let runs: Vec<_> = (0..processes)
        .map(|process| {
            let fabric = Fabric::Tcp {
                threads: 1,
                process,
                hosts: hosts.clone(),
            };
            let (options, pipeline) = (options(), pipeline.clone());
            std::thread::spawn(move || fabric.run_with(&options, pipeline))
        })
        .collect();
    (hosts, runs.into_iter().map(|r| r.join().unwrap()).collect())
}

fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket.write_all(request).unwrap();
    let mut answer = Vec::new();
    // a server that hangs up on what it has not read resets the connection
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    ask(address, request.as_bytes())
}

/// Samples by metric and operator (summed over workers and addresses).
fn samples(answer: &str) -> BTreeMap<(String, String), f64> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut all = BTreeMap::new();
    for line in body.lines().filter(|l| !l.starts_with('#')) {
        let (name, rest) = line.split_once('{').unwrap();
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        let operator = labels
            .split_once("operator=\"")
            .map_or("", |(_, l)| l.split('"').next().unwrap());
        *all.entry((name.to_owned(), operator.to_owned()))
            .or_default() += value.parse::<f64>().unwrap();
    }
    all
}

/// Metrics as worker 0 sees them once all records are through on all workers.
fn final_metrics(worker: &mut Worker, context: &Context) -> Option<String> {
    pipeline(worker, context, Fault::None);
    (context.index == 0).then(|| {
        // the other workers hand over their last log when they park
        std::thread::sleep(Duration::from_millis(300));
        get(context.metrics().unwrap(), "/metrics")
    })
}

/// Every record that is sent is counted as sent, as received, and no longer as waiting.
#[test]
fn metrics_balance() {
    let options = Options::default().metrics("127.0.0.1:0");
    let got = Fabric::Threads(3)
        .run_with(&options, final_metrics)
        .unwrap();
    let s = samples(got[0].as_ref().unwrap());
    let of = |metric: &str, operator: &str| s[&(format!("advect_{metric}"), operator.to_owned())];
    let all = (STEPS * RECORDS * 3) as f64;
    for operator in ["Share", "Solve"] {
        assert_eq!(of("operator_records_in_total", operator), all);
        assert_eq!(of("operator_records_out_total", operator), all);
        assert_eq!(of("operator_queue_messages", operator), 0.0);
        assert_eq!(of("operator_waiting_records", operator), 0.0);
        assert!(of("operator_activations_total", operator) >= STEPS as f64);
        assert!(of("operator_busy_seconds_total", operator) > 0.0);
    }
    assert!(of("process_resident_bytes", "") > 1e6);
}

/// Over TCP each process shows its own half, and the halves make the whole.
#[test]
fn metrics_over_tcp() {
    let options = || Options::default().metrics("127.0.0.1:0");
    let (_, got) = over_tcp(2, options, |worker, context| {
        pipeline(worker, context, Fault::None);
        std::thread::sleep(Duration::from_millis(300));
        get(context.metrics().unwrap(), "/metrics")
    });
    let solved: f64 = got
        .into_iter()
        .flat_map(|r| r.unwrap())
        .map(|answer| {
            let key = (
                "advect_operator_records_in_total".to_owned(),
                "Solve".to_owned(),
            );
            samples(&answer)[&key]
        })
        .sum();
    assert_eq!(solved, (STEPS * RECORDS * 2) as f64);
}

/// Clients that say nothing, never end, or talk nonsense do not keep others from an answer.
#[test]
fn metrics_hostile_clients() {
    let options = Options::default().metrics("127.0.0.1:0");
    let got = Fabric::Threads(1).run_with(&options, |_, context| {
        let address = context.metrics().unwrap();
        let silent: Vec<_> = (0..100)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let begun = Instant::now();
        assert!(get(address, "/health").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics?x=1").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/").starts_with("HTTP/1.1 404"));
        assert!(ask(address, b"POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        assert!(ask(address, b"\xff\x00 nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
        let endless = vec![b'a'; 64 << 10];
        let answer = ask(address, &endless);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"));
        assert!(get(address, "/health").starts_with("HTTP/1.1 200"));
        // far below the silent clients' patience times their number
        assert!(begun.elapsed() < Duration::from_secs(5));
        drop(silent);
    });
    got.unwrap();
}

/// Every metric is explained to the user, in the words of its help text.
#[test]
fn metrics_documented() {
    let page = include_str!("../../docs/observability.md");
    for (name, _, help) in METRICS {
        assert!(page.contains(&format!("| `{name}` | {help} |")), "{name}");
    }
}

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

fn failure<R: std::fmt::Debug>(run: Result<Vec<R>, EngineError>) -> String {
    run.unwrap_err().to_string()
}

fn contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

/// A panic names the worker, the operator and the time.
#[test]
fn names_panic() {
    let run = Fabric::Threads(3).run(|w, c| pipeline(w, c, Fault::Panic(5)));
    let message = failure(run);
    contains(
        &message,
        &["worker 1", "'Solve'", " at 6: ", "singular matrix"],
    );
}

/// A panic in one process is named by that process with its host, and ends the other.
#[test]
fn names_panic_over_tcp() {
    let (hosts, mut runs) = over_tcp(2, Options::default, |w, c| pipeline(w, c, Fault::Panic(5)));
    contains(
        &failure(runs.pop().unwrap()),
        &["worker 1", &hosts[1], "'Solve'", "singular matrix"],
    );
    contains(&failure(runs.pop().unwrap()), &["process 1", &hosts[1]]);
}

fn short(silence: u64, give_up: u64) -> Options {
    Options::default()
        .silence(Duration::from_millis(silence))
        .give_up(Duration::from_millis(give_up))
}

/// A worker that does not come back is named with the operator that it is in.
#[test]
fn names_stuck_operator() {
    let run = Fabric::Threads(2).run_with(&short(200, 600), |w, c| {
        pipeline(w, c, Fault::Sleep(5, Duration::from_millis(1500)));
    });
    contains(
        &failure(run),
        &["worker 1", "'Solve'", "has not come back", " at 6, "],
    );
}

/// A source that holds the frontier is named with its worker and time.
#[test]
fn names_holder() {
    let run = Fabric::Threads(3).run_with(&short(200, 600), |w, c| pipeline(w, c, Fault::Hold(7)));
    contains(&failure(run), &["worker 1", "'Input'", " at 7, ", "holds"]);
}

/// A process names the one that holds it up with its host and operator.
#[test]
fn names_silent_peer() {
    let (hosts, runs) = over_tcp(2, || short(200, 600), |w, c| pipeline(w, c, Fault::Hold(7)));
    for run in runs {
        contains(
            &failure(run),
            &["worker 1", "process 1", &hosts[1], "'Input'", " at 7, "],
        );
    }
}

/// The other process of `names_frozen_peer` and `names_killed_peer`: runs only as their child.
#[test]
fn child_process() {
    let Ok(hosts) = std::env::var("ADVECT_TEST_HOSTS") else {
        return;
    };
    let signal = std::env::var("ADVECT_TEST_SIGNAL").unwrap();
    let fabric = Fabric::Tcp {
        threads: 1,
        process: 1,
        hosts: hosts.split(' ').map(str::to_owned).collect(),
    };
    let signal = signal.parse().unwrap();
    let _ = fabric.run(move |worker, context| exchange(worker, context, Some(signal)));
}

/// Sends 32 MiB a step, more than sockets hold; at step 5 the child sends itself a signal.
fn exchange(worker: &mut Worker, context: &Context, signal: Option<i32>) {
    let mesh = Mesh::line("data", 2);
    let partial = Layout::new([Placement::Partial(Monoid::Sum)]);
    let size = 16 << 20;
    let plan = Relayout::plan(&mesh, &[size], DType::F32, &partial, &Layout::same(&mesh)).unwrap();
    let mut input = InputHandle::<u64, CapacityContainerBuilder<Batch>>::new();
    let probe = worker
        .dataflow::<u64, _, _>(|scope| relayout(scope.input_from(&mut input), &plan).probe().0);
    for step in 0..8 {
        input.send(Shard::new(0, vec![size], vec![1.0f32; size].into()));
        input.advance_to(step + 1);
        if let (Some(signal), 5) = (signal, step) {
            // SAFETY: has no preconditions.
            unsafe { libc::raise(signal) };
        }
        context.drive(worker, || probe.less_than(&(step + 1)));
    }
}

/// The error of a job whose other process sends itself a signal, its host, and the seconds from
/// the start of the job.
fn beside(signal: i32) -> (String, String, f64) {
    let free: Vec<_> = (0..2)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let hosts: Vec<String> = free
        .iter()
        .map(|l| l.local_addr().unwrap().to_string())
        .collect();
    drop(free);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process"])
        .env("ADVECT_TEST_HOSTS", hosts.join(" "))
        .env("ADVECT_TEST_SIGNAL", signal.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let fabric = Fabric::Tcp {
        threads: 1,
        process: 0,
        hosts: hosts.clone(),
    };
    let run = fabric.run_with(&short(1000, 2000), |w, c| exchange(w, c, None));
    let seconds = begun.elapsed().as_secs_f64();
    child.kill().unwrap();
    child.wait().unwrap();
    (failure(run), hosts[1].clone(), seconds)
}

/// A process that is stopped in the middle of sending is named by the other, which ends.
#[test]
fn names_frozen_peer() {
    let (message, host, seconds) = beside(libc::SIGSTOP);
    contains(&message, &["worker 1", "process 1", &host, "last heard of"]);
    assert!(seconds < 30.0, "{seconds}");
}

/// A process that is killed is named by the other at once.
#[test]
fn names_killed_peer() {
    let (message, host, seconds) = beside(libc::SIGKILL);
    contains(&message, &["process 1", &host]);
    assert!(seconds < 30.0, "{seconds}");
}

/// A job that is slow but moves, for longer than silence would be borne, is left alone.
#[test]
fn names_no_one_who_moves() {
    let begun = Instant::now();
    let run = Fabric::Threads(2).run_with(&short(2000, 2000), |w, c| {
        pipeline(w, c, Fault::Sleep(0, Duration::from_millis(120)));
    });
    run.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(2));
}
