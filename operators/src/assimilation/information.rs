//! The information of observations in ensemble space, and the weights that follow from it.
//!
//! Around one cell, with predicted anomalies $Y$ (`[m][N]`), departures $d$ and tapered error
//! variances $r_k / \rho_k$,
//!
//! $$A = Y^\top R^{-1} Y, \qquad b = Y^\top R^{-1} d .$$
//!
//! Both are sums over observations: they may be summed on different workers, merged in any order
//! and, in exact arithmetic, retracted. [`weights`] then gives
//!
//! $$\tilde P = \Big[\tfrac{N-1}{\rho} I + A\Big]^{-1},\qquad \bar w = \tilde P b,\qquad
//! W = \lambda\,[(N-1)\tilde P]^{1/2},$$
//!
//! equations (20)–(24) of Hunt, Kostelich and Szunyogh (2007), with the symmetric square root.

use faer::{MatRef, Side};

use super::Inflation;
use crate::OperatorError;

/// The sums $A$ and $b$ of one cell for an ensemble of $N$ members.
///
/// They stand in one vector of [`Information::len`] numbers: the upper triangle of $A$ row by row,
/// then $b$.
#[derive(Debug, Clone, PartialEq)]
pub struct Information {
    members: usize,
    sums: Vec<f64>,
}

impl Information {
    /// The length of the sums of `members` members: $N(N+1)/2 + N$.
    pub const fn len(members: usize) -> usize {
        members * (members + 1) / 2 + members
    }

    /// No observation: all sums zero.
    pub fn none(members: usize) -> Self {
        Self {
            members,
            sums: vec![0.0; Self::len(members)],
        }
    }

    /// Takes sums made elsewhere, for instance rounded from exact fixed point.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Shape`] if `sums` does not have [`Information::len`] numbers.
    pub fn try_from_sums(members: usize, sums: Vec<f64>) -> Result<Self, OperatorError> {
        let expected = Self::len(members);
        let mend = "give the upper triangle of A row by row, then b";
        OperatorError::check_length("Information", "sums", sums.len(), expected, mend)?;
        Ok(Self { members, sums })
    }

    /// The number of members, `N`.
    pub fn members(&self) -> usize {
        self.members
    }

    /// The sums: the upper triangle of $A$ row by row, then $b$.
    pub fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// Adds every `(index, term)` of one observation to sums of any number type.
    ///
    /// `anomalies` is its row of $Y$ (`[N]`), `departure` its $y - \overline{H(E)}$ and `weight`
    /// its taper over its error variance, $\rho_k / r_k$. A fixed-point accumulator calls this and
    /// rounds each term before adding; [`Information::add`] calls it and adds as it is.
    pub fn contribute(
        anomalies: &[f64],
        departure: f64,
        weight: f64,
        mut add: impl FnMut(usize, f64),
    ) {
        let mut index = 0;
        for (i, y) in anomalies.iter().enumerate() {
            let scaled = weight * y;
            for other in &anomalies[i..] {
                add(index, scaled * other);
                index += 1;
            }
        }
        for y in anomalies {
            add(index, weight * departure * y);
            index += 1;
        }
    }

    /// Adds one observation; arguments as in [`Information::contribute`].
    pub fn add(&mut self, anomalies: &[f64], departure: f64, weight: f64) {
        let mut rest = self.sums.as_mut_slice();
        for (i, y) in anomalies.iter().enumerate() {
            let scaled = weight * y;
            let (row, below) = rest.split_at_mut(anomalies.len() - i);
            row.iter_mut()
                .zip(&anomalies[i..])
                .for_each(|(sum, other)| *sum += scaled * other);
            rest = below;
        }
        let scaled = weight * departure;
        rest.iter_mut()
            .zip(anomalies)
            .for_each(|(sum, y)| *sum += scaled * y);
    }

    /// Adds the sums of `other`, in floating point.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Shape`] if the two count different members.
    pub fn merge(&mut self, other: &Self) -> Result<(), OperatorError> {
        let mend = "merge sums of one ensemble only";
        let (got, expected) = (other.members, self.members);
        OperatorError::check_length("Information::merge", "members", got, expected, mend)?;
        self.sums
            .iter_mut()
            .zip(&other.sums)
            .for_each(|(a, b)| *a += b);
        Ok(())
    }

    /// Forgets all observations.
    pub(crate) fn clear(&mut self) {
        self.sums.fill(0.0);
    }

    /// $b$, `[N]`.
    pub(crate) fn vector(&self) -> &[f64] {
        &self.sums[self.sums.len() - self.members..]
    }

    /// $A + \text{diagonal}\, I$ as a full `[N * N]` matrix.
    pub(crate) fn matrix(&self, diagonal: f64) -> Vec<f64> {
        let n = self.members;
        let (mut full, mut index) = (vec![0.0; n * n], 0);
        for i in 0..n {
            for j in i..n {
                full[i * n + j] = self.sums[index];
                full[j * n + i] = self.sums[index];
                index += 1;
            }
            full[i * n + i] += diagonal;
        }
        full
    }
}

/// The weights of an analysis in the space of the ensemble.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    members: usize,
    transform: Vec<f64>,
    mean: Vec<f64>,
}

impl Weights {
    /// The symmetric transform $W$ of the anomalies, `[N * N]`.
    pub fn transform(&self) -> &[f64] {
        &self.transform
    }

    /// The weights $\bar w$ of the mean, `[N]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The analysis of one cell: `mean` and the forecast `anomalies` (`[N]`) give the analysed
    /// mean, and the analysed anomalies are written into `out` (`[N]`).
    pub fn apply(&self, mean: f64, anomalies: &[f64], out: &mut [f64]) -> f64 {
        let dot = |row: &[f64]| row.iter().zip(anomalies).map(|(w, a)| w * a).sum::<f64>();
        for (out, row) in out
            .iter_mut()
            .zip(self.transform.chunks_exact(self.members))
        {
            *out = dot(row);
        }
        mean + dot(&self.mean)
    }
}

/// The analysis weights $(W, \bar w)$ of the `information` at a cell.
///
/// `inflation.background` is $\rho$ and `inflation.anomalies` is $\lambda$ of the module's
/// formulas; relaxation to the prior spread needs the state and is applied after
/// [`Weights::apply`].
///
/// # Errors
///
/// [`OperatorError::Factorization`] if a sum is not finite.
pub fn weights(information: &Information, inflation: &Inflation) -> Result<Weights, OperatorError> {
    let n = information.members;
    let spread = (n - 1) as f64;
    let failed = || OperatorError::Factorization {
        place: "weights",
        size: n,
        mend: "check that observations and predicted observations are finite",
    };
    if !information.sums.iter().all(|x| x.is_finite()) {
        return Err(failed());
    }
    let full = information.matrix(spread / inflation.background);
    let eigen = MatRef::from_row_major_slice(&full, n, n)
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| failed())?;
    let (vectors, values) = (eigen.U(), eigen.S());
    // Rows of V, and of V scaled by the eigenvalues of W: contiguous for the products below.
    let (mut plain, mut scaled) = (Vec::with_capacity(n * n), Vec::with_capacity(n * n));
    let roots: Vec<f64> = (0..n)
        .map(|k| inflation.anomalies * (spread / values[k]).sqrt())
        .collect();
    for i in 0..n {
        for (k, root) in roots.iter().enumerate() {
            plain.push(vectors[(i, k)]);
            scaled.push(vectors[(i, k)] * root);
        }
    }
    let mut transform = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            let (left, right) = (&scaled[i * n..(i + 1) * n], &plain[j * n..(j + 1) * n]);
            let entry = left.iter().zip(right).map(|(a, b)| a * b).sum();
            transform[i * n + j] = entry;
            transform[j * n + i] = entry;
        }
    }
    let mut mean = vec![0.0; n];
    let b = information.vector();
    for k in 0..n {
        let along: f64 = (0..n).map(|i| plain[i * n + k] * b[i]).sum();
        for i in 0..n {
            mean[i] += plain[i * n + k] * along / values[k];
        }
    }
    Ok(Weights {
        members: n,
        transform,
        mean,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assimilation::{Purpose, stream};
    use crate::models::laws::normals;

    const N: usize = 6;

    fn observations() -> Vec<(Vec<f64>, f64, f64)> {
        let mut rng = stream(11, Purpose::Observations, 0);
        (0..40)
            .map(|k| {
                let mut y = normals(&mut rng, N);
                let mean = y.iter().sum::<f64>() / N as f64;
                y.iter_mut().for_each(|v| *v -= mean);
                (y, normals(&mut rng, 1)[0], 0.2 + k as f64 / 40.0)
            })
            .collect()
    }

    /// With exact sums the weights do not depend on the order of arrival, and a retracted
    /// observation leaves no trace, bit for bit.
    #[test]
    fn exact_sums_are_order_free_and_retractable() {
        let all = observations();
        let exact = |steps: &[(usize, i128)]| {
            let mut sums = vec![0_i128; Information::len(N)];
            for (which, sign) in steps {
                let (y, d, w) = &all[*which];
                Information::contribute(y, *d, *w, |index, term| {
                    sums[index] += sign * (term * 2f64.powi(60)).round() as i128;
                });
            }
            let sums = sums.iter().map(|s| *s as f64 * 2f64.powi(-60)).collect();
            let information = Information::try_from_sums(N, sums).unwrap();
            weights(&information, &Inflation::default()).unwrap()
        };
        let forward: Vec<(usize, i128)> = (0..39).map(|k| (k, 1)).collect();
        let backward: Vec<(usize, i128)> = forward.iter().rev().copied().collect();
        let mut retracted = vec![(39, 1)];
        retracted.extend(&backward);
        retracted.push((39, -1));
        assert_eq!(exact(&forward), exact(&backward));
        assert_eq!(exact(&forward), exact(&retracted));
    }

    /// `add` and `contribute` make the same sums, and merging halves gives the whole.
    #[test]
    fn sums_add_up() {
        let all = observations();
        let sum = |part: &[(Vec<f64>, f64, f64)]| {
            let mut information = Information::none(N);
            part.iter().for_each(|(y, d, w)| information.add(y, *d, *w));
            information
        };
        let whole = sum(&all);
        let mut halves = sum(&all[..17]);
        halves.merge(&sum(&all[17..])).unwrap();
        let mut contributed = vec![0.0; Information::len(N)];
        for (y, d, w) in &all {
            Information::contribute(y, *d, *w, |index, term| contributed[index] += term);
        }
        for ((a, b), c) in whole.sums().iter().zip(halves.sums()).zip(&contributed) {
            assert!((a - b).abs() < 1e-12 && (a - c).abs() < 1e-12);
        }
        assert!(halves.merge(&Information::none(N + 1)).is_err());
    }

    /// The weights solve their defining equations: $W^2 [I(N-1)/\rho + A] = (N-1) I$ and
    /// $[I(N-1)/\rho + A]\, \bar w = b$; and $W$ keeps the mean, $W 1 = 1$, for $\rho = 1$.
    #[test]
    fn weights_solve_their_equations() {
        let mut information = Information::none(N);
        observations()
            .iter()
            .for_each(|(y, d, w)| information.add(y, *d, *w));
        for rho in [1.0, 1.3] {
            let inflation = Inflation {
                background: rho,
                ..Inflation::default()
            };
            let found = weights(&information, &inflation).unwrap();
            let full = information.matrix((N - 1) as f64 / rho);
            let product = |a: &[f64], b: &[f64]| -> Vec<f64> {
                (0..N * N)
                    .map(|ij| (0..N).map(|k| a[ij / N * N + k] * b[k * N + ij % N]).sum())
                    .collect()
            };
            let square = product(found.transform(), found.transform());
            for (ij, value) in product(&square, &full).iter().enumerate() {
                let expected = if ij / N == ij % N {
                    (N - 1) as f64
                } else {
                    0.0
                };
                assert!(
                    (value - expected).abs() < 1e-11,
                    "{value} against {expected}"
                );
            }
            for i in 0..N {
                let left: f64 = (0..N).map(|k| full[i * N + k] * found.mean()[k]).sum();
                assert!((left - information.vector()[i]).abs() < 1e-11);
                let row: f64 = found.transform()[i * N..(i + 1) * N].iter().sum();
                assert!((row - rho.sqrt()).abs() < 1e-12, "row sum {row}");
            }
        }
    }

    /// Without observations the analysis is the forecast.
    #[test]
    fn no_observation_changes_nothing() {
        let found = weights(&Information::none(N), &Inflation::default()).unwrap();
        let (anomalies, mut out) = ([0.5, -1.0, 0.25, 0.25, 1.0, -1.0], [0.0; N]);
        let mean = found.apply(3.0, &anomalies, &mut out);
        assert!((mean - 3.0).abs() < 1e-14);
        assert!(
            out.iter()
                .zip(&anomalies)
                .all(|(a, b)| (a - b).abs() < 1e-14)
        );
    }

    /// A sum that is not finite is an error, not a panic.
    #[test]
    fn refuses_what_is_not_finite() {
        let mut information = Information::none(N);
        information.add(&[f64::NAN; N], 1.0, 1.0);
        assert!(weights(&information, &Inflation::default()).is_err());
    }
}
