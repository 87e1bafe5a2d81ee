//! Metrics.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use advect_engine::Fabric;
use advect_engine::fabric::Context;
use advect_engine::observe::{METRICS, Options};
use timely::worker::Worker;

use super::job::*;

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
    let page = include_str!("../../../docs/observability.md");
    for (name, _, help) in METRICS {
        assert!(page.contains(&format!("| `{name}` | {help} |")), "{name}");
    }
}
