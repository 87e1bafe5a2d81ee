//! Random rotation of ensemble anomalies that keeps their mean and covariance.
//!
//! $Q = H\,\mathrm{diag}(1, U)\,H$ with $U$ uniform on the orthogonal group of $N-1$ dimensions
//! (Mezzadri 2007) and $H$ the reflection that takes $e_1$ to $1/\sqrt N$; then $Q 1 = 1$ and
//! $Q^\top Q = I$. Rotation restores the Gaussian shape of an ensemble that deterministic updates
//! have drained into a few members (Sakov and Oke 2008, section 5).

use faer::Mat;
use rand_distr::{Distribution, StandardNormal};

use super::{Ensemble, Stream};

/// A random mean-preserving orthogonal matrix, `[members * members]` row-major.
pub fn rotation(members: usize, stream: &mut Stream) -> Vec<f64> {
    let n = members;
    let mut q = vec![0.0; n * n];
    if n > 0 {
        q[0] = 1.0;
    }
    if n > 1 {
        let normal = Mat::<f64>::from_fn(n - 1, n - 1, |_, _| StandardNormal.sample(stream));
        let factors = normal.qr();
        let (u, r) = (factors.compute_Q(), factors.R());
        for i in 1..n {
            for j in 1..n {
                // Signs from R make the distribution uniform and the factor unique.
                q[i * n + j] = u[(i - 1, j - 1)] * r[(j - 1, j - 1)].signum();
            }
        }
        reflect(n, &mut q);
    }
    q
}

/// Replaces `q` by $H q H$.
fn reflect(n: usize, q: &mut [f64]) {
    // H = I - 2 v vᵀ / |v|² with v = e_1 - 1/√N.
    let entry = 1.0 / (n as f64).sqrt();
    let mut v = vec![-entry; n];
    v[0] += 1.0;
    let scale = 2.0 / v.iter().map(|x| x * x).sum::<f64>();
    for j in 0..n {
        let along = scale * (0..n).map(|i| v[i] * q[i * n + j]).sum::<f64>();
        (0..n).for_each(|i| q[i * n + j] -= along * v[i]);
    }
    for row in q.chunks_exact_mut(n) {
        let along = scale * row.iter().zip(&v).map(|(a, b)| a * b).sum::<f64>();
        row.iter_mut().zip(&v).for_each(|(a, b)| *a -= along * b);
    }
}

/// Rotates the anomalies of `ensemble` by [`rotation`], around its mean.
pub fn rotate(ensemble: &mut Ensemble, stream: &mut Stream) {
    let (n, d) = (ensemble.members(), ensemble.dimension());
    let q = rotation(n, stream);
    let mean = ensemble.mean();
    let anomalies: Vec<f64> = ensemble
        .rows()
        .flat_map(|row| row.iter().zip(&mean).map(|(x, m)| x - m))
        .collect();
    for (row, weights) in ensemble.rows_mut().zip(q.chunks_exact(n)) {
        row.copy_from_slice(&mean);
        for (member, weight) in anomalies.chunks_exact(d).zip(weights) {
            row.iter_mut()
                .zip(member)
                .for_each(|(x, a)| *x += weight * a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assimilation::{Purpose, stream};

    /// $Q^\top Q = I$ and $Q 1 = 1$, for every size down to one member.
    #[test]
    fn is_orthogonal_and_keeps_the_mean() {
        let mut rng = stream(5, Purpose::Analysis, 1);
        for n in [1, 2, 3, 7, 24] {
            let q = rotation(n, &mut rng);
            for i in 0..n {
                let row: f64 = q[i * n..(i + 1) * n].iter().sum();
                assert!((row - 1.0).abs() < 1e-13);
                for j in 0..n {
                    let product: f64 = (0..n).map(|k| q[k * n + i] * q[k * n + j]).sum();
                    assert!((product - if i == j { 1.0 } else { 0.0 }).abs() < 1e-13);
                }
            }
        }
    }

    /// The ensemble moves, its mean and variance do not.
    #[test]
    fn keeps_the_first_two_moments() {
        let mut rng = stream(5, Purpose::Analysis, 2);
        let before = Ensemble::sample(6, &[1.0, 2.0, 3.0], 1.0, &mut rng).unwrap();
        let mut after = before.clone();
        rotate(&mut after, &mut rng);
        let close = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-13);
        assert!(close(before.mean(), after.mean()));
        assert!(close(before.variance(), after.variance()));
        assert!(!close(before.values().to_vec(), after.values().to_vec()));
    }
}
