//! Sums over rows that each count as much as is said: what the losses of a vocabulary have in common.
//!
//! $$ J = \sum_i c_i (m_i + \ln \ell_i - h_i), \qquad
//!    (\mu, a)_i = (-m_i,\ \bar J\, c_i / \ell_i), \quad \bar h_i = -\bar J\, c_i . $$

use advect_engine::Shard;

use crate::network::real::Real;

/// J of `rows` `[…, 2]` and `hits` `[…]`; rows without a `count` are left out.
pub(super) fn sum<T: Real>(
    [rows, hits]: [&Shard; 2],
    counts: impl Iterator<Item = Option<T>>,
) -> T {
    let mut loss = T::of(0.0);
    let rows = rows.elements::<T>().chunks_exact(2);
    for ((row, count), &hit) in rows.zip(counts).zip(hits.elements::<T>()) {
        if let Some(count) = count {
            loss += count * (row[0] + row[1].logarithm() - hit);
        }
    }
    loss
}

/// The change of J with tangents of rows, scaled rows themselves, and of hits.
pub(super) fn tangent<T: Real>(
    rows: &Shard,
    [to_rows, to_hits]: [&Shard; 2],
    counts: impl Iterator<Item = Option<T>>,
) -> T {
    let mut sum = T::of(0.0);
    let changes = to_rows.elements::<T>().chunks_exact(2);
    let changes = changes.zip(to_hits.elements::<T>());
    let rows = rows.elements::<T>().chunks_exact(2);
    for ((row, count), (d, &hit)) in rows.zip(counts).zip(changes) {
        if let Some(count) = count {
            let level = match d[0] == T::LOWEST {
                true => T::of(0.0),
                false => (d[0] - row[0]).exponential(),
            };
            sum += count * (level * d[1] / row[1] - hit);
        }
    }
    sum
}

/// Cotangents of rows and hits, 0 where there is no count.
pub(super) fn adjoint<T: Real>(
    rows: &Shard,
    seed: T,
    counts: impl Iterator<Item = Option<T>>,
) -> [Vec<T>; 2] {
    let (mut to_rows, mut to_hits) = (Vec::new(), Vec::new());
    let rows = rows.elements::<T>().chunks_exact(2);
    for (row, count) in rows.zip(counts) {
        let [row_change, hit_change] = match count.map(|count| seed * count) {
            Some(seed) => [seed / row[1], -seed],
            None => [T::of(0.0); 2],
        };
        to_rows.extend([-row[0], row_change]);
        to_hits.push(hit_change);
    }
    [to_rows, to_hits]
}
