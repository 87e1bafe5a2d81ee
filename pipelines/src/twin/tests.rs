//! Laws of `twin`.
//!
//! * the files are complete: every published score with its source, enough seeds and cycles;
//! * a wrong key or value is an error that names it;
//! * every fabric writes the same bytes;
//! * a missed score ends the run with an error; a stopped run does not.

use advect_engine::fabric::Faults;

use super::*;
use crate::config::{Sources, resolve};
use crate::error::PipelineError;
use crate::pipeline::Stop;

fn config(set: &[&str]) -> Result<Config> {
    let set = set.iter().map(ToString::to_string).collect();
    Ok(resolve(
        &Twin,
        &Sources {
            set,
            ..Sources::default()
        },
    )?)
}

/// Runs and returns `scores.json` with the verdict.
fn run(set: &[&str], fabric: Fabric, stop: Stop) -> (String, Result<()>) {
    let folder = tempfile::tempdir().unwrap();
    let run = Run {
        config: config(set).unwrap(),
        fabric,
        out: folder.path().to_path_buf(),
        resume: false,
        trace: None,
        metrics: None,
        quiet: true,
        stop,
    };
    let verdict = Twin.run(&run);
    (
        std::fs::read_to_string(run.result("scores.json")).unwrap_or_default(),
        verdict,
    )
}

const SHORT: [&str; 3] = ["run.seeds=[1, 2, 3]", "run.burn_in=100", "run.cycles=420"];

/// All experiments stand in one table, with the sizes that a score needs.
#[test]
fn files_are_complete() {
    let all = settings::experiments(&config(&[]).unwrap()).unwrap();
    assert_eq!(all.len(), 7);
    for (experiment, preset) in all.iter().zip(&settings::PRESETS[1..]) {
        let name = preset.name;
        assert_eq!(experiment.name, name);
        assert!(
            experiment.run.seeds.len() >= 5 && experiment.run.cycles >= 2_000,
            "{name}"
        );
        let expected = experiment.expected.as_ref().unwrap();
        assert!(!expected.source.is_empty(), "{name}");
        let one = config(&[&format!("experiment={name}")]).unwrap();
        assert_eq!(&settings::experiments(&one).unwrap()[0], experiment);
    }
}

/// A part of an experiment can be changed, and its method exchanged.
#[test]
fn one_experiment_can_be_changed() {
    let set = [
        "experiment=l96-letkf",
        "method={ var3d = { samples = 500, scale = 0.1 } }",
    ];
    let changed = settings::experiments(&config(&set).unwrap()).unwrap();
    assert_eq!(changed[0].method.members(), 1);
    let set = ["run.cycles=7"];
    let all = settings::experiments(&config(&set).unwrap()).unwrap();
    assert!(all.iter().all(|e| e.run.cycles == 7));
}

/// What cannot be used is named.
#[test]
fn wrong_settings_are_named() {
    let why = |set: &[&str]| {
        let found = config(set).and_then(|c| settings::experiments(&c));
        found.expect_err("wrong").to_string()
    };
    assert!(why(&["experiment=l96-letfk"]).contains("l96-letkf"));
    assert!(why(&["run.cycle=7"]).contains("run.cycles"));
    assert!(why(&["observations.variance=2.0"]).contains("experiment=NAME"));
    assert!(why(&["run.cycles=0"]).contains("run.cycles"));
    assert!(why(&["run.cycles=-1"]).contains("l96-letkf"));
    assert!(why(&["run.seeds=[1, 1]"]).contains("run.seeds"));
    let one = ["experiment=l96-letkf", "method.letkf.members=1"];
    assert!(why(&one).contains("members"));
}

/// One worker, several, and a simulated network that reorders: the same bytes.
#[test]
fn every_fabric_writes_the_same_bytes() {
    let set: Vec<&str> = SHORT.into_iter().chain(["experiment=l96-letkf"]).collect();
    let faults = Faults::default();
    let (one, _) = run(&set, Fabric::Threads(1), Stop::default());
    assert!(one.contains("\"rmse\""), "{one}");
    for fabric in [
        Fabric::Threads(3),
        Fabric::Sim {
            workers: 2,
            seed: 7,
            faults,
        },
    ] {
        let name = fabric.to_string();
        assert_eq!(run(&set, fabric, Stop::default()).0, one, "{name}");
    }
}

/// A score out of its tolerance is an error that names the experiment; one within is none.
#[test]
fn a_missed_score_is_an_error() {
    let base: Vec<&str> = SHORT.into_iter().chain(["experiment=l96-letkf"]).collect();
    let with = |expected| [base.as_slice(), &[expected]].concat();
    let (_, near) = run(
        &with("expected.tolerance=0.2"),
        Fabric::Threads(2),
        Stop::default(),
    );
    near.unwrap();
    let (_, far) = run(
        &with("expected.rmse=3.0"),
        Fabric::Threads(2),
        Stop::default(),
    );
    let far = far.expect_err("far off");
    assert!(matches!(far, PipelineError::Failed { .. }));
    assert!(
        far.to_string().contains("l96-letkf") && far.exit_code() == 1,
        "{far}"
    );
}

/// A run that is no longer finite is a score that is missed, with seed and cycle in the message.
#[test]
fn a_run_that_blows_up_is_reported() {
    let set = ["experiment=l96-letkf", "model.lorenz96.time_step=2.0"];
    let (text, verdict) = run(&set, Fabric::Threads(2), Stop::default());
    let why = verdict.expect_err("not finite").to_string();
    assert!(why.contains("seed 1") && why.contains("cycle"), "{why}");
    assert!(text.contains("not finite"));
}

/// A stopped run ends in order and reports what is complete: here nothing.
#[test]
fn a_stopped_run_ends_in_order() {
    let stop = Stop::default();
    stop.set();
    let (text, verdict) = run(&[], Fabric::Threads(2), stop);
    verdict.unwrap();
    assert_eq!(text, "[]");
}

/// Every published score, over all seeds and cycles.
#[test]
#[ignore = "minutes: run by `make check-long`, or as `advect run twin`"]
fn published_scores_are_reached() {
    run(&[], Fabric::Threads(2), Stop::default()).1.unwrap();
}
