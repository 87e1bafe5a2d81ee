//! Every record of every client is delivered or rejected, and no client can harm the others.

use super::*;
use crate::ipc::write_ipc_stream;
use crate::live::{Delivery, Waker};
use crate::schema::{observation_schema, tests::sample, to_batch};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

fn listen(options: ListenerOptions) -> (Listener, Receiver<()>) {
    let (wake, woken) = channel();
    let waker: Waker = Arc::new(move || _ = wake.send(()));
    (
        Listener::bind("127.0.0.1:0", options, waker).unwrap(),
        woken,
    )
}

/// Drains until `clients` have finished.
fn collect(listener: &Listener, woken: &Receiver<()>, clients: usize) -> Vec<Delivery> {
    let mut got: Vec<Delivery> = Vec::new();
    while got.iter().filter(|d| d.finished).count() < clients {
        woken.recv_timeout(Duration::from_secs(20)).unwrap();
        got.extend(listener.drain(usize::MAX));
    }
    got
}

fn sizes(got: &[Delivery]) -> (usize, usize) {
    (
        got.iter().map(|d| d.batch.num_rows()).sum(),
        got.iter().map(|d| d.rejected.len()).sum(),
    )
}

/// Sends bytes, ends the input and returns all answers.
fn talk(listener: &Listener, bytes: &[u8]) -> std::thread::JoinHandle<String> {
    let (address, bytes) = (listener.address(), bytes.to_vec());
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut reader = stream.try_clone().unwrap();
        let answers = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = reader.read_to_end(&mut text);
            String::from_utf8(text).unwrap()
        });
        let _ = stream
            .write_all(&bytes)
            .and_then(|()| stream.shutdown(Shutdown::Write));
        answers.join().unwrap()
    })
}

fn lines(rows: usize) -> Vec<u8> {
    (0..rows)
        .flat_map(|k| format!("{}\n", serde_json::to_string(&sample(k)).unwrap()).into_bytes())
        .collect()
}

fn stream(rows: usize) -> Vec<u8> {
    let batch = to_batch(&(0..rows).map(sample).collect::<Vec<_>>()).unwrap();
    let mut bytes = Vec::new();
    write_ipc_stream(&mut bytes, "x", &observation_schema(), [&batch, &batch]).unwrap();
    bytes
}

/// Clients of both kinds at once: all records arrive, and each is told its counts.
#[test]
fn both_formats_from_many_clients() {
    let (listener, woken) = listen(ListenerOptions {
        rows: 100,
        ..Default::default()
    });
    let text = talk(&listener, &lines(1000));
    let more = talk(
        &listener,
        &[lines(3), b"\n  \n".to_vec(), lines(1)].concat(),
    );
    let arrow = talk(&listener, &stream(250));
    assert_eq!(sizes(&collect(&listener, &woken, 3)), (1504, 0));
    assert_eq!(text.join().unwrap(), "{\"accepted\":1000,\"rejected\":0}\n");
    assert_eq!(more.join().unwrap(), "{\"accepted\":4,\"rejected\":0}\n");
    assert_eq!(arrow.join().unwrap(), "{\"accepted\":500,\"rejected\":0}\n");
    let stats = listener.stats();
    assert_eq!((stats.accepted, stats.rejected), (1504, 0));
}

/// A bad record is answered with its line and rejected at that place; the rest goes through.
#[test]
fn bad_records_are_answered() {
    let (listener, woken) = listen(ListenerOptions::default());
    let bytes = [lines(2), b"{\"time\":\n".to_vec(), lines(1)].concat();
    let client = talk(&listener, &bytes);
    let got = collect(&listener, &woken, 1);
    assert_eq!(sizes(&got), (3, 1));
    let answer = client.join().unwrap();
    let first: serde_json::Value = serde_json::from_str(answer.lines().next().unwrap()).unwrap();
    assert_eq!(first["line"], 3);
    assert!(
        first["error"].as_str().unwrap().starts_with("malformed: "),
        "{first}"
    );
    let rejected = got.iter().flat_map(|d| &d.rejected).next().unwrap();
    assert!(rejected.place.ends_with(":3"), "{}", rejected.place);
}

/// Each broken rule ends the connection with a line that names the rule.
#[test]
fn rules_are_named() {
    let short = Duration::from_millis(60);
    let options = || ListenerOptions {
        flush: Duration::from_millis(5),
        ..Default::default()
    };
    let cases: [(ListenerOptions, Vec<u8>, &str); 5] = [
        (
            ListenerOptions {
                max_line: 500,
                ..options()
            },
            vec![b'x'; 4000],
            "longer than 500",
        ),
        (
            ListenerOptions {
                max_bad: 3,
                ..options()
            },
            b"x\n".repeat(3),
            "3 bad records",
        ),
        (
            ListenerOptions {
                max_rate: Some(9),
                ..options()
            },
            lines(10),
            "more than 9",
        ),
        (
            ListenerOptions {
                max_message: 100,
                ..options()
            },
            stream(9),
            "limit is 100",
        ),
        (
            options(),
            [&stream(3)[..200], &[0; 900]].concat(),
            "Arrow IPC",
        ),
    ];
    for (options, bytes, word) in cases {
        let (listener, woken) = listen(options);
        let client = talk(&listener, &bytes);
        collect(&listener, &woken, 1);
        let answer = client.join().unwrap();
        assert!(
            answer.lines().last().unwrap().contains(word),
            "{word}: {answer}"
        );
    }
    for (idle, slow, bytes, word) in [
        (short, short * 100, &b""[..], "idle"),
        (short * 100, short, &b"{\"ti"[..], "slow"),
    ] {
        let (listener, _woken) = listen(ListenerOptions {
            idle,
            slow,
            ..options()
        });
        let mut stream = TcpStream::connect(listener.address()).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(word), "{word}: {answer}");
    }
}

/// The client beyond the last seat is told so; a seat becomes free when its client leaves.
#[test]
fn seats_are_counted() {
    let (listener, woken) = listen(ListenerOptions {
        max_clients: 1,
        ..Default::default()
    });
    let mut first = TcpStream::connect(listener.address()).unwrap();
    first.write_all(&lines(1)).unwrap();
    woken.recv_timeout(Duration::from_secs(20)).unwrap();
    let answer = talk(&listener, b"").join().unwrap();
    assert!(answer.contains("busy"), "{answer}");
    drop(first);
    let begin = Instant::now();
    while listener.stats().clients > 0 && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(
        talk(&listener, &lines(1))
            .join()
            .unwrap()
            .contains("\"accepted\":1")
    );
    assert_eq!(listener.stats().turned_away, 1);
}

/// A client that floods does not starve another: draining takes turns.
#[test]
fn draining_takes_turns() {
    let (listener, woken) = listen(ListenerOptions {
        rows: 1,
        queue: 64,
        ..Default::default()
    });
    let flood = talk(&listener, &lines(60));
    while listener.stats().accepted < 60 {
        woken.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    let quiet = talk(&listener, &lines(2));
    // a client is answered when all its records are in the queue
    let _ = (flood.join(), quiet.join());
    assert_eq!(listener.stats().accepted, 62);
    let origins: Vec<_> = listener.drain(4).into_iter().map(|d| d.origin).collect();
    assert_ne!(origins[0], origins[1]);
    assert_ne!(origins[2], origins[3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// Mutated lines: every line is delivered or rejected and answered.
    #[test]
    fn nothing_is_lost(at in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 0..9)) {
        let (listener, woken) = listen(ListenerOptions::default());
        let mut bytes = lines(12);
        for (x, b) in at {
            // 0xff in front would announce an Arrow stream.
            let i = 1 + (x * (bytes.len() - 1) as f64) as usize;
            bytes[i] = b;
        }
        let count = bytes.split(|&b| b == b'\n').filter(|l| !crate::ndjson::is_blank(l)).count();
        let client = talk(&listener, &bytes);
        let (good, bad) = sizes(&collect(&listener, &woken, 1));
        prop_assert_eq!(good + bad, count);
        let answer = client.join().unwrap();
        prop_assert_eq!(answer.lines().count(), bad + 1);
    }

    /// Mutated Arrow streams end with an answer, and what came through adds up.
    #[test]
    fn damaged_streams_end(at in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..5)) {
        let (listener, woken) = listen(ListenerOptions::default());
        let mut bytes = stream(20);
        for (x, b) in at {
            let i = 1 + (x * (bytes.len() - 1) as f64) as usize;
            bytes[i] = b;
        }
        let client = talk(&listener, &bytes);
        let (good, bad) = sizes(&collect(&listener, &woken, 1));
        let stats = listener.stats();
        prop_assert_eq!((good as u64, bad as u64), (stats.accepted, stats.rejected));
        let answer = client.join().unwrap();
        prop_assert!(answer.ends_with("}\n"), "no last line");
    }
}
