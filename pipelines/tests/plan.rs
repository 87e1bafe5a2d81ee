//! `advect plan --machine` as a user meets it: a plan in tables, or one line that names the mend.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

use std::path::Path;
use std::process::{Command, Output};

fn plan(here: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_advect"));
    command.current_dir(here).arg("plan").args(words);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ADVECT_")) {
        command.env_remove(name);
    }
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Whatever is wrong is one line with the thing, the place and the mend; what was asked wrongly ends with
/// 2, what cannot be found with 1.
#[test]
fn mistakes_are_named() {
    let here = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(here.path().join(name), text).unwrap();
    let frontier = include_str!("../src/planner/machines/frontier.toml");
    write("cut.toml", "name = \"x\"\njitter = [1,\n");
    write("key.toml", &frontier.replace("jitter =", "jiter ="));
    write(
        "nan.toml",
        &frontier.replace("fp16 = 191.5e12", "fp16 = nan"),
    );
    write("inf.toml", &frontier.replace("bytes = 64e9", "bytes = inf"));
    write("zero.toml", &frontier.replace("size = 2\n", "size = 0\n"));
    write(
        "huge.toml",
        &frontier.replace("size = 75776", "size = 1000000000000"),
    );
    let mistakes: [(&[&str], i32, &[&str]); 23] = [
        (
            &["fronter", "-w", "8"],
            2,
            &[
                "`fronter`",
                "did you mean `frontier`?",
                "dgx-h100, dgx-h200, this",
            ],
        ),
        (
            &["none.toml", "-w", "8"],
            2,
            &["none.toml", "check the path"],
        ),
        (&["cut.toml", "-w", "8"], 2, &["cut.toml:2:", "--calibrate"]),
        (
            &["key.toml", "-w", "8"],
            2,
            &["key.toml:15:1", "`jiter`", "`jitter`"],
        ),
        (&["nan.toml", "-w", "8"], 2, &["nan.toml: peak.fp16 is NaN"]),
        (&["inf.toml", "-w", "8"], 2, &["inf.toml: memory is inf"]),
        (
            &["zero.toml", "-w", "8"],
            2,
            &["zero.toml: level.size is 0"],
        ),
        (
            &["huge.toml", "-w", "1000000000"],
            2,
            &["--workers", "at most 1048576"],
        ),
        (&["frontier"], 2, &["--machine", "--workers N"]),
        (&["frontier", "-w", "0"], 2, &["--workers 0", "at least 1"]),
        (
            &["frontier", "-w", "75777"],
            2,
            &["75776 devices", "at most 75776"],
        ),
        (&["frontier", "-w", "8", "--top", "0"], 2, &["--top", "1.."]),
        (
            &["frontier", "--hosts", "a:1"],
            2,
            &["--hosts", "leave it out"],
        ),
        (
            &["frontier", "-w", "8", "--model", "30b"],
            2,
            &["`30b`", "`22b`"],
        ),
        (&["frontier", "-w", "8", "--top", "x"], 2, &["--top", "x"]),
        (
            &["frontier", "-w", "8", "--dot"],
            2,
            &["--dot", "--machine"],
        ),
        (
            &["frontier", "-w", "8", "--calibrate", "x"],
            2,
            &["--calibrate", "--machine this"],
        ),
        (
            &["frontier", "-w", "8", "--set", "layout.mesh=\"data 2\""],
            2,
            &["layout.mesh", "-w 2"],
        ),
        (
            &["frontier", "-w", "8", "--set", "layout.mesh=\"dta 8\""],
            2,
            &["layout.mesh", "'dta'", "zero-3"],
        ),
        (
            &["frontier", "-w", "8", "--set", "model.layers=9999999999"],
            2,
            &["model.layers", "too large"],
        ),
        (
            &["frontier", "-w", "16", "--model", "1t"],
            1,
            &[
                "16 workers of frontier",
                "967.4 GB more than fit",
                "more workers",
            ],
        ),
        (
            &["frontier", "-w", "7919"],
            1,
            &["7919 workers", "16 sequences", "samples.step"],
        ),
        (
            &["summit", "-w", "8", "--set", "model.precision=\"bf16\""],
            1,
            &["summit has no arithmetic in bf16"],
        ),
    ];
    for (words, code, said) in mistakes {
        let words = [&["language", "--machine"], words].concat();
        let (ended, _, error) = plan(here.path(), &words);
        let lines = error.lines().filter(|l| l.starts_with("error: ")).count();
        assert_eq!((ended, lines), (Some(code), 1), "{words:?}: {error}");
        for part in said {
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }
    for (words, said) in [
        (["assimilate", "--machine", "frontier"], "no transformer"),
        (["language", "--model", "22b"], "--machine"),
    ] {
        let (code, _, error) = plan(here.path(), &words);
        assert!(code == Some(2) && error.contains(said), "{error}");
    }
}

/// What ran on Frontier is at its place, and every neighbour of the best says what it costs or lacks.
#[test]
fn the_published_model_is_planned() {
    let here = tempfile::tempdir().unwrap();
    let words = [
        "language",
        "--machine",
        "frontier",
        "-w",
        "128",
        "--model",
        "175b",
        "--top",
        "3",
    ];
    let (code, text, error) = plan(here.path(), &words);
    assert_eq!(code, Some(0), "{error}");
    for part in [
        "174609555456 parameters",
        "t4 p16 d2 zero-1 b1 1f1b on frontier: 68.4 TFLOP/s",
        "fits: a device may fill 57.6 GB",
        "29 run, 104 do not fit, 59 cannot be",
        "the one above is at place 3, 1.9 % slower than the first",
        "b 1 → 2",
        "GB more than fit",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let best = text.split("best configurations").nth(1).unwrap();
    assert_eq!(
        best.lines()
            .filter(|l| l.contains(" zero-1 b1 1f1b  "))
            .count(),
        3
    );
}

/// The mesh of a configuration is planned with the extents that are set, and `--longest` has a line for
/// every mode, and for every way to share one sequence.
#[test]
fn the_mesh_of_a_configuration_is_planned() {
    let here = tempfile::tempdir().unwrap();
    let mesh = "layout.mesh=\"stage 2, data 2, tensor 2\"";
    let common = [
        "language",
        "--machine",
        "dgx-a100",
        "--set",
        mesh,
        "--set",
        "model.layers=4",
    ];
    let (code, text, error) = plan(here.path(), &common);
    assert_eq!(code, Some(0), "{error}");
    let named = [
        "t2 p2 d2 zero-0 b8 1f1b keep on dgx-a100",
        "the one above is at place",
    ];
    assert!(named.iter().all(|n| text.contains(n)), "{text}");
    let (code, text, _) = plan(here.path(), &[&common[..], &["--longest"]].concat());
    let lines = |heading: &'static str| {
        let table = text.lines().skip_while(move |l| !l.starts_with(heading));
        table.skip(1).take_while(|l| !l.is_empty()).count()
    };
    assert_eq!(code, Some(0));
    assert_eq!((lines("mode"), lines("way")), (5, 7), "{text}");
}

/// What was measured here is a file that plans the same machine, and it is changed by hand like any other.
#[test]
fn this_machine_is_measured_and_kept() {
    let here = tempfile::tempdir().unwrap();
    let words = ["language", "--machine", "this", "--calibrate", "mine.toml"];
    let (code, text, error) = plan(here.path(), &words);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        text.contains("GFLOP/s in f32") && text.contains("written to mine.toml"),
        "{text}"
    );
    let (code, text, error) = plan(
        here.path(),
        &["language", "--machine", "mine.toml", "-w", "1"],
    );
    assert!(
        code == Some(0) && text.contains("devices of this"),
        "{error}"
    );
}
