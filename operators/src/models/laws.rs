//! The laws that every model keeps, written once.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::Model;

/// `n` standard normal numbers.
pub(crate) fn normals(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
    (0..n).map(|_| StandardNormal.sample(rng)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Checks the adjoint identity, the tangent against differences, and the independence of rows.
///
/// `state` should lie on the attractor.
pub(crate) fn check(model: &dyn Model, state: &[f64]) {
    let d = model.dimension();
    let mut rng = ChaCha8Rng::seed_from_u64(7);

    for _ in 0..5 {
        let (dx, lambda) = (normals(&mut rng, d), normals(&mut rng, d));
        let (mut forward, mut backward) = (dx.clone(), lambda.clone());
        model.tangent(state, &mut forward);
        model.adjoint(state, &mut backward);
        let (left, right) = (dot(&forward, &lambda), dot(&dx, &backward));
        let scale = norm(&forward) * norm(&lambda);
        assert!(
            (left - right).abs() <= 1e-12 * scale,
            "<Mdx, l> = {left}, <dx, M*l> = {right}"
        );

        // The centred difference converges with the square of its step until rounding.
        let difference = |epsilon: f64| {
            let shifted = |sign: f64| {
                let mut x: Vec<f64> = state
                    .iter()
                    .zip(&dx)
                    .map(|(x, v)| x + sign * epsilon * v)
                    .collect();
                model.advance(&mut x, 1);
                x
            };
            let (plus, minus) = (shifted(1.0), shifted(-1.0));
            let error: Vec<f64> = (0..d)
                .map(|i| (plus[i] - minus[i]) / (2.0 * epsilon) - forward[i])
                .collect();
            norm(&error) / norm(&forward)
        };
        let (coarse, fine) = (difference(1e-2), difference(1e-3));
        assert!(fine < 1e-6, "tangent differs from the difference by {fine}");
        assert!(
            coarse < 1e-9 || fine < 0.05 * coarse,
            "no second order: {coarse} then {fine}"
        );
    }

    let mut alone = state.to_vec();
    model.advance(&mut alone, 3);
    let mut together = [normals(&mut rng, d), state.to_vec(), normals(&mut rng, d)].concat();
    model.advance(&mut together, 3);
    assert_eq!(
        alone,
        together[d..2 * d],
        "a row must not depend on the other rows"
    );
}
