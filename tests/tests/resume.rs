//! Training goes on from a checkpoint as if nothing had happened. Three families:
//!
//! * `curve_*`: on the mesh that wrote it bit for bit, on others to rounding.
//! * `kill_*`: `kill -9` at any moment leaves the checkpoint before usable.
//! * `refuse_*`: a checkpoint that does not fit, or is damaged, is an error that names it.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use advect_connectors::checkpoint::steps;
use advect_engine::Fabric;
use advect_operators::transformer::Strategy;
use advect_pipelines::language::Language;
use advect_pipelines::{PipelineError, Stop};
use advect_tests::curve;

/// Set for a process that trains: `RESUME DIRECTORY`.
const CHILD: &str = "ADVECT_TEST_RESUME";
/// A hang is longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A model that learns in a second.
const SMALL: [&str; 17] = [
    "model.context=8",
    "model.layers=2",
    "model.width=16",
    "model.heads=4",
    "model.groups=4",
    "model.hidden=24",
    "model.precision=\"f64\"",
    "samples.step=8",
    "samples.micro=2",
    "training.steps=12",
    "training.warm_up=3",
    "validation.every=4",
    "validation.samples=8",
    "text.test=500",
    "sample.tokens=8",
    "checkpoint.every=4",
    "checkpoint.keep=9",
];

fn run(mesh: &str, out: &Path, resume: bool, set: &[&str]) -> Result<(), PipelineError> {
    let workers = mesh.parse::<Strategy>()?.mesh().workers();
    let mesh = format!("layout.mesh=\"{mesh}\"");
    let set = SMALL.iter().chain(set).map(|s| s.to_string());
    let (set, fabric) = (set.chain([mesh]), Fabric::Threads(workers));
    common::run(&Language, fabric, (out, resume), set, Stop::default())
}

fn step(out: &Path, step: u64) -> PathBuf {
    out.join("checkpoints").join(format!("step-{step:09}"))
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

/// Saved on (data 2, tensor 2, stage 2) after 4 of 12 steps; the rest of the curve is the same on that
/// mesh, on four tensors, on three workers that store pieces, and on one.
#[test]
fn curve_goes_on_on_any_mesh() {
    let written = directory();
    let mesh = "data 2, tensor 2, stage 2";
    run(mesh, written.path(), false, &[]).expect("it runs");
    let want = curve(written.path());
    assert_eq!(want.len(), 12 + 3 + 1);
    let from = format!("checkpoint.from={:?}", step(written.path(), 4));
    for (mesh, limit) in [
        (mesh, 0.0),
        ("tensor 4", 1e-10),
        ("zero-2 3", 1e-10),
        ("data 1", 1e-10),
        ("stage 2 (1 0 0 1), zero-3 2", 1e-10),
    ] {
        let out = directory();
        run(mesh, out.path(), false, &[&from]).unwrap_or_else(|e| panic!("{mesh}: {e}"));
        let got = curve(out.path());
        let rest = want.iter().filter(|l| l.1 >= 4);
        assert_eq!(got.len(), 8 + 3 + 1, "{mesh}");
        for (x, y) in rest.zip(&got) {
            assert_eq!((&x.0, x.1), (&y.0, y.1), "{mesh}");
            assert!((x.2 - y.2).abs() <= limit * x.2, "{mesh}: {x:?} and {y:?}");
        }
    }
}

/// A checkpoint knows nothing of devices: what one wrote goes on without, and the other way round.
#[test]
fn curve_goes_on_off_and_on_a_device() {
    let device = "layout.device=cpu";
    for (before, after) in [(&[device][..], &[][..]), (&[][..], &[device][..])] {
        let (written, out) = (directory(), directory());
        run("tensor 2", written.path(), false, before).expect("it runs");
        let from = format!("checkpoint.from={:?}", step(written.path(), 4));
        let set = [&[from.as_str()][..], after].concat();
        run("data 2", out.path(), false, &set).expect("it goes on");
        let (want, got) = (curve(written.path()), curve(out.path()));
        assert_eq!(got.len(), 8 + 3 + 1);
        for (x, y) in want.iter().filter(|l| l.1 >= 4).zip(&got) {
            assert_eq!((&x.0, x.1), (&y.0, y.1));
            assert!((x.2 - y.2).abs() <= 1e-10 * x.2, "{x:?} and {y:?}");
        }
    }
}

/// Nothing by itself: a process that trains, for the tests below.
#[test]
fn child() {
    let Ok(place) = std::env::var(CHILD) else {
        return;
    };
    let (resume, out) = place.split_once(' ').expect("two words");
    let resume = resume.parse().expect("a flag");
    if let Err(e) = run(
        "data 2, stage 2",
        out.as_ref(),
        resume,
        &["checkpoint.every=1"],
    ) {
        eprintln!("{e}");
        std::process::exit(3);
    }
}

/// A process that trains is killed after `patience`; whether it had ended by then.
fn killed(out: &Path, patience: Duration) -> bool {
    let resume = steps(&out.join("checkpoints")).is_ok_and(|steps| !steps.is_empty());
    let mut command = Command::new(std::env::current_exe().expect("this test is a file"));
    command.args(["--exact", "child", "--nocapture"]);
    command
        .env(CHILD, format!("{resume} {}", out.display()))
        .env("RUST_BACKTRACE", "0");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let begun = Instant::now();
    while child.try_wait().expect("it can be asked").is_none() {
        assert!(begun.elapsed() < PATIENCE, "it hangs");
        if begun.elapsed() > patience {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended = child.wait_with_output().expect("it ended");
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    true
}

fn kills(count: u32) {
    let calm = directory();
    run(
        "data 2, stage 2",
        calm.path(),
        false,
        &["checkpoint.every=1"],
    )
    .expect("it runs");
    let begun = Instant::now();
    let timed = directory();
    assert!(killed(timed.path(), PATIENCE), "it ends by itself");
    let lasts = begun.elapsed();
    let mut done = 0;
    while done < count {
        let out = directory();
        let ended = (1..=8).any(|part| {
            done += 1;
            killed(out.path(), lasts * (1 + (7 * part + done) % 16) / 18)
        });
        let ended = ended || killed(out.path(), PATIENCE);
        assert!(ended, "it ends when it is let");
        assert_eq!(curve(calm.path()), curve(out.path()), "bit for bit");
        for name in ["part-0000.safetensors", "part-0003.safetensors"] {
            let [a, b] = [calm.path(), out.path()]
                .map(|of| std::fs::read(step(of, 12).join(name)).expect("it is there"));
            assert!(a == b, "{name}: the same bytes");
        }
    }
}

/// Killed again and again, the curve and the last checkpoint have the bits of a run that was not.
#[test]
fn kill_at_any_moment() {
    kills(6);
}

/// The same, for minutes.
#[test]
#[ignore = "minutes of kills"]
fn kill_sixty_times() {
    kills(60);
}

/// What is asked for and is not there, does not fit, or would be lost.
#[test]
fn refuse_by_name() {
    let out = directory();
    run("data 1", out.path(), false, &["training.steps=4"]).expect("it runs");
    let said = |out: &Path, resume: bool, set: &[&str]| {
        run("data 1", out, resume, set)
            .expect_err("refused")
            .to_string()
    };
    let again = said(out.path(), false, &[]);
    assert!(
        again.contains("--resume") && again.contains("after 4 steps"),
        "{again}"
    );
    let none = said(directory().path(), true, &[]);
    assert!(
        none.contains("no checkpoint") && none.contains("--out"),
        "{none}"
    );
    let ended = said(out.path(), true, &["training.steps=3"]);
    assert!(
        ended.contains("training.steps") && ended.contains("has taken 4"),
        "{ended}"
    );
    let wide = said(out.path(), true, &["model.width=32"]);
    assert!(
        wide.contains("tokens.weight") && wide.contains("not F64 [256, 32]"),
        "{wide}"
    );
    let part = step(out.path(), 4).join("part-0000.safetensors");
    let bytes = std::fs::read(&part).expect("it is there");
    std::fs::write(&part, &bytes[..bytes.len() / 2]).expect("it is written");
    let cut = said(out.path(), true, &[]);
    assert!(
        cut.contains("part-0000.safetensors") && cut.contains("cut short"),
        "{cut}"
    );
    std::fs::remove_file(&part).expect("it was there");
    let gone = said(out.path(), true, &[]);
    assert!(
        gone.contains("part-0000.safetensors") && gone.contains("bring back"),
        "{gone}"
    );
}
