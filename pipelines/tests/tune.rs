//! `advect tune` as a user meets it: trials that are real, kept, gone on with, and the best of them as a
//! configuration that runs.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{advect, command};

/// A model so small that a trial is mostly the start of a process.
const TINY: [&str; 6] = [
    "model.layers=2",
    "model.width=16",
    "model.heads=2",
    "model.groups=2",
    "model.hidden=32",
    "model.context=16",
];

fn tune<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["tune", "language", "--workers", "1", "--out", "o"];
    for set in TINY {
        words.extend(["--set", set]);
    }
    words.extend(more);
    words
}

fn lines(here: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(here.join("o/trials.jsonl")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Two trials, then two more after a line was cut: those of before stay and are not run again; the best is
/// a configuration with the steps that the user wants, which runs.
#[test]
fn search_go_on_and_run_the_best() {
    let here = tempfile::tempdir().unwrap();
    let steps = [
        "--steps",
        "3",
        "--set",
        "training.steps=4",
        "--set",
        "validation.samples=1",
    ];
    let (code, text, error) = advect(
        here.path(),
        &tune(&[&steps[..], &["--trials", "2"]].concat()),
    );
    assert_eq!(code, Some(0), "{text}{error}");
    assert!(text.contains("as many trials as were asked for"), "{text}");
    let before = lines(here.path());
    assert!(
        before.len() == 2 && before.iter().all(|l| l.contains("\"measured\"")),
        "{before:?}"
    );
    // killed in the middle of a line
    let path = here.path().join("o/trials.jsonl");
    let torn = format!("{}\n{{\"trial\":3,\"conf", before.join("\n"));
    std::fs::write(&path, torn).unwrap();
    let again = tune(&[&steps[..], &["--trials", "4"]].concat());
    let (code, _, error) = advect(here.path(), &again);
    assert!(code == Some(2) && error.contains("--resume"), "{error}");
    let other = [&again[..], &["--resume", "--set", "model.width=32"]].concat();
    let (code, _, error) = advect(here.path(), &other);
    assert!(
        code == Some(2) && error.contains("model.width was 16 and is now 32"),
        "{error}"
    );
    let (code, text, error) = advect(here.path(), &[&again[..], &["--resume"]].concat());
    assert_eq!(code, Some(0), "{text}{error}");
    assert!(
        text.contains("put aside") && text.contains("goes on after 2 trials"),
        "{text}"
    );
    let after = lines(here.path());
    assert_eq!((after.len(), &after[..2]), (4, &before[..]));
    let configurations: std::collections::BTreeSet<_> = after
        .iter()
        .map(|l| l.split("\"configuration\"").nth(1).unwrap())
        .collect();
    assert_eq!(
        configurations.len(),
        4,
        "a configuration was tried twice: {after:?}"
    );
    for name in ["best.toml", "report.txt", "predicted.png", "progress.png"] {
        assert!(here.path().join("o").join(name).is_file(), "{name}");
    }
    let run = [
        "run",
        "language",
        "--config",
        "o/best.toml",
        "-w",
        "1",
        "--out",
        "best",
    ];
    let (code, _, error) = advect(here.path(), &run);
    assert_eq!(code, Some(0), "{error}");
    let metrics = std::fs::read_to_string(here.path().join("best/metrics.jsonl")).unwrap();
    let steps = metrics
        .lines()
        .filter(|l| l.contains("\"what\":\"step\""))
        .count();
    assert_eq!(steps, 4, "the steps are the user's");
}

/// A trial that takes too long is kept with its reason, the search goes on, and one error says that none
/// reached its end.
#[test]
fn a_trial_that_fails_is_data() {
    let here = tempfile::tempdir().unwrap();
    let words = tune(&["--steps", "3", "--trials", "2", "--trial-limit", "1ms"]);
    let (code, text, error) = advect(here.path(), &words);
    assert_eq!(code, Some(1), "{text}{error}");
    let kept = lines(here.path());
    assert_eq!(kept.len(), 2);
    for line in kept {
        assert!(
            line.contains("\"failed\"") && line.contains("the limit of a trial"),
            "{line}"
        );
    }
    let errors: Vec<&str> = error.lines().filter(|l| l.starts_with("error: ")).collect();
    assert!(
        errors.len() == 1 && errors[0].contains("none of 2 trials"),
        "{error}"
    );
    assert!(errors[0].contains("--trial-limit"), "{error}");
}

/// SIGTERM ends trials in flight and the search with code 0; what has ended is kept, and gone on with.
#[test]
fn stopped_and_resumed() {
    let here = tempfile::tempdir().unwrap();
    let long = [
        "--set",
        "model.context=64",
        "--trials",
        "500",
        "--steps",
        "60",
    ];
    let words = tune(&long);
    let mut stopped = command(here.path(), &words)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let trials = here.path().join("o/trials");
    while std::fs::read_dir(&trials).map_or(0, Iterator::count) < 2 {
        let ended = stopped.try_wait().unwrap();
        let waited = begun.elapsed() < Duration::from_secs(120);
        assert!(ended.is_none() && waited, "no second trial: {ended:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill")
        .args(["-TERM", &stopped.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    assert_eq!(stopped.wait().unwrap().code(), Some(0));
    let kept = lines(here.path()).len();
    assert!(kept >= 1, "the first trial had ended");
    let report = std::fs::read_to_string(here.path().join("o/report.txt")).unwrap();
    assert!(
        report.contains("stopped by a signal") && report.contains("--resume"),
        "{report}"
    );
    let more = (kept + 1).to_string();
    let again = tune(&[
        "--set",
        "model.context=64",
        "--trials",
        &more,
        "--steps",
        "60",
        "--resume",
    ]);
    let (code, text, error) = advect(here.path(), &again);
    assert_eq!(
        (code, lines(here.path()).len()),
        (Some(0), kept + 1),
        "{text}{error}"
    );
}

/// Whatever is wrong is one line with the thing and the mend, before anything runs.
#[test]
fn mistakes_are_named() {
    let here = tempfile::tempdir().unwrap();
    let mistakes: [(&[&str], i32, &[&str]); 9] = [
        (&["tune", "twin"], 2, &["tune twin", "tune `language`"]),
        (
            &["tune", "language", "-w", "0"],
            2,
            &["--workers 0", "at least 1"],
        ),
        (
            &["tune", "language", "-w", "9999"],
            2,
            &["--workers 9999", "at most"],
        ),
        (
            &["tune", "language", "-w", "1", "--parallel", "9999"],
            2,
            &["--parallel 9999", "slow each other"],
        ),
        (
            &["tune", "language", "--time-limit", "soon"],
            2,
            &["--time-limit", "10m"],
        ),
        (
            &["tune", "language", "--trial-limit=-5s"],
            2,
            &["--trial-limit", "90s"],
        ),
        (
            &["tune", "language", "--steps", "1"],
            2,
            &["--steps", "2.."],
        ),
        (
            &["tune", "language", "-w", "1", "--resume"],
            2,
            &["tune.toml", "no search"],
        ),
        (
            &["tune", "language", "-w", "1", "--machine", "frontie"],
            2,
            &["frontie", "did you mean"],
        ),
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

/// A directory that holds anything is left as it is, and a machine that is wrong leaves none behind.
#[test]
fn nothing_is_written_over() {
    let here = tempfile::tempdir().unwrap();
    let own = here.path().join("o");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("machine.toml"), "# mine\n").unwrap();
    let (code, _, error) = advect(here.path(), &tune(&["--trials", "1"]));
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("holds machine.toml") && error.contains("--out"),
        "{error}"
    );
    assert_eq!(
        std::fs::read_to_string(own.join("machine.toml")).unwrap(),
        "# mine\n"
    );
    std::fs::remove_dir_all(&own).unwrap();
    let (code, _, error) = advect(here.path(), &tune(&["--machine", "fronter"]));
    assert!(code != Some(0) && error.contains("frontier"), "{error}");
    assert!(!own.exists());
}

/// What is half as precise is planned and tried as well.
#[test]
fn mixed_precision_is_tuned() {
    let here = tempfile::tempdir().unwrap();
    let bf16 = [
        "--set",
        "model.precision=bf16",
        "--set",
        "model.context=0x10",
    ];
    let words = [&bf16[..], &["--trials", "1", "--steps", "3"]].concat();
    let (code, text, error) = advect(here.path(), &tune(&words));
    assert_eq!(code, Some(0), "{text}{error}");
    assert!(lines(here.path())[0].contains("\"measured\""));
}
