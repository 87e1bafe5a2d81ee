//! A process that is killed ends the job: the others stop within seconds, with a code that is not
//! zero, and name it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use advect_engine::Fabric;
use timely::dataflow::operators::{Exchange, Input, Probe};

/// Set for the processes of a job: `PROCESS THREADS HOST,HOST`.
const CHILD: &str = "ADVECT_TEST_FAILSTOP";
const READY: &str = "the job is on its way";
/// A hang is longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing by itself: the endless job that the laws below start in other processes.
#[test]
fn child() {
    let Ok(place) = std::env::var(CHILD) else {
        return;
    };
    let words: Vec<&str> = place.split(' ').collect();
    let [process, threads, hosts] = words[..] else {
        panic!("{place}")
    };
    let fabric = Fabric::named(&format!("tcp:{process}@{hosts}"), threads.parse().unwrap());
    let ran = fabric.unwrap().run(|worker, context| {
        let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, stream) = scope.new_input::<Vec<u64>>();
            (input, stream.exchange(|x| *x).probe().0)
        });
        for round in 0.. {
            (0..64).for_each(|x| input.send(x));
            input.advance_to(round + 1);
            context.drive(worker, || probe.less_than(&(round + 1)));
            if round == 10 {
                println!("{READY}");
            }
        }
    });
    eprintln!("{}", ran.unwrap_err());
    std::process::exit(3);
}

fn start(process: usize, threads: usize, hosts: &[String]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]);
    command.env(CHILD, format!("{process} {threads} {}", hosts.join(",")));
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Whatever process of however many is killed.
#[test]
fn a_killed_process_is_named() {
    for (processes, threads, victim) in [(2, 1, 1), (2, 2, 0), (3, 1, 1)] {
        let free = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let free: Vec<TcpListener> = free.collect();
        let hosts = free.iter().map(|l| l.local_addr().unwrap().to_string());
        let hosts: Vec<String> = hosts.collect();
        drop(free);
        let mut job: Vec<Child> = (0..processes).map(|p| start(p, threads, &hosts)).collect();
        let mut out: Vec<_> = job
            .iter_mut()
            .map(|c| BufReader::new(c.stdout.take().unwrap()))
            .collect();
        for out in &mut out {
            let ready = out.by_ref().lines().any(|l| l.unwrap().contains(READY));
            assert!(ready, "the job did not start");
        }
        job[victim].kill().unwrap();
        let killed = Instant::now();
        for (p, child) in job.iter_mut().enumerate() {
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break status,
                    None if killed.elapsed() < PATIENCE => {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    None => {
                        child.kill().unwrap();
                        panic!("process {p} did not notice that {victim} was killed");
                    }
                }
            };
            if p == victim {
                continue;
            }
            let mut said = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut said)
                .unwrap();
            assert_eq!(status.code(), Some(3), "{said}");
            let last = said.lines().last().unwrap_or_default();
            let other = format!("process {p} ");
            assert!(last.contains("process") && !last.contains(&other), "{said}");
            if processes == 2 {
                let name = format!("process {victim} ({}) was lost", hosts[victim]);
                assert!(last.contains(&name), "{said}");
            }
        }
    }
}
