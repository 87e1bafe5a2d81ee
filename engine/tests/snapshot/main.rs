//! Laws of snapshots.
//!
//! * A job that stops or fails anywhere and resumes, on any number of workers, has the outputs of an
//!   undisturbed one, bit for bit, each record once.
//! * A torn snapshot is never used; the one before it is. A foreign one is named.
//! * What a killed run leaves behind is removed, and a full disk costs nothing that was sealed.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

mod disk;
mod job;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use advect_engine::fabric::Faults;
use advect_engine::snapshot::{Store, whole};
use advect_engine::{EngineError, Fabric};

use job::*;

/// A clean stop at every epoch, and a resume on any number of workers, change nothing; resuming
/// what is finished neither.
#[test]
fn stops_on_any_number_of_workers() {
    let want = undisturbed();
    for until in [0, 1, 5, EPOCHS] {
        for (before, after) in [(1, 3), (3, 1), (2, 4), (4, 2)] {
            let directory = tempfile::tempdir().unwrap();
            let stop = Plan { until, ..WHOLE };
            run(&Fabric::Threads(before), directory.path(), stop).unwrap();
            assert_eq!(store(directory.path()).outputs().unwrap().epoch(), until);
            for workers in [after, before] {
                run(&Fabric::Threads(workers), directory.path(), WHOLE).unwrap();
                assert_eq!(
                    records(directory.path()),
                    want,
                    "{until}: {before} to {after}"
                );
            }
        }
    }
}

/// A worker that fails anywhere costs nothing, and no file is left that belongs to no snapshot.
#[test]
fn failures_anywhere() {
    let want = undisturbed();
    let mut halfway = 0;
    for (i, value) in (1..=60).step_by(6).enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let (before, after) = (1 + i % 3, 1 + (i + 1) % 4);
        let fail = Plan {
            fails: Some((i % before, value)),
            pause: 10,
            ..WHOLE
        };
        let first = run(&Fabric::Threads(before), directory.path(), fail);
        // a worker with few keys may come to the end before
        if let Err(e) = &first {
            assert!(e.contains("fails as it was told to"), "{e}");
            halfway += usize::from(
                store(directory.path())
                    .outputs()
                    .is_ok_and(|o| o.epoch() > 0),
            );
        }
        run(&Fabric::Threads(after), directory.path(), WHOLE).unwrap();
        assert_eq!(records(directory.path()), want, "failure at {value}");
        run(&Fabric::Threads(1), directory.path(), WHOLE).unwrap();
        let parts = fs::read_dir(directory.path().join("parts"))
            .unwrap()
            .count();
        assert!(parts <= 2 * 4, "{parts} parts");
    }
    assert!(halfway > 2, "{halfway} runs had something to go on from");
}

/// The same on a simulated network: whatever is delayed, cut or crashes, the run ends rightly or
/// names who failed, and a resume ends rightly.
#[test]
fn on_a_simulated_network() {
    let want = undisturbed();
    let mut disturbed = 0;
    for seed in 0..24 {
        let directory = tempfile::tempdir().unwrap();
        let workers = 2 + seed as usize % 3;
        let faults = Faults::drawn(seed, workers, 600);
        let stormy = Fabric::Sim {
            workers,
            seed,
            faults,
        };
        if run(&stormy, directory.path(), WHOLE).is_err() {
            disturbed += 1;
            let calm = Fabric::Sim {
                workers: 5 - workers,
                seed,
                faults: Faults::default(),
            };
            run(&calm, directory.path(), WHOLE).unwrap();
        }
        assert_eq!(records(directory.path()), want, "seed {seed}");
    }
    assert!(disturbed > 4, "{disturbed} runs were disturbed");
}

/// The files in a folder that end so, in order.
fn files(directory: &Path, folder: &str, ending: &str) -> Vec<std::path::PathBuf> {
    let found = fs::read_dir(directory.join(folder))
        .unwrap()
        .map(|e| e.unwrap().path());
    let mut found: Vec<_> = found
        .filter(|p| p.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    found
}

/// A snapshot of which anything is torn, changed or missing gives way to the one before it; if that
/// is broken as well, the error names a file and nothing is removed.
#[test]
fn torn_snapshots() {
    let want = undisturbed();
    let broken: [fn(&Path) -> std::path::PathBuf; 2] = [
        |d| files(d, "", ".json").pop().unwrap(),
        |d| {
            // a part of the newest snapshot
            let manifest = fs::read_to_string(files(d, "", ".json").pop().unwrap()).unwrap();
            files(d, "parts", ".part")
                .into_iter()
                .find(|p| manifest.contains(p.file_name().unwrap().to_str().unwrap()))
                .unwrap()
        },
    ];
    let harm: [fn(&Path); 3] = [
        |path| fs::write(path, &fs::read(path).unwrap()[..20]).unwrap(),
        |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(path, bytes).unwrap();
        },
        |path| fs::remove_file(path).unwrap(),
    ];
    for pick in broken {
        for harm in harm {
            let directory = tempfile::tempdir().unwrap();
            for until in [4, 7] {
                let stop = Plan { until, ..WHOLE };
                run(&Fabric::Threads(2), directory.path(), stop).unwrap();
            }
            assert_eq!(files(directory.path(), "", ".json").len(), 2);
            harm(&pick(directory.path()));
            run(&Fabric::Threads(3), directory.path(), WHOLE).unwrap();
            assert_eq!(records(directory.path()), want);
        }
    }
    let directory = tempfile::tempdir().unwrap();
    run(
        &Fabric::Threads(2),
        directory.path(),
        Plan { until: 7, ..WHOLE },
    )
    .unwrap();
    let mut manifests = files(directory.path(), "", ".json");
    manifests.pop();
    // the snapshot before, if there is one, may need no more of the log than its first half
    manifests.iter().for_each(|m| fs::remove_file(m).unwrap());
    let log = files(directory.path(), "outputs", ".log").remove(0);
    harm[1](&log);
    let before = files(directory.path(), "parts", "");
    let error = run(&Fabric::Threads(2), directory.path(), WHOLE).unwrap_err();
    assert!(
        error.contains(log.file_name().unwrap().to_str().unwrap()),
        "{error}"
    );
    assert!(error.contains("start anew"), "{error}");
    assert_eq!(files(directory.path(), "parts", ""), before);
    run(
        &Fabric::Threads(2),
        directory.path(),
        Plan {
            resume: false,
            ..WHOLE
        },
    )
    .unwrap();
    assert_eq!(records(directory.path()), want);
}

/// Another configuration is told so on every worker, and changes nothing.
#[test]
fn foreign_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    run(
        &Fabric::Threads(2),
        directory.path(),
        Plan { until: 3, ..WHOLE },
    )
    .unwrap();
    let other = Arc::new(Store::new(directory.path(), "filter", "14 keys"));
    let errors = Fabric::Threads(3).run(move |worker, context| {
        other
            .begin(worker, context, true)
            .map(|s| s.epoch())
            .unwrap_err()
            .to_string()
    });
    for error in errors.unwrap() {
        assert!(
            error.contains("configuration 13 keys, and this is 14 keys"),
            "{error}"
        );
    }
    run(&Fabric::Threads(2), directory.path(), WHOLE).unwrap();
    assert_eq!(records(directory.path()), undisturbed());
}

/// With a pause between snapshots only few are made, and the last one holds everything.
#[test]
fn seldom() {
    let directory = tempfile::tempdir().unwrap();
    let rare = store(directory.path()).every(Duration::from_secs(3600));
    let rare = Arc::new(rare);
    let ran = Fabric::Threads(2).run(move |worker, context| job(worker, context, &rare, WHOLE));
    ran.unwrap().into_iter().for_each(|r| r.unwrap());
    assert_eq!(records(directory.path()), undisturbed());
}

/// A file is replaced whole or not at all.
#[test]
fn whole_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("result");
    let write = |text: &'static str, fails: bool| {
        whole(&path, |beside| {
            fs::write(beside, text).unwrap();
            match fails {
                true => Err(EngineError::Worker {
                    worker: 0,
                    why: "no".to_owned(),
                }),
                false => Ok(()),
            }
        })
    };
    write("first", false).unwrap();
    write("second", true).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    write("third", false).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "third");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
