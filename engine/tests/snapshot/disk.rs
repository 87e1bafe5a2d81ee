//! Disks that are full.

use std::path::Path;

use advect_engine::Fabric;

use super::job::*;

/// Set for the runs that [`full_disk`] starts: the directory.
const CHILD: &str = "ADVECT_TEST_SNAPSHOT";

/// Nothing by itself: the job that [`full_disk`] starts in other processes.
#[test]
fn child() {
    if let Some(directory) = std::env::var_os(CHILD) {
        let plan = Plan { pause: 3, ..WHOLE };
        if let Err(e) = run(&Fabric::Threads(2), Path::new(&directory), plan) {
            eprintln!("{e}");
            std::process::exit(3);
        }
    }
}

/// Runs a script of the shell in which `run` is the job; gives its code and what it said.
fn script(text: &str, directory: &Path) -> (Option<i32>, String) {
    let exe = std::env::current_exe().unwrap();
    let text = format!("run() {{ {exe:?} --exact disk::child --nocapture; }}\n{text}");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &text]).env(CHILD, directory);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// Files that may not grow, and a disk that is full: the error names the file and the mend, what was
/// sealed stays, and with space the job goes on from there.
#[test]
fn full_disk() {
    let want = undisturbed();
    let resumed = |directory: &Path, said: &str| {
        assert!(
            said.contains("free some space there, then resume"),
            "{said}"
        );
        let sealed = store(directory).outputs().unwrap();
        assert!((1..EPOCHS).contains(&sealed.epoch()), "{said}");
        run(&Fabric::Threads(1), directory, WHOLE).unwrap();
        assert_eq!(records(directory), want);
    };
    let directory = tempfile::tempdir().unwrap();
    let small = "trap '' XFSZ; ulimit -f 3; run";
    let (code, said) = script(small, directory.path());
    assert_eq!(code, Some(3), "{said}");
    resumed(directory.path(), &said);

    let copy = tempfile::tempdir().unwrap();
    let place = copy.path().display();
    let full = format!(
        "mount -t tmpfs -o size=40k advect ${CHILD} || exit 77; run; code=$?; cp -r ${CHILD}/. \
         {place}; umount ${CHILD}; exit $code"
    );
    let directory = tempfile::tempdir().unwrap();
    match script(&full, directory.path()) {
        (Some(77), _) => eprintln!("no right to mount a small disk: not tested with one"),
        (code, said) => {
            assert_eq!(code, Some(3), "{said}");
            assert!(said.contains("No space left"), "{said}");
            resumed(copy.path(), &said);
        }
    }
}
