//! The `advect` command as a user meets it: what it says, and the code it ends with.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{advect, command};

/// A coarse grid and six hours.
const SMALL: [&str; 8] = [
    "--set",
    "period.cycles=6",
    "--set",
    "grid.step=3",
    "--set",
    "grid.rows=10",
    "--set",
    "grid.columns=22",
];

/// Whatever is wrong is named in one line, with a mend, and the code says whose fault it is.
#[test]
fn mistakes_are_named() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("cut.parquet"), b"PAR1").unwrap();
    std::fs::write(here.path().join("cut.nc"), b"\x89HDF\r\n\x1a\n").unwrap();
    std::fs::write(here.path().join("wrong.toml"), "[period]\ncycle = 3\n").unwrap();
    let mistakes: [(&[&str], i32, &[&str]); 18] = [
        (&["runn"], 2, &["runn", "run"]),
        (&["run", "asimilate"], 2, &["asimilate", "`assimilate`"]),
        (
            &["run", "assimilate", "-w", "0"],
            2,
            &["-w 0", "at least 1"],
        ),
        (
            &["run", "assimilate", "-w", "99999"],
            2,
            &["-w 99999", "at most 1024"],
        ),
        (
            &["run", "twin", "--resume"],
            2,
            &["--resume", "twin", "no snapshots"],
        ),
        (
            &["run", "assimilate", "--set", "period.cycle=3"],
            2,
            &["period.cycle`", "period.cycles"],
        ),
        (
            &["run", "assimilate", "--set", "period.cycles=x"],
            2,
            &["`x`", "integer"],
        ),
        (
            &["run", "assimilate", "--set", "grid.step=nan"],
            1,
            &["step", "NaN"],
        ),
        (
            &["run", "assimilate", "--config", "wrong.toml"],
            2,
            &["wrong.toml:2", "period.cycles"],
        ),
        (
            &["run", "assimilate", "--config", "none.toml"],
            2,
            &["none.toml", "--config"],
        ),
        (
            &["run", "assimilate", "--set", "inputs.reports=none"],
            1,
            &["none", "name a file"],
        ),
        (
            &["run", "assimilate", "--set", "inputs.reports=cut.parquet"],
            1,
            &["cut.parquet", "fetch"],
        ),
        (
            &["run", "assimilate", "--set", "inputs.prior=cut.nc"],
            1,
            &["cut.nc", "whole"],
        ),
        (
            &["check", "language", "--set", "layout.device=gpu"],
            2,
            &["layout.device", "device `gpu`: no such name; there are cpu"],
        ),
        // there is no such GPU, or the program was built without them
        (
            &["run", "language", "--set", "layout.device=cuda:4096"],
            2,
            &["layout.device", "device `cuda:4096`: "],
        ),
        (
            &["plan", "language", "--set", "layout.device=cuda:4096"],
            2,
            &["layout.device", "device `cuda:4096`: "],
        ),
        (&["inspect", "none"], 1, &["none", "check the path"]),
        (&["bench", "none"], 2, &["none", "transport"]),
    ];
    for (words, code, said) in mistakes {
        let (ended, _, error) = advect(here.path(), words);
        let lines = error.lines().filter(|l| l.starts_with("error: ")).count();
        assert_eq!((ended, lines), (Some(code), 1), "{words:?}: {error}");
        for part in said {
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }
}

/// A configuration shows where each value is from, and a plan counts bytes.
#[test]
fn config_and_plan() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("mine.toml"), "[period]\ncycles = 3\n").unwrap();
    let words = ["config", "show", "assimilate", "--config", "mine.toml"];
    let (code, text, _) = advect(here.path(), &words);
    let line = text.lines().find(|l| l.contains("period.cycles")).unwrap();
    assert!(code == Some(0) && line.contains("mine.toml:2"), "{line}");
    let (code, text, _) = advect(here.path(), &["plan", "assimilate", "-w", "2"]);
    assert!(
        code == Some(0) && text.contains("Split(0) -> Same"),
        "{text}"
    );
    let (code, text, _) = advect(here.path(), &["plan", "assimilate", "--dot"]);
    assert!(code == Some(0) && text.starts_with("digraph"), "{text}");
}

/// Two runs do not write over each other.
#[test]
fn one_run_to_a_directory() {
    let here = tempfile::tempdir().unwrap();
    std::fs::create_dir(here.path().join("mine")).unwrap();
    let other = std::fs::File::create(here.path().join("mine/.lock")).unwrap();
    other.lock().unwrap();
    let words = [&["run", "assimilate", "--out", "mine"][..], &SMALL].concat();
    let (code, _, error) = advect(here.path(), &words);
    let named = ["mine", "another run", "--out"];
    assert!(
        code == Some(2) && named.iter().all(|n| error.contains(n)),
        "{error}"
    );
    drop(other);
    assert_eq!(advect(here.path(), &words).0, Some(0));
}

/// SIGTERM seals and saves and ends with 0; a resumed run has the files of one that was left alone.
#[test]
fn stopped_and_resumed() {
    let here = tempfile::tempdir().unwrap();
    let run = |out: &'static str, more: &[&'static str]| {
        let words = ["run", "assimilate", "-w", "2", "--out", out];
        let day = ["--set", "period.cycles=24"];
        [&words[..], &SMALL, &day, more].concat()
    };
    let (code, _, error) = advect(here.path(), &run("calm", &[]));
    assert_eq!(code, Some(0), "{error}");
    let mut stopped = command(here.path(), &run("stopped", &[]));
    let mut stopped = stopped.stdout(Stdio::null()).spawn().unwrap();
    let snapshots = here.path().join("stopped/snapshots");
    let begun = Instant::now();
    let first = |n: &std::ffi::OsStr| n.to_string_lossy().starts_with("manifest-");
    while !std::fs::read_dir(&snapshots)
        .is_ok_and(|files| files.flatten().any(|f| first(&f.file_name())))
    {
        assert!(begun.elapsed() < Duration::from_secs(60), "no snapshot");
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill")
        .args(["-TERM", &stopped.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    assert_eq!(stopped.wait().unwrap().code(), Some(0));
    let whole = |out: &str, name: &str| std::fs::read(here.path().join(out).join(name)).unwrap();
    assert_ne!(
        whole("calm", "scores.json"),
        whole("stopped", "scores.json")
    );
    // other settings are another job
    let other = run("stopped", &["--resume", "--set", "arrival.seed=2"]);
    let (code, _, error) = advect(here.path(), &other);
    assert!(
        code == Some(1) && error.contains("configuration"),
        "{error}"
    );
    let (code, _, error) = advect(here.path(), &run("stopped", &["--resume"]));
    assert_eq!(code, Some(0), "{error}");
    for name in ["analyses.nc", "rejected.parquet", "scores.json"] {
        assert!(whole("calm", name) == whole("stopped", name), "{name}");
    }
}

/// A terminal that closes ends a run in order, and one that was started with `nohup` goes on.
#[test]
fn a_hangup_ends_what_heeds_it() {
    // whatever these tests were started with
    for (before, whole) in [
        ("exec env --default-signal=HUP", false),
        ("trap '' HUP; exec", true),
    ] {
        let here = tempfile::tempdir().unwrap();
        let steps = 1200;
        let small = "--set model.layers=1 --set model.width=8 --set model.heads=1 --set model.groups=1 \
                     --set model.hidden=8 --set model.context=8 --set samples.step=1 --set samples.micro=1";
        let script = format!(
            "{before} {} run language -w 1 --quiet --out o {small} --set training.steps={steps}",
            env!("CARGO_BIN_EXE_advect")
        );
        let mut run = Command::new("sh");
        let mut run = run
            .current_dir(here.path())
            .args(["-c", &script])
            .spawn()
            .unwrap();
        let metrics = here.path().join("o/metrics.jsonl");
        let count = || {
            let text = std::fs::read_to_string(&metrics).unwrap_or_default();
            text.lines().filter(|l| l.contains("\"step\",")).count()
        };
        let begun = Instant::now();
        while count() == 0 && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let hangup = Command::new("kill")
            .args(["-HUP", &run.id().to_string()])
            .status();
        assert!(hangup.unwrap().success());
        run.wait().unwrap();
        assert_eq!(count() == steps, whole, "{} of {steps} steps", count());
    }
}
