//! Tensors that are large enough for the bulk lane take every relayout unharmed.

mod shared;

use std::thread;

use advect_engine::Fabric;

/// Parts of some 100 KB, large ones and runs that are cut out of the middle included.
const SHAPE: [usize; 3] = [37, 31, 60];

/// Threads share the memory of their pieces: nobody may write to what another one reads.
#[test]
fn large_tensors_over_threads() {
    for workers in [1, 2, 3] {
        shared::check(&Fabric::Threads(workers), &SHAPE);
    }
}

/// Two processes of two threads over sockets.
#[test]
fn large_tensors_over_tcp() {
    let free: Vec<_> = (0..2)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    let hosts: Vec<String> = free
        .iter()
        .map(|l| l.local_addr().expect("bound").to_string())
        .collect();
    drop(free);
    // two runs each: the addresses are free again when both processes are done with the first
    let runs: Vec<_> = (0..2)
        .map(|process| {
            let hosts = hosts.clone();
            let fabric = Fabric::Tcp {
                threads: 2,
                process,
                hosts,
            };
            thread::spawn(move || shared::check(&fabric, &SHAPE))
        })
        .collect();
    for run in runs {
        assert!(run.join().expect("one process") > 200);
    }
}
