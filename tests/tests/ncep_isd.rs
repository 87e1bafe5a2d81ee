//! The larger test bed: every station of 2014 by the others, with a reanalysis of 2013 as prior.

use advect_engine::Fabric;
use advect_pipelines::assimilate::Assimilate;
use advect_pipelines::config::{Sources, resolve};
use advect_pipelines::{Pipeline, Run, Stop};
use serde_json::Value;

/// The scores of the first cycles of the year, `None` without the data.
fn scores(cycles: u64) -> Option<Value> {
    if std::env::var_os("ADVECT_DATA").is_none() {
        eprintln!("skipped: ADVECT_DATA is not set");
        return None;
    }
    let sources = Sources {
        set: vec!["data=ncep-isd".into(), format!("period.cycles={cycles}")],
        ..Sources::default()
    };
    let out = tempfile::tempdir().expect("a directory can be made");
    let run = Run {
        config: resolve(&Assimilate, &sources).expect("the settings are right"),
        fabric: Fabric::Threads(2),
        out: out.path().to_path_buf(),
        resume: false,
        trace: None,
        metrics: None,
        quiet: true,
        stop: Stop::default(),
    };
    Assimilate.run(&run).expect("the job ends well");
    let text = std::fs::read_to_string(out.path().join("scores.json")).expect("scores");
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// A month: better than what reports say without a prior, and than the prior without reports.
#[test]
fn a_month() {
    let Some(scores) = scores(124) else { return };
    let rmse = |v: &Value| v.as_f64().expect("a number");
    let analysis = rmse(&scores["withheld_rmse"]);
    let baselines = scores["baselines"].as_object().expect("a table");
    assert_eq!(baselines.len(), 4);
    for (name, baseline) in baselines {
        assert!(
            analysis < 0.95 * rmse(baseline),
            "{name}: {baseline}, analysis {analysis}"
        );
    }
    let background = rmse(&scores["background_rmse"]);
    assert!(
        analysis < 0.6 * background,
        "background {background}, analysis {analysis}"
    );
    assert_eq!(scores["verifying_stations"], 15);
}

/// The year: optimal interpolation leaves 3.01 K, the reanalysis of the year itself 2.30 K.
#[test]
#[ignore = "a minute; run it with `cargo test --release -p advect-tests --test ncep_isd -- --ignored`"]
fn the_year() {
    let Some(scores) = scores(1460) else { return };
    let rmse = scores["withheld_rmse"].as_f64().expect("a number");
    assert!(rmse <= 2.85, "{rmse} K");
    assert!(
        rmse > 2.30,
        "{rmse} K: a station was heard where it is verified"
    );
}
