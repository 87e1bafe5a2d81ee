//! Twin experiments, short: every filter finds the truth better than the observations do.
//!
//! * `beats_*`: the time-mean error lies clearly below the observation error.
//! * `replay_*`: equal seeds give equal bits; methods share truth and observations.
//! * `refuses_*`: a configuration that cannot run is an error that names its key.
//!
//! The published scores need longer runs; they stand in the experiment files of the pipelines.

use advect_operators::assimilation::Inflation;
use advect_operators::twin::{
    Expected, Experiment, MethodChoice, ModelChoice, ObservationPlan, Report, RunPlan, SeedReport,
    SeedRun, run_experiment, run_seed,
};

fn lorenz96(method: MethodChoice) -> Experiment {
    Experiment {
        name: "short".into(),
        model: ModelChoice::Lorenz96 {
            dimension: 40,
            forcing: 8.0,
            time_step: 0.05,
        },
        observations: ObservationPlan {
            steps_per_cycle: 1,
            stride: 1,
            variance: 1.0,
        },
        method,
        run: RunPlan {
            seeds: vec![1, 2],
            burn_in: 200,
            cycles: 300,
            initial_variance: 0.001,
        },
        expected: None,
    }
}

fn letkf() -> MethodChoice {
    MethodChoice::Letkf {
        members: 7,
        radius: 4.0,
        rotation: true,
        inflation: Inflation::anomalies(1.04),
    }
}

fn etkf(members: usize, factor: f64) -> MethodChoice {
    MethodChoice::Etkf {
        members,
        rotation: true,
        inflation: Inflation::anomalies(factor),
    }
}

/// On Lorenz-96 with an observation error of 1, each method has its own place.
#[test]
fn beats_observations_on_lorenz96() {
    let stochastic = MethodChoice::StochasticEnkf {
        members: 40,
        inflation: Inflation::anomalies(1.06),
    };
    for (method, below) in [
        (letkf(), 0.3),
        (etkf(24, 1.04), 0.3),
        (stochastic, 0.3),
        (
            MethodChoice::Var3d {
                samples: 3_000,
                scale: 0.02,
            },
            0.5,
        ),
        (MethodChoice::OptimalInterpolation { samples: 3_000 }, 0.98),
    ] {
        let report = run_experiment(&lorenz96(method.clone())).unwrap();
        assert!(report.rmse < below, "{method:?}: {report}");
        assert_eq!(report.diverged, 0);
        assert_eq!(report.crps.is_some(), method.is_ensemble());
    }
}

/// Relaxation to the prior spread alone keeps a filter alive, without factor and rotation.
#[test]
fn beats_observations_with_relaxation() {
    let method = MethodChoice::Letkf {
        members: 10,
        radius: 4.0,
        rotation: false,
        inflation: Inflation::relaxation(0.3),
    };
    let report = run_experiment(&lorenz96(method)).unwrap();
    assert!(report.rmse < 0.3, "{report}");
}

/// The other models, with partly observed states.
#[test]
fn beats_observations_on_other_models() {
    let mut lorenz63 = lorenz96(etkf(10, 1.05));
    lorenz63.model = ModelChoice::Lorenz63 { time_step: 0.01 };
    lorenz63.observations = ObservationPlan {
        steps_per_cycle: 12,
        stride: 2,
        variance: 2.0,
    };
    lorenz63.run.initial_variance = 2.0;
    let report = run_experiment(&lorenz63).unwrap();
    assert!(report.rmse < 0.8 * 2f64.sqrt(), "{report}");

    let mut flame = lorenz96(letkf());
    flame.model = ModelChoice::KuramotoSivashinsky {
        points: 64,
        length: 16.0,
        time_step: 0.5,
    };
    flame.observations = ObservationPlan {
        steps_per_cycle: 2,
        stride: 2,
        variance: 1.0,
    };
    flame.run = RunPlan {
        seeds: vec![1],
        burn_in: 50,
        cycles: 100,
        initial_variance: 0.001,
    };
    let report = run_experiment(&flame).unwrap();
    assert!(report.rmse < 0.5, "{report}");
}

/// Equal seeds give equal bits, other seeds do not, and seeds gathered from anywhere give the
/// report of the whole.
#[test]
fn replay_gives_the_same_bits() {
    let experiment = lorenz96(letkf());
    let (first, again) = (
        run_seed(&experiment, 1).unwrap(),
        run_seed(&experiment, 1).unwrap(),
    );
    let other = run_seed(&experiment, 2).unwrap();
    assert_eq!(first.rmse.to_bits(), again.rmse.to_bits());
    assert_eq!(first.rank_chi_squared, again.rank_chi_squared);
    assert_ne!(first.rmse.to_bits(), other.rmse.to_bits());
    let gathered = Report::from_seeds(&experiment, vec![first, other]);
    let whole = run_experiment(&experiment).unwrap();
    assert_eq!(gathered.rmse.to_bits(), whole.rmse.to_bits());
}

/// The verdict is the distance of the mean to the expected score, on either side.
#[test]
fn verdict_follows_the_tolerance() {
    let mut experiment = lorenz96(MethodChoice::OptimalInterpolation { samples: 500 });
    let report = run_experiment(&experiment).unwrap();
    for (distance, passed) in [(0.04, true), (-0.04, true), (0.06, false), (-0.06, false)] {
        experiment.expected = Some(Expected {
            rmse: report.rmse + distance,
            tolerance: 0.05,
            source: "this test".into(),
        });
        let report = Report::from_seeds(&experiment, report.seeds.clone());
        assert_eq!(report.passed, Some(passed), "{report}");
    }
}

/// Whoever collects the blocks of a run gets the report of the run, bit for bit, and every cycle
/// is in one block.
#[test]
fn blocks_are_the_run() {
    let experiment = lorenz96(letkf());
    let mut run = SeedRun::start(&experiment, 1).unwrap();
    let blocks: Vec<_> = std::iter::from_fn(|| run.next_block().unwrap()).collect();
    assert_eq!(blocks.len() as u64, SeedRun::blocks(&experiment));
    assert_eq!(blocks.iter().map(|b| b.cycles).sum::<u64>(), 500);
    let (a, b) = (
        SeedReport::from_blocks(&experiment, 1, &blocks),
        run_seed(&experiment, 1).unwrap(),
    );
    assert_eq!(a.rmse.to_bits(), b.rmse.to_bits());
    assert_eq!(a.crps, b.crps);
    assert_eq!(a.forecast_rmse.to_bits(), b.forecast_rmse.to_bits());
}

/// Every bad value is refused with its key in the message.
#[test]
fn refuses_what_cannot_run() {
    let check = |change: fn(&mut Experiment), key: &str| {
        let mut experiment = lorenz96(letkf());
        change(&mut experiment);
        let message = run_experiment(&experiment).unwrap_err().to_string();
        assert!(message.contains(key), "{message} does not name {key}");
    };
    check(|e| e.observations.variance = 0.0, "observations.variance");
    check(
        |e| e.observations.steps_per_cycle = 0,
        "observations.steps_per_cycle",
    );
    check(|e| e.observations.stride = 0, "observations.stride");
    check(|e| e.run.cycles = 0, "run.cycles");
    check(
        |e| e.run.initial_variance = f64::NAN,
        "run.initial_variance",
    );
    check(|e| e.method = etkf(1, 1.0), "method.members");
    check(|e| e.method = etkf(5, -1.0), "anomalies");
    check(
        |e| {
            e.model = ModelChoice::Lorenz96 {
                dimension: 3,
                forcing: 8.0,
                time_step: 0.05,
            }
        },
        "dimension",
    );
}

/// An unstable integration ends with an error that names seed and cycle.
#[test]
fn refuses_to_score_what_is_not_finite() {
    let mut experiment = lorenz96(letkf());
    experiment.model = ModelChoice::Lorenz96 {
        dimension: 40,
        forcing: 8.0,
        time_step: 2.0,
    };
    let message = run_experiment(&experiment).unwrap_err().to_string();
    assert!(
        message.contains("seed 1") && message.contains("cycle"),
        "{message}"
    );
}
