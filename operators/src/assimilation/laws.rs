//! Laws that hold between filters.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::{
    Climatology, Ensemble, Etkf, Filter, Inflation, Letkf, Localization, Observations,
    OptimalInterpolation, Purpose, StochasticEnkf, Var3d, stream,
};

const DIMENSION: usize = 9;
const OBSERVED: [usize; 4] = [0, 2, 5, 8];
const VARIANCES: [f64; 4] = [0.5, 1.0, 2.0, 0.25];
const VALUES: [f64; 4] = [1.0, -0.5, 0.3, 2.0];

fn forecast(members: usize) -> Ensemble {
    let mut rng = stream(21, Purpose::Initial, 0);
    Ensemble::sample(members, &[0.4; DIMENSION], 1.5, &mut rng).unwrap()
}

fn analysed(filter: &dyn Filter, mut ensemble: Ensemble) -> Ensemble {
    let predicted = ensemble.select(&OBSERVED).unwrap();
    let observations = Observations::try_new(&predicted, &VALUES, &VARIANCES).unwrap();
    filter
        .analyse(
            &mut ensemble,
            &observations,
            &mut stream(22, Purpose::Analysis, 1),
        )
        .unwrap();
    ensemble
}

fn farthest(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

fn covariance(ensemble: &Ensemble) -> Vec<f64> {
    Climatology::try_from_samples(ensemble)
        .unwrap()
        .covariance()
        .to_vec()
}

/// The Kalman filter in exact algebra, with the forecast covariance of the ensemble.
fn kalman(ensemble: &Ensemble) -> (Vec<f64>, Vec<f64>) {
    let (d, m) = (DIMENSION, OBSERVED.len());
    let (mean, p) = (ensemble.mean(), covariance(ensemble));
    let s = Mat::<f64>::from_fn(m, m, |a, b| {
        p[OBSERVED[a] * d + OBSERVED[b]] + if a == b { VARIANCES[a] } else { 0.0 }
    });
    let hp = Mat::<f64>::from_fn(m, d, |a, i| p[OBSERVED[a] * d + i]);
    let gain = s.llt(Side::Lower).unwrap().solve(&hp);
    let mean: Vec<f64> = (0..d)
        .map(|i| {
            mean[i]
                + (0..m)
                    .map(|a| gain[(a, i)] * (VALUES[a] - mean[OBSERVED[a]]))
                    .sum::<f64>()
        })
        .collect();
    let covariance = (0..d * d)
        .map(|ij| {
            p[ij]
                - (0..m)
                    .map(|a| gain[(a, ij / d)] * hp[(a, ij % d)])
                    .sum::<f64>()
        })
        .collect();
    (mean, covariance)
}

/// For a linear observation the ETKF has the mean and the covariance of the Kalman filter.
#[test]
fn etkf_is_the_kalman_filter() {
    for (members, rotation) in [(5, false), (30, false), (30, true)] {
        let ensemble = forecast(members);
        let (mean, covariance_exact) = kalman(&ensemble);
        let filter = Etkf::try_new(Inflation::default(), rotation).unwrap();
        let analysis = analysed(&filter, ensemble);
        assert!(farthest(&analysis.mean(), &mean) < 1e-12);
        assert!(farthest(&covariance(&analysis), &covariance_exact) < 1e-12);
    }
}

/// Centred perturbations leave the mean of the stochastic filter at that of the Kalman filter,
/// and with many members its covariance follows.
#[test]
fn stochastic_enkf_is_the_kalman_filter_in_the_mean() {
    let filter = StochasticEnkf::try_new(Inflation::default()).unwrap();
    let ensemble = forecast(12);
    let (mean, _) = kalman(&ensemble);
    assert!(farthest(&analysed(&filter, ensemble).mean(), &mean) < 1e-12);
    let many = forecast(1_200);
    let (_, exact) = kalman(&many);
    let distance = farthest(&covariance(&analysed(&filter, many)), &exact);
    assert!(distance < 0.1, "{distance}");
}

/// A LETKF that hears everything everywhere is the ETKF, with inflation, relaxation and rotation.
#[test]
fn letkf_without_limit_is_the_etkf() {
    let inflation = Inflation {
        background: 1.1,
        anomalies: 1.04,
        relaxation: 0.3,
    };
    let positions: Vec<f64> = OBSERVED.iter().map(|i| *i as f64).collect();
    for rotation in [false, true] {
        let lists = Localization::try_ring(DIMENSION, &positions, f64::INFINITY).unwrap();
        let local = Letkf::try_new(lists, inflation, rotation).unwrap();
        let global = Etkf::try_new(inflation, rotation).unwrap();
        let (a, b) = (
            analysed(&local, forecast(7)),
            analysed(&global, forecast(7)),
        );
        assert!(farthest(a.values(), b.values()) < 1e-10);
    }
}

/// The analysis of a shard is the shard of the analysis, bit for bit: cells may live anywhere.
#[test]
fn letkf_of_a_shard_is_the_shard_of_the_letkf() {
    let taper = |cell: usize, k: usize| 1.0 / (1.0 + cell.abs_diff(OBSERVED[k]) as f64);
    let inflation = Inflation {
        background: 1.1,
        anomalies: 1.04,
        relaxation: 0.3,
    };
    let make = |from: usize, to: usize| {
        let lists =
            Localization::from_taper(to - from, OBSERVED.len(), |cell, k| taper(cell + from, k));
        Letkf::try_new(lists, inflation, true).unwrap()
    };
    let whole = analysed(&make(0, DIMENSION), forecast(7));
    for (from, to) in [(0, 4), (4, DIMENSION)] {
        let cells: Vec<usize> = (from..to).collect();
        let mut shard = forecast(7).select(&cells).unwrap();
        let predicted = forecast(7).select(&OBSERVED).unwrap();
        let observations = Observations::try_new(&predicted, &VALUES, &VARIANCES).unwrap();
        let mut rng = stream(22, Purpose::Analysis, 1);
        make(from, to)
            .analyse(&mut shard, &observations, &mut rng)
            .unwrap();
        assert_eq!(shard, whole.select(&cells).unwrap());
    }
}

/// A cell that hears no observation keeps its members.
#[test]
fn letkf_leaves_distant_cells_alone() {
    let lists = Localization::from_taper(DIMENSION, OBSERVED.len(), |cell, k| {
        if cell < 3 && OBSERVED[k] < 3 {
            1.0
        } else {
            0.0
        }
    });
    let filter = Letkf::try_new(lists, Inflation::default(), false).unwrap();
    let (before, after) = (forecast(7), analysed(&filter, forecast(7)));
    for (old, new) in before.rows().zip(after.rows()) {
        assert!(farthest(&old[3..], &new[3..]) < 1e-13);
        assert!(farthest(&old[..3], &new[..3]) > 1e-3);
    }
}

/// Inflation of the anomalies multiplies the spread and leaves the mean, in every filter.
#[test]
fn inflation_scales_the_spread() {
    let make = |factor: f64| -> [Box<dyn Filter>; 3] {
        let inflation = Inflation::anomalies(factor);
        let lists = Localization::unlimited(DIMENSION, OBSERVED.len());
        [
            Box::new(Etkf::try_new(inflation, false).unwrap()),
            Box::new(StochasticEnkf::try_new(inflation).unwrap()),
            Box::new(Letkf::try_new(lists, inflation, false).unwrap()),
        ]
    };
    for (plain, inflated) in make(1.0).iter().zip(&make(1.5)) {
        let a = analysed(plain.as_ref(), forecast(6));
        let b = analysed(inflated.as_ref(), forecast(6));
        assert!(farthest(&a.mean(), &b.mean()) < 1e-12);
        let scaled: Vec<f64> = a.variance().iter().map(|v| 2.25 * v).collect();
        assert!(farthest(&scaled, &b.variance()) < 1e-12);
    }
}

/// 3D-Var from the climatological mean is optimal interpolation; observations without error are
/// fitted.
#[test]
fn var3d_from_climatology_is_optimal_interpolation() {
    let climatology = Climatology::try_from_samples(&forecast(60)).unwrap();
    let oi = OptimalInterpolation::try_new(&climatology, &OBSERVED, &VARIANCES).unwrap();
    let var = Var3d::try_new(&climatology, 1.0, &OBSERVED, &VARIANCES).unwrap();
    let start = Ensemble::try_new(1, DIMENSION, climatology.mean().to_vec()).unwrap();
    let (a, b) = (analysed(&oi, start.clone()), analysed(&var, start.clone()));
    assert!(farthest(a.values(), b.values()) < 1e-13);

    let sharp = Var3d::try_new(&climatology, 1.0, &OBSERVED, &[1e-12; 4]).unwrap();
    let fitted = analysed(&sharp, start).select(&OBSERVED).unwrap();
    assert!(farthest(fitted.values(), &VALUES) < 1e-9);
}

/// Observations that do not fit the filter are an error, not a panic.
#[test]
fn misfits_are_errors() {
    let mut ensemble = forecast(4);
    let mut rng = stream(1, Purpose::Analysis, 1);
    let predicted = ensemble.select(&OBSERVED[..3]).unwrap();
    assert!(Observations::try_new(&predicted, &VALUES, &VARIANCES).is_err());
    assert!(Observations::try_new(&predicted, &VALUES[..3], &[1.0, 0.0, 1.0]).is_err());
    let observations = Observations::try_new(&predicted, &VALUES[..3], &VARIANCES[..3]).unwrap();
    let lists = Localization::unlimited(DIMENSION, 4);
    let filter = Letkf::try_new(lists, Inflation::default(), false).unwrap();
    assert!(
        filter
            .analyse(&mut ensemble, &observations, &mut rng)
            .is_err()
    );
    let mut other = forecast(5);
    let etkf = Etkf::try_new(Inflation::default(), false).unwrap();
    assert!(etkf.analyse(&mut other, &observations, &mut rng).is_err());
}
