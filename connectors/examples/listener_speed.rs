//! How many records a second the listener takes from one client, as lines and as Arrow.
//!
//! `cargo run --release -p advect-connectors --example listener_speed -- [RECORDS]`

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use advect_connectors::ipc::write_ipc_stream;
use advect_connectors::listener::{Listener, ListenerOptions};
use advect_connectors::{Observation, observation_schema, to_batch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let records: usize = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |n| n.parse())?;
    let observations: Vec<Observation> = (0..records)
        .map(|k| Observation {
            time: 1_700_000_000_000_000_000 + k as i64 * 1_000_003,
            latitude: -90.0 + (k % 18_001) as f64 * 0.01,
            longitude: (k % 35_999) as f64 * 0.01,
            elevation: Some((k % 2000) as f64),
            variable: "air_temperature".into(),
            value: 250.0 + (k % 4001) as f64 * 0.0125,
            error: Some(0.5),
            station: format!("{:05}", k % 9973),
            source: "speed".into(),
        })
        .collect();
    let mut lines = Vec::new();
    for o in &observations {
        serde_json::to_writer(&mut lines, o)?;
        lines.push(b'\n');
    }
    let mut arrow = Vec::new();
    let batches: Vec<_> = observations
        .chunks(8192)
        .map(to_batch)
        .collect::<Result<_, _>>()?;
    write_ipc_stream(&mut arrow, "memory", &observation_schema(), &batches)?;
    for (kind, bytes) in [("lines", lines), ("Arrow", arrow)] {
        let (wake, woken) = channel();
        let waker = Arc::new(move || _ = wake.send(()));
        let listener = Listener::bind("127.0.0.1:0", ListenerOptions::default(), waker)?;
        let begin = Instant::now();
        let mut stream = TcpStream::connect(listener.address())?;
        let client = std::thread::spawn(move || -> std::io::Result<String> {
            stream.write_all(&bytes)?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let mut rows = 0;
        while rows < records {
            woken.recv()?;
            rows += listener
                .drain(usize::MAX)
                .iter()
                .map(|d| d.batch.num_rows())
                .sum::<usize>();
        }
        let rate = rows as f64 / begin.elapsed().as_secs_f64();
        let answer = client.join().map_err(|_| "the client broke off")??;
        println!("{kind}: {rate:.0} records/s; answer {}", answer.trim());
    }
    Ok(())
}
