//! Whole files only, each once, and every record of them.

use super::*;
use crate::ipc::write_ipc_file;
use crate::parquet::ParquetSink;
use crate::schema::{observation_schema, tests::sample, to_batch};

/// A file is offered only after it stayed unchanged, never under a name of the making.
#[test]
fn only_whole_files_are_offered() {
    let dir = tempfile::tempdir().unwrap();
    let settle = Duration::from_secs(1);
    let mut folder = Folder::open(dir.path(), settle, BTreeSet::new()).unwrap();
    let start = Instant::now();
    let at = |s: u64| start + Duration::from_secs(s);
    for name in ["b.csv", "a.csv", "c.csv.part", ".hidden", "d.tmp"] {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    assert!(folder.look(at(1)).unwrap().is_empty(), "just seen");
    std::fs::write(dir.path().join("a.csv"), "xy").unwrap();
    let names = |paths: Vec<PathBuf>| paths.iter().map(|p| file_name(p)).collect::<Vec<_>>();
    assert_eq!(
        names(folder.look(at(2)).unwrap()),
        ["b.csv"],
        "a.csv still grows"
    );
    folder.mark_done("b.csv");
    std::fs::rename(dir.path().join("c.csv.part"), dir.path().join("c.csv")).unwrap();
    assert_eq!(names(folder.look(at(3)).unwrap()), ["a.csv"]);
    assert_eq!(names(folder.look(at(4)).unwrap()), ["a.csv", "c.csv"]);
    std::fs::write(dir.path().join("b.csv"), "again").unwrap();
    assert_eq!(
        names(folder.look(at(9)).unwrap()),
        ["a.csv", "c.csv"],
        "b.csv is done"
    );
}

/// A missing directory is an error that names it.
#[test]
fn missing_directory_is_an_error() {
    let error = Folder::open("/nowhere/at/all", Duration::ZERO, BTreeSet::new()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

/// All formats deliver the same records once; a damaged file is rejected; a restart with the
/// offset delivers nothing again.
#[test]
fn every_record_once_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let obs: Vec<_> = (0..100).map(sample).collect();
    let batch = to_batch(&obs).unwrap();
    let mut sink = ParquetSink::create(dir.path().join("a.parquet"), observation_schema()).unwrap();
    sink.write(&batch).unwrap();
    sink.finish().unwrap();
    write_ipc_file(dir.path().join("b.arrow"), &observation_schema(), [&batch]).unwrap();
    let lines: String = obs
        .iter()
        .map(|o| serde_json::to_string(o).unwrap() + "\n")
        .collect();
    std::fs::write(dir.path().join("c.ndjson"), lines + "nonsense\n").unwrap();
    std::fs::write(dir.path().join("d.parquet"), "nonsense").unwrap();
    let options = FolderOptions {
        interval: Duration::from_millis(5),
        settle: Duration::from_millis(10),
        rows: 30,
        queue: 2,
    };
    let mut done = BTreeSet::new();
    let (mut rows, mut rejected) = (0, 0);
    for round in 0..2 {
        let (wake, woken) = std::sync::mpsc::channel();
        let waker: Waker = Arc::new(move || _ = wake.send(()));
        let source = FolderSource::spawn(dir.path(), done.clone(), options.clone(), waker).unwrap();
        while done.len() < 4 + round {
            woken.recv_timeout(Duration::from_secs(20)).unwrap();
            while let Some(d) = source.try_next() {
                assert!(!done.contains(&d.origin), "{} came twice", d.origin);
                rows += d.batch.num_rows();
                rejected += d.rejected.len();
                if d.finished {
                    done.insert(d.origin);
                }
            }
        }
        assert_eq!((rows, rejected), (300 + round, 2), "round {round}");
        let late = "time,latitude,longitude,elevation,variable,value,error,station\n\
                    2024-01-01,1,2,,v,3,,S\n";
        std::fs::write(dir.path().join("e.csv"), late).unwrap();
    }
}
