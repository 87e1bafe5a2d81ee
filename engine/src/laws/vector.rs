//! Tensors as vectors: random ones, differences, inner products, with scaled rows understood.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::graph::{Rows, Spec};
use crate::laws::case::Input;
use crate::layout::Placement;
use crate::mesh::Mesh;
use crate::partial::Monoid;
use crate::shard::{DType, Data, Shard};

/// Numbers of an input, from a seed.
pub(crate) fn draw(input: &Input, seed: u64) -> Data {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let n = input.shape.iter().product();
    let (low, wide) = (input.range.start, input.range.end - input.range.start);
    let numbers = (0..n).map(|_| low + wide * random.random::<f64>());
    match input.dtype {
        DType::I64 => numbers.map(|x| x.floor() as i64).collect::<Vec<_>>().into(),
        _ => numbers.collect::<Vec<_>>().into(),
    }
}

/// A direction for a tensor: evenly drawn from −1 to 1, integers zero.
pub(crate) fn direction(spec: &Spec, seed: u64) -> Data {
    let (shape, rows) = (spec.shape.clone(), spec.rows);
    match spec.dtype {
        DType::F64 => draw(
            &Input {
                shape,
                dtype: DType::F64,
                rows,
                range: -1.0..1.0,
            },
            seed,
        ),
        other => Data::zeros(other, shape.iter().product()),
    }
}

fn reals(data: &Data) -> &[f64] {
    data.get::<f64>().unwrap_or(&[])
}

/// Length of a scaled row.
fn row(spec: &Spec) -> usize {
    spec.shape.last().copied().unwrap_or(1).max(1)
}

/// ⟨a, b⟩ of a piece and a piece of its cotangent; scaled rows pair as exp(m + μ) ⟨v, u⟩.
pub(crate) fn pair(spec: &Spec, a: &Data, b: &Data) -> f64 {
    let (a, b) = (reals(a), reals(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    match spec.rows {
        Rows::Plain => dot(a, b),
        Rows::Scaled => {
            let rows = a.chunks_exact(row(spec)).zip(b.chunks_exact(row(spec)));
            rows.filter(|(a, b)| a[0].is_finite() && b[0].is_finite())
                .map(|(a, b)| (a[0] + b[0]).exp() * dot(&a[1..], &b[1..]))
                .sum()
        }
    }
}

/// A tensor as a vector: scaled rows are brought to the levels `m` of `base`.
pub(crate) fn vector(spec: &Spec, data: &Data, base: &Data) -> Vec<f64> {
    match spec.rows {
        Rows::Plain => reals(data).to_vec(),
        Rows::Scaled => {
            let rows = reals(data)
                .chunks_exact(row(spec))
                .zip(reals(base).chunks_exact(row(spec)));
            rows.flat_map(|(a, b)| {
                let scale = if a[0].is_finite() {
                    (a[0] - b[0]).exp()
                } else {
                    0.0
                };
                a[1..]
                    .iter()
                    .map(move |x| if scale == 0.0 { 0.0 } else { x * scale })
            })
            .collect()
        }
    }
}

/// x + h dx; scaled rows keep the level of x.
pub(crate) fn shifted(spec: &Spec, x: &Data, dx: &Data, h: f64) -> Data {
    if spec.dtype != DType::F64 {
        return x.clone();
    }
    let (a, b) = (reals(x), reals(dx));
    let moved: Vec<f64> = match spec.rows {
        Rows::Plain => a.iter().zip(b).map(|(x, d)| x + h * d).collect(),
        Rows::Scaled => {
            let rows = a.chunks_exact(row(spec)).zip(b.chunks_exact(row(spec)));
            rows.flat_map(|(a, b)| {
                let scale = h * (b[0] - a[0]).exp();
                let rest = a[1..].iter().zip(&b[1..]).map(move |(x, d)| x + scale * d);
                std::iter::once(a[0]).chain(rest)
            })
            .collect()
        }
    };
    moved.into()
}

/// The distance of two vectors relative to the larger, and 0 for two zeros.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let apart = norm(&mut a.iter().zip(b).map(|(x, y)| x - y));
    let size = norm(&mut a.iter().copied()).max(norm(&mut b.iter().copied()));
    if a.len() != b.len() || apart.is_nan() {
        f64::INFINITY
    } else if size == 0.0 {
        0.0
    } else {
        apart / size
    }
}

/// Pieces of a whole tensor; sums are spread unevenly over the workers that add to them, so that
/// an operator which reads a contribution as the value is found out.
pub(crate) fn cut(spec: &Spec, mesh: &Mesh, key: u64, whole: &Data) -> Result<Vec<Shard>> {
    let mut pieces = spec.cut(mesh, key, whole)?;
    if spec.dtype != DType::F64 {
        return Ok(pieces);
    }
    for (worker, piece) in pieces.iter_mut().enumerate() {
        let at = mesh.coordinates(worker);
        let indices = spec.layout.indices(mesh, &spec.shape, worker);
        let mut numbers = piece.elements::<f64>().to_vec();
        for (axis, placement) in spec.layout.axes.iter().enumerate() {
            if *placement != Placement::Partial(Monoid::Sum) {
                continue;
            }
            let next = (at[axis] + 1) % mesh.sizes()[axis];
            for (local, number) in numbers.iter_mut().enumerate() {
                let global = globally(&indices, &spec.shape, local);
                *number += noise(axis, at[axis], global) - noise(axis, next, global);
            }
        }
        *piece = Shard::new(key, piece.shape.clone(), numbers.into());
    }
    Ok(pieces)
}

/// Row-major global position of a local element.
fn globally(indices: &[Vec<usize>], shape: &[usize], mut local: usize) -> usize {
    let (mut global, mut stride) = (0, 1);
    for (indices, &n) in indices.iter().zip(shape).rev() {
        global += indices[local % indices.len()] * stride;
        local /= indices.len();
        stride *= n;
    }
    global
}

/// A number between −1 and 1 for a place.
fn noise(axis: usize, coordinate: usize, global: usize) -> f64 {
    let mut z = ((axis as u64) << 56 ^ (coordinate as u64) << 40 ^ global as u64)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
