//! The main job, end to end: the same bits on every fabric, whatever came late, wrong or twice.

use std::path::Path;

use advect_engine::Fabric;
use advect_pipelines::assimilate::Assimilate;
use advect_pipelines::config::{Sources, resolve};
use advect_pipelines::{Pipeline, Run, Stop};
use advect_tests::free_hosts;
use serde_json::Value;

/// Runs the job with settings on top of the default.
fn run(fabric: Fabric, out: &Path, set: &[&str]) {
    let sources = Sources {
        set: set.iter().map(|s| s.to_string()).collect(),
        ..Sources::default()
    };
    let run = Run {
        config: resolve(&Assimilate, &sources).expect("the settings are right"),
        fabric,
        out: out.to_path_buf(),
        resume: false,
        trace: None,
        metrics: None,
        quiet: true,
        stop: Stop::default(),
    };
    let _claim = run.claim_out().expect("a directory can be made");
    Assimilate.run(&run).expect("the job ends well");
}

/// The files that must have the same bytes, whatever the fabric.
fn results(out: &Path) -> [Vec<u8>; 3] {
    ["analyses.nc", "rejected.parquet", "scores.json"]
        .map(|name| std::fs::read(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")))
}

fn on_threads(workers: usize, set: &[&str]) -> [Vec<u8>; 3] {
    let out = tempfile::tempdir().expect("a directory can be made");
    run(Fabric::Threads(workers), out.path(), set);
    results(out.path())
}

/// Few cycles: what is tested here does not need the whole day.
const SHORT: &str = "period.cycles=3";

/// One thread, four threads, and two processes over TCP give the same bytes.
#[test]
fn every_fabric_gives_the_same_bits() {
    let one = on_threads(1, &[SHORT]);
    assert!(one == on_threads(4, &[SHORT]), "4 threads differ from 1");
    let ports = free_hosts(2);
    let out = tempfile::tempdir().expect("a directory can be made");
    std::thread::scope(|scope| {
        for process in 0..2 {
            let (hosts, out) = (ports.clone(), out.path());
            let fabric = Fabric::Tcp {
                threads: 1,
                process,
                hosts,
            };
            scope.spawn(move || run(fabric, out, &[SHORT]));
        }
    });
    assert!(
        one == results(out.path()),
        "2 processes differ from 1 thread"
    );
}

/// A thousand false reports that come and are retracted, more late ones and another order of arrival
/// leave no trace, bit for bit.
#[test]
fn what_is_retracted_leaves_no_trace() {
    let plain = on_threads(2, &[SHORT]);
    for set in [
        &[SHORT, "arrival.extra=1000"][..],
        &[SHORT, "arrival.shuffle=7"],
        &[
            SHORT,
            "arrival.late=0.3",
            "arrival.corrected=0.2",
            "arrival.shuffle=8",
        ],
    ] {
        let other = on_threads(2, set);
        assert!(plain == other, "{set:?} leaves a trace");
    }
    let other = on_threads(2, &[SHORT, "filter.observation_error=1.3"]);
    assert!(plain[0] != other[0], "the comparison sees nothing");
}

/// The whole day: better than every baseline, spread that fits the error, and no record lost.
#[test]
fn the_day_is_analysed_well() {
    let out = tempfile::tempdir().expect("a directory can be made");
    run(Fabric::Threads(2), out.path(), &[]);
    let text = std::fs::read_to_string(out.path().join("scores.json")).expect("there are scores");
    let scores: Value = serde_json::from_str(&text).expect("scores are JSON");
    let number = |path: &str| scores.pointer(path).and_then(Value::as_f64).expect(path);
    assert_eq!(number("/verifying_reports"), 2313.0);
    assert_eq!(number("/verifying_stations"), 112.0);
    assert!(number("/withheld_rmse") <= 1.70, "{text}");
    assert!((0.8..=1.2).contains(&number("/spread_skill")), "{text}");
    for baseline in [
        "network_mean",
        "nearest_station",
        "inverse_distance",
        "kriging_with_lapse_rate",
    ] {
        let theirs = number(&format!("/baselines/{baseline}"));
        assert!(number("/withheld_rmse") < theirs, "{baseline}: {text}");
    }
    let parts = ["assimilated", "withheld", "rejected"].map(|p| number(&format!("/records/{p}")));
    assert_eq!(number("/records/read"), parts.iter().sum::<f64>());
    let kept = advect_connectors::parquet::ParquetSource::open(out.path().join("rejected.parquet"))
        .expect("rejected records can be read");
    assert_eq!(kept.rows() as f64, parts[2]);
    assert!(out.path().join("analysis.png").exists());
}
