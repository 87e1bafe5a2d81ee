//! The prior: a climatology with its daily course, patterns that span the ensemble, and the model
//! that carries the ensemble from hour to hour.
//!
//! The mean is the least-squares fit of a daily course, $c_0 + c_1 \cos\omega t + c_2 \sin\omega t$, to
//! the prior's times at each cell, reduced to one height and drawn to its mean over the grid; with
//! harmonics of the year each $c$ has a yearly course likewise. The ensemble
//! is spanned by the leading empirical orthogonal functions of what the fit leaves, by plane waves
//! whose amplitudes are the spectrum of an exponential covariance,
//! $S(k) = \sigma^2 L^2 / (2\pi)\,(1 + L^2 k^2)^{-3/2}$ in two dimensions, and by a constant. With
//! $Z$ the $M$ patterns, $N = M + 1$ members have exactly the covariance $Z Z^\top$ (second-order exact
//! sampling, Pham 2001).

use std::f64::consts::TAU;
use std::ops::Range;

use advect_connectors::time::HOUR;
use advect_operators::OperatorError;
use advect_operators::cycle::Predictor;
use advect_operators::observations::grid::EARTH_RADIUS;
use advect_operators::observations::{Field, Grid};
use faer::{Mat, Side};

use super::settings::PriorConfig;

/// The prior on the analysis grid.
#[derive(Debug, Clone)]
pub(crate) struct Prior {
    columns: usize,
    members: usize,
    /// Coefficients of the mean, `[terms][cells]`, kelvin at sea level.
    course: Vec<Vec<f64>>,
    /// What is taken off at the height of each cell, kelvin.
    above: Vec<f64>,
    climatology: f64,
    season: usize,
    /// Anomalies, `[cells][N]`.
    anomalies: Vec<f64>,
    /// Time of cycle 0 and from one cycle to the next, nanoseconds.
    clock: (i64, i64),
    persistence: f64,
    refresh: f64,
}

/// Temperatures that a prior is made from.
pub(crate) struct Sample {
    /// Fields in kelvin.
    pub(crate) fields: Vec<Field>,
    /// Time of each, nanoseconds since 1970.
    pub(crate) times: Vec<i64>,
}

impl Prior {
    /// The prior on `grid` with cells at `heights` (m). `clock` is the time of cycle 0
    /// and from one cycle to the next, in nanoseconds.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Parameter`] if there are fewer than four fields, or more patterns than those
    /// fields have; [`OperatorError::Factorization`] if one is not finite.
    pub(crate) fn try_new(
        config: &PriorConfig,
        sample: &Sample,
        grid: &Grid,
        heights: &[f64],
        lapse_rate: f64,
        clock: (i64, i64),
    ) -> Result<Self, OperatorError> {
        let count = sample.fields.len();
        if count < 4 || config.eofs + 3 > count {
            return Err(OperatorError::Parameter {
                place: "Prior",
                name: "eofs",
                got: format!("{} of {count} fields", config.eofs),
                expected: "at least four fields, and three more fields than patterns",
            });
        }
        let cells: Vec<(f64, f64)> = (0..grid.cells())
            .map(|c| {
                let (row, column) = grid.place(c);
                (grid.latitude(row), grid.longitude(column))
            })
            .collect();
        // [times][cells], reduced to sea level
        let mut fields: Vec<Vec<f64>> = sample
            .fields
            .iter()
            .map(|f| {
                let at = cells.iter().zip(heights);
                at.map(|(&(lat, lon), z)| f.at(lat, lon) + lapse_rate * z)
                    .collect()
            })
            .collect();
        let course = fit(&mut fields, &sample.times, config.season)?;
        let mut patterns = leading_patterns(&fields, &cells, config.eofs)?;
        patterns.extend(waves(config, &cells));
        patterns.push(vec![config.level.sqrt(); cells.len()]);
        let members = patterns.len() + 1;
        Ok(Prior {
            columns: grid.columns(),
            members,
            course,
            above: heights.iter().map(|z| lapse_rate * z).collect(),
            climatology: config.climatology,
            season: config.season,
            anomalies: spread_over(&patterns, cells.len()),
            clock,
            persistence: config.persistence,
            refresh: config.refresh,
        })
    }

    /// The mean of every cell in a cycle, kelvin at the height of the cell.
    fn mean(&self, cycle: u64) -> Vec<f64> {
        let time = self.clock.0 + self.clock.1 * cycle as i64;
        let terms = terms(time, self.season);
        let at = |cell: usize| {
            let course = self.course.iter().zip(&terms);
            course.map(|(c, term)| c[cell] * term).sum::<f64>()
        };
        let cells = self.above.len();
        let level = (0..cells).map(at).sum::<f64>() / cells as f64;
        let pull = |cell: usize| level + self.climatology * (at(cell) - level);
        (0..cells)
            .map(|cell| pull(cell) - self.above[cell])
            .collect()
    }

    fn cells(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.columns..rows.end * self.columns
    }
}

impl Predictor for Prior {
    fn start(&self, rows: Range<usize>) -> Vec<f64> {
        let (n, means) = (self.members, self.mean(0));
        let of = |cell: usize| {
            let (mean, anomalies) = (means[cell], &self.anomalies[cell * n..(cell + 1) * n]);
            anomalies.iter().map(move |a| mean + a)
        };
        self.cells(&rows).flat_map(of).collect()
    }

    fn next(&self, to: u64, rows: Range<usize>, analysis: &[f64]) -> Vec<f64> {
        let (n, before, now) = (self.members, self.mean(to - 1), self.mean(to));
        let mut out = Vec::with_capacity(analysis.len());
        for (cell, members) in self.cells(&rows).zip(analysis.chunks_exact(n)) {
            let mean = members.iter().sum::<f64>() / n as f64;
            let kept = self.persistence * (mean - before[cell]);
            let forecast = now[cell] + kept;
            let prior = &self.anomalies[cell * n..(cell + 1) * n];
            out.extend(
                members
                    .iter()
                    .zip(prior)
                    .map(|(x, a)| forecast + (1.0 - self.refresh) * (x - mean) + self.refresh * a),
            );
        }
        out
    }
}

/// What the coefficients of the mean are multiplied with at a time: the daily course, and its products
/// with `season` harmonics of the year.
fn terms(time: i64, season: usize) -> Vec<f64> {
    let hour = time.rem_euclid(24 * HOUR) as f64 / HOUR as f64;
    let turn = TAU * hour / 24.0;
    let day = [1.0, turn.cos(), turn.sin()];
    let year = TAU * (time as f64 / (24 * HOUR) as f64) / 365.2425;
    let mut terms = day.to_vec();
    for k in 1..=season {
        let turn = k as f64 * year;
        for season in [turn.cos(), turn.sin()] {
            terms.extend(day.iter().map(|d| d * season));
        }
    }
    terms
}

/// Fits the mean at every cell, `[terms][cells]`, and leaves what it does not explain.
fn fit(
    fields: &mut [Vec<f64>],
    times: &[i64],
    season: usize,
) -> Result<Vec<Vec<f64>>, OperatorError> {
    let rows: Vec<Vec<f64>> = times.iter().map(|&t| terms(t, season)).collect();
    let n = 3 * (1 + 2 * season);
    let normal = Mat::from_fn(n, n, |i, j| rows.iter().map(|r| r[i] * r[j]).sum::<f64>());
    let eigen = normal
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| not_finite(n))?;
    let (u, s) = (eigen.U(), eigen.S());
    let inverse = |i: usize, j: usize| -> f64 {
        // hours that cannot tell the terms apart give the smallest course that fits
        (0..n)
            .filter(|&k| s[k] > 1e-9)
            .map(|k| u[(i, k)] * u[(j, k)] / s[k])
            .sum()
    };
    let cells = fields.first().map_or(0, Vec::len);
    let mut course = vec![vec![0.0; cells]; n];
    for cell in 0..cells {
        let mut right = vec![0.0; n];
        for (row, field) in rows.iter().zip(fields.iter()) {
            for (slot, r) in right.iter_mut().zip(row) {
                *slot += r * field[cell];
            }
        }
        for (i, term) in course.iter_mut().enumerate() {
            term[cell] = (0..n).map(|j| inverse(i, j) * right[j]).sum();
        }
        for (row, field) in rows.iter().zip(fields.iter_mut()) {
            field[cell] -= (0..n).map(|i| row[i] * course[i][cell]).sum::<f64>();
        }
    }
    Ok(course)
}

/// The leading empirical orthogonal functions, scaled to the standard deviation they explain.
fn leading_patterns(
    fields: &[Vec<f64>],
    cells: &[(f64, f64)],
    count: usize,
) -> Result<Vec<Vec<f64>>, OperatorError> {
    let times = fields.len();
    let areas: Vec<f64> = cells
        .iter()
        .map(|(lat, _)| lat.to_radians().cos())
        .collect();
    let gram = Mat::from_fn(times, times, |i, j| {
        let both = fields[i].iter().zip(&fields[j]).zip(&areas);
        both.map(|((a, b), area)| a * b * area).sum::<f64>()
    });
    let eigen = gram
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| not_finite(times))?;
    let u = eigen.U();
    // three of the degrees of freedom went into the daily course
    let scale = ((times - 3) as f64).sqrt();
    let pattern = |k: usize| {
        let column = times - 1 - k;
        let at = |cell: usize| {
            let sum: f64 = (0..times).map(|t| u[(t, column)] * fields[t][cell]).sum();
            sum / scale
        };
        (0..cells.len()).map(at).collect()
    };
    Ok((0..count).map(pattern).collect())
}

/// Pairs of plane waves, longest first, on a plane that touches the middle latitudes.
fn waves(config: &PriorConfig, cells: &[(f64, f64)]) -> Vec<Vec<f64>> {
    let n = cells.len() as f64;
    let (lat0, lon0) = (
        cells.iter().map(|c| c.0).sum::<f64>() / n,
        cells.iter().map(|c| c.1).sum::<f64>() / n,
    );
    let plane: Vec<(f64, f64)> = cells
        .iter()
        .map(|(lat, lon)| {
            let east = EARTH_RADIUS * lat0.to_radians().cos() * (lon - lon0).to_radians();
            (east, EARTH_RADIUS * (lat - lat0).to_radians())
        })
        .collect();
    let mut lattice: Vec<(i32, i32)> = (-12..=12)
        .flat_map(|i| (0..=12).map(move |j| (i, j)))
        .filter(|&(i, j)| j > 0 || i > 0)
        .collect();
    lattice.sort_by_key(|&(i, j)| (i * i + j * j, i, j));
    let (unit, l) = (TAU / config.period, config.length);
    let mut out = Vec::new();
    for &(i, j) in lattice.iter().take(config.waves) {
        let k = (f64::from(i) * unit, f64::from(j) * unit);
        let square = k.0 * k.0 + k.1 * k.1;
        let spectrum =
            config.variance * l * l / TAU * (1.0 + l * l * square).powf(-1.5) * unit * unit;
        let amplitude = (2.0 * spectrum).sqrt();
        for quarter in [0.0, TAU / 4.0] {
            let at = |(x, y): &(f64, f64)| amplitude * (x * k.0 + y * k.1 - quarter).cos();
            out.push(plane.iter().map(at).collect());
        }
    }
    out
}

/// Members' anomalies `[cells][N]` with mean zero and covariance $Z Z^\top$ over N − 1.
fn spread_over(patterns: &[Vec<f64>], cells: usize) -> Vec<f64> {
    let m = patterns.len();
    // rows of Helmert's matrix: orthonormal, each with sum zero
    let helmert = |row: usize, member: usize| {
        let j = (row + 1) as f64;
        let norm = (j * (j + 1.0)).sqrt();
        match member.cmp(&(row + 1)) {
            std::cmp::Ordering::Less => 1.0 / norm,
            std::cmp::Ordering::Equal => -j / norm,
            std::cmp::Ordering::Greater => 0.0,
        }
    };
    let scale = (m as f64).sqrt();
    let mut out = Vec::with_capacity(cells * (m + 1));
    for cell in 0..cells {
        for member in 0..=m {
            let sum: f64 = patterns
                .iter()
                .enumerate()
                .map(|(k, z)| z[cell] * helmert(k, member))
                .sum();
            out.push(scale * sum);
        }
    }
    out
}

fn not_finite(size: usize) -> OperatorError {
    OperatorError::Factorization {
        place: "Prior",
        size,
        mend: "check that the prior's temperatures are finite",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The members have mean zero and exactly the covariance of the patterns.
    #[test]
    fn sampling_is_second_order_exact() {
        let patterns = vec![vec![1.0, 2.0, -1.0], vec![0.5, 0.0, 3.0]];
        let anomalies = spread_over(&patterns, 3);
        let n = 3;
        for a in 0..3 {
            let row = &anomalies[a * n..(a + 1) * n];
            assert!(row.iter().sum::<f64>().abs() < 1e-13);
            for b in 0..3 {
                let other = &anomalies[b * n..(b + 1) * n];
                let got: f64 =
                    row.iter().zip(other).map(|(x, y)| x * y).sum::<f64>() / (n - 1) as f64;
                let want: f64 = patterns.iter().map(|z| z[a] * z[b]).sum();
                assert!((got - want).abs() < 1e-13, "{a} {b}: {got} {want}");
            }
        }
    }

    /// A field that is a daily course is explained by it, and leaves nothing for the patterns.
    #[test]
    fn daily_course_is_found() {
        let times: Vec<i64> = (0..9).map(|i| i * 7 * HOUR).collect();
        let mut fields: Vec<Vec<f64>> = times
            .iter()
            .map(|t| {
                let turn = TAU * (t / HOUR) as f64 / 24.0;
                vec![280.0 + 4.0 * turn.cos() - 2.0 * turn.sin(), 260.0]
            })
            .collect();
        let course = fit(&mut fields, &times, 0).unwrap();
        assert!((course[0][0] - 280.0).abs() < 1e-9 && (course[1][0] - 4.0).abs() < 1e-9);
        assert!(fields.iter().flatten().all(|x| x.abs() < 1e-9));
    }
}
