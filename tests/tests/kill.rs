//! `kill -9` at any moment, of any process: a resumed job ends with the files of an undisturbed one,
//! on whatever number of threads and processes it goes on.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use advect_engine::Fabric;
use advect_pipelines::assimilate::Assimilate;
use advect_pipelines::config::{Sources, resolve};
use advect_pipelines::{Pipeline, Run, Stop};
use advect_tests::free_hosts;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Set for the processes of a job: `FABRIC THREADS RESUME DIRECTORY`.
const CHILD: &str = "ADVECT_TEST_KILL";
/// A hang is longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Threads a process, and processes.
const SHAPES: [(usize, usize); 4] = [(1, 1), (4, 1), (1, 2), (2, 2)];
/// A coarse grid and six hours: what is tested here does not need more.
const SMALL: [&str; 5] = [
    "period.cycles=6",
    "grid.step=3",
    "grid.rows=10",
    "grid.columns=22",
    "arrival.extra=200",
];

/// Nothing by itself: one process of a job that the test starts.
#[test]
fn child() {
    let Ok(place) = std::env::var(CHILD) else {
        return;
    };
    let words: Vec<&str> = place.splitn(4, ' ').collect();
    let [fabric, threads, resume, out] = words[..] else {
        panic!("{place}")
    };
    let sources = Sources {
        set: SMALL.iter().map(|s| s.to_string()).collect(),
        ..Sources::default()
    };
    let run = Run {
        config: resolve(&Assimilate, &sources).unwrap(),
        fabric: Fabric::named(fabric, threads.parse().unwrap()).unwrap(),
        out: out.into(),
        resume: resume.parse().unwrap(),
        trace: None,
        metrics: None,
        quiet: true,
        stop: Stop::default(),
    };
    let _claim = run.claim_out().unwrap();
    if let Err(e) = Assimilate.run(&run) {
        eprintln!("{e}");
        std::process::exit(3);
    }
}

/// A job on threads or processes, all of them on this machine.
struct Job(Vec<Child>);

impl Job {
    fn start((threads, processes): (usize, usize), resume: bool, out: &Path) -> Job {
        let hosts = free_hosts(processes).join(",");
        let process = |p: usize| {
            let fabric = match processes {
                1 => "threads".to_owned(),
                _ => format!("tcp:{p}@{hosts}"),
            };
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "child", "--nocapture"]);
            let place = format!("{fabric} {threads} {resume} {}", out.display());
            command.env(CHILD, place).env("RUST_BACKTRACE", "0");
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        Job((0..processes).map(process).collect())
    }

    /// Waits for all; none may hang. How each ended, and what it said.
    fn end(self) -> Vec<(ExitStatus, String)> {
        let begun = Instant::now();
        let mut jobs = self.0;
        while jobs.iter_mut().any(|c| c.try_wait().unwrap().is_none()) {
            if begun.elapsed() > PATIENCE {
                jobs.iter_mut().for_each(|c| c.kill().unwrap());
                panic!("a process hangs");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let told = |c: Child| {
            let output = c.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status, said)
        };
        jobs.into_iter().map(told).collect()
    }
}

/// Runs to the end; how long that took.
fn whole(shape: (usize, usize), resume: bool, out: &Path) -> Duration {
    let begun = Instant::now();
    for (status, said) in Job::start(shape, resume, out).end() {
        assert!(status.success(), "{shape:?}: {said}");
    }
    begun.elapsed()
}

/// The files that must have the same bytes.
fn results(out: &Path) -> [Vec<u8>; 3] {
    ["analyses.nc", "rejected.parquet", "scores.json"].map(|name| {
        let path = out.join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    })
}

/// Number of snapshots.
fn snapshots(out: &Path) -> usize {
    let files = std::fs::read_dir(out.join("snapshots"));
    let names = files.into_iter().flatten().map(|f| f.unwrap().file_name());
    let names = names.map(|n| n.into_string().unwrap());
    names
        .filter(|n| n.starts_with("manifest-") && n.ends_with(".json"))
        .count()
}

fn kill_and_resume(kills: usize, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let calm = tempfile::tempdir().unwrap();
    let lasts = SHAPES.map(|shape| whole(shape, false, calm.path()));
    let want = results(calm.path());
    let (mut done, mut halfway) = (0, 0);
    while done < kills {
        let out = tempfile::tempdir().unwrap();
        let mut resume = false;
        // one kill, or two or three, one after the other
        for _ in 0..rng.random_range(1..=3usize).min(kills - done) {
            let which = done % SHAPES.len();
            let job_lasts = lasts[which];
            let mut job = Job::start(SHAPES[which], resume, out.path());
            std::thread::sleep(job_lasts.mul_f64(rng.random_range(0.1..1.0)));
            let victim = rng.random_range(0..job.0.len());
            job.0[victim].kill().unwrap();
            for (p, (status, said)) in job.end().into_iter().enumerate() {
                // a process that was not killed has come to its end, or says what it lost
                let named = status.code() == Some(3) && said.contains("lost");
                assert!(p == victim || status.success() || named, "{status}: {said}");
            }
            halfway += usize::from(snapshots(out.path()) > 0);
            (done, resume) = (done + 1, true);
        }
        let shape = SHAPES[rng.random_range(0..SHAPES.len())];
        whole(shape, true, out.path());
        let same = results(out.path()) == want;
        assert!(
            same,
            "after {done} kills, resumed on {shape:?}: other files"
        );
    }
    println!("{kills} kills, {halfway} of them with a snapshot to go on from");
    assert!(halfway * 3 > kills, "{halfway} of {kills} came halfway");
}

#[test]
fn killed_and_resumed() {
    kill_and_resume(8, 1);
}

#[test]
#[ignore = "minutes; run it with `cargo test --release -p advect-tests --test kill -- --ignored`"]
fn fifty_kills() {
    kill_and_resume(50, 2);
}
