//! Errors that name who is to blame.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use advect_engine::fabric::Context;
use advect_engine::observe::Options;
use advect_engine::{
    Batch, DType, EngineError, Fabric, Layout, Mesh, Monoid, Placement, Relayout, Shard, relayout,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::{Input, Probe};
use timely::worker::Worker;

use super::job::*;

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
    contains(&message, &["worker 1", "'Solve'", "singular matrix"]);
    // step 5 has just been closed: what is told of it may be under way
    assert!(
        message.contains(" at 5: ") || message.contains(" at 6: "),
        "{message}"
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
        .args(["--exact", "names::child_process"])
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
