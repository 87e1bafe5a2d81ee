//! Ensemble filters: time of a twin experiment on Lorenz-96, on one core, beside DAPPER.
//!
//! The set-up is that of Sakov and Oke (2008): 40 sites, all observed at every step. Truth,
//! observations and scores are inside our time; DAPPER's is that of its `assimilate`, which is
//! given truth and observations and keeps its scores.

use advect_operators::assimilation::Inflation;
use advect_operators::twin::{
    Experiment, MethodChoice, ModelChoice, ObservationPlan, RunPlan, run_seed,
};

use super::{BenchError, Figure, Options, Report, median, peer};

const NAME: &str = "filters";

/// The filters, by the names that both sides print.
fn methods() -> [(&'static str, MethodChoice); 3] {
    let inflation = Inflation::anomalies;
    [
        (
            "LETKF N=7",
            MethodChoice::Letkf {
                members: 7,
                radius: 4.0,
                rotation: true,
                inflation: inflation(1.04),
            },
        ),
        (
            "square-root EnKF N=24",
            MethodChoice::Etkf {
                members: 24,
                rotation: true,
                inflation: inflation(1.02),
            },
        ),
        (
            "perturbed-observation EnKF N=40",
            MethodChoice::StochasticEnkf {
                members: 40,
                inflation: inflation(1.06),
            },
        ),
    ]
}

fn experiment(method: MethodChoice, cycles: usize) -> Experiment {
    Experiment {
        name: NAME.to_owned(),
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
            seeds: vec![3000],
            burn_in: 0,
            cycles,
            initial_variance: 0.001,
        },
        expected: None,
    }
}

/// Runs every filter, then the same in DAPPER.
///
/// # Errors
/// If a filter loses its state.
pub(crate) fn run(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let (cycles, repeats) = if options.quick { (200, 1) } else { (1_000, 5) };
    let theirs = peer("filters_dapper", &[&cycles.to_string()], options, report);
    for (name, method) in methods() {
        let experiment = experiment(method, cycles);
        let runs = (0..repeats).map(|_| run_seed(&experiment, 3000));
        let runs: Result<Vec<_>, _> = runs.collect();
        let runs = runs.map_err(|e| BenchError::failed(NAME, e))?;
        let seconds: Vec<f64> = runs.iter().map(|r| r.seconds).collect();
        let case = format!("Lorenz-96 {name}, {cycles} cycles");
        let reference = theirs
            .iter()
            .flatten()
            .find(|f| f.case == name)
            .map(|f| f.value);
        let figure = Figure::new(
            NAME,
            format!("{case}, beside DAPPER"),
            median(&seconds),
            "s",
        );
        report.give(match reference {
            Some(reference) => figure.beside(reference),
            None => Figure { case, ..figure },
        });
    }
    Ok(())
}
