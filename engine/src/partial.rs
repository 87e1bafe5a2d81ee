//! Partials: elements of commutative monoids, merged while they flow.
//!
//! Everything that crosses workers is one of these. Merging is done in a fixed order (by worker),
//! so that the arrival order does not change a bit even where floating-point addition is not
//! associative.

use half::bf16;

use crate::shard::{Canonical, DType, Data, Element};

/// How the copies of a tensor on one mesh axis combine to its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Monoid {
    /// Addition: gradients, activations of a row-split matrix, and exact fixed-point sums
    /// (`i64`, `i128`, where it is also associative to the bit and can be retracted).
    Sum,
    /// Element-wise maximum.
    Max,
    /// Attention partials: each row of the last dimension is `(m, ℓ, o…)` with running maximum m,
    /// normaliser ℓ = Σ exp(s − m) and unnormalised output o = Σ exp(s − m) v
    /// (online softmax, Milakov and Gimelshein 2018).
    LogSumExp,
}

impl Monoid {
    /// The neutral element: merging it changes nothing.
    pub fn identity(self, dtype: DType, shape: &[usize]) -> Data {
        let len = shape.iter().product();
        let mut data = Data::zeros(dtype, len);
        let row = match self {
            Monoid::Sum => return data,
            Monoid::Max => 1,
            Monoid::LogSumExp => shape.last().copied().unwrap_or(1).max(1),
        };
        match &mut data {
            Data::F32(_) => fill(data.get_mut::<f32>(), row, f32::NEG_INFINITY),
            Data::F64(_) => fill(data.get_mut::<f64>(), row, f64::NEG_INFINITY),
            Data::BF16(_) => fill(data.get_mut::<bf16>(), row, bf16::NEG_INFINITY),
            Data::I64(_) => fill(data.get_mut::<i64>(), row, i64::MIN),
            Data::Canonical(_) => fill(data.get_mut(), row, Canonical(f64::NEG_INFINITY)),
            Data::I128(_) => fill(data.get_mut::<i128>(), row, i128::MIN),
        }
        data
    }

    /// Whether tensors of this type and shape can be partials of this monoid.
    pub fn accepts(self, dtype: DType, shape: &[usize]) -> Result<(), String> {
        match self {
            Monoid::Sum | Monoid::Max => Ok(()),
            Monoid::LogSumExp if dtype == DType::Canonical => Err(
                "(m, l, o) partials are scaled by what each worker saw, so that canonical sums would know of \
                 the mesh; gather the keys or finish the logits first"
                    .to_owned(),
            ),
            Monoid::LogSumExp if !matches!(dtype, DType::F32 | DType::F64) => {
                Err(format!("(m, l, o) partials are f32 or f64, not {dtype:?}"))
            }
            Monoid::LogSumExp if shape.last().copied().unwrap_or(0) < 2 => Err(format!(
                "rows (m, l, o...) need at least 2 numbers, the shape is {shape:?}"
            )),
            Monoid::LogSumExp => Ok(()),
        }
    }

    /// Merges `run.len` elements of `b` into `a`; rows of (m, ℓ, o) hold `row` numbers and are
    /// never cut. Types match: relayouts guarantee it.
    pub(crate) fn merge(self, a: &mut Data, b: &Data, run: Run, row: usize) {
        match (a.dtype(), self) {
            (DType::F32, _) => self.merge_float::<f32>(a, b, run, row),
            (DType::F64, _) => self.merge_float::<f64>(a, b, run, row),
            // sums of sums on the grid are exact, and merging rows is that of f64
            (DType::Canonical, _) => self.merge_float::<Canonical>(a, b, run, row),
            (DType::BF16, Monoid::Max) => zip(a, b, run, |x: &mut bf16, y| *x = x.max(y)),
            (DType::BF16, _) => zip(a, b, run, |x: &mut bf16, y| {
                *x = bf16::from_f32(x.to_f32() + y.to_f32());
            }),
            (DType::I64, Monoid::Max) => zip(a, b, run, |x: &mut i64, y| *x = (*x).max(y)),
            (DType::I64, _) => zip(a, b, run, |x: &mut i64, y| *x = x.wrapping_add(y)),
            (DType::I128, Monoid::Max) => zip(a, b, run, |x: &mut i128, y| *x = (*x).max(y)),
            (DType::I128, _) => zip(a, b, run, |x: &mut i128, y| *x = x.wrapping_add(y)),
        }
    }

    fn merge_float<F: Float>(self, a: &mut Data, b: &Data, run: Run, row: usize) {
        match self {
            Monoid::Sum => zip(a, b, run, |x: &mut F, y| *x = x.plus(y)),
            Monoid::Max => zip(a, b, run, |x: &mut F, y| *x = x.maximum(y)),
            Monoid::LogSumExp => {
                if let Some((a, b)) = run.of::<F>(a, b) {
                    for (x, y) in a.chunks_exact_mut(row).zip(b.chunks_exact(row)) {
                        merge_row(x, y);
                    }
                }
            }
        }
    }
}

/// A run of elements that two tensors share: where it starts in each, and its length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) len: usize,
}

impl Run {
    fn of<'a, 'b, E: Element>(
        self,
        a: &'a mut Data,
        b: &'b Data,
    ) -> Option<(&'a mut [E], &'b [E])> {
        let a = a.get_mut::<E>()?.get_mut(self.a..self.a + self.len)?;
        Some((a, b.get::<E>()?.get(self.b..self.b + self.len)?))
    }
}

fn fill<E: Copy>(v: Option<&mut Vec<E>>, row: usize, value: E) {
    for head in v.into_iter().flatten().step_by(row) {
        *head = value;
    }
}

fn zip<E: Element>(a: &mut Data, b: &Data, run: Run, f: impl Fn(&mut E, E)) {
    if let Some((a, b)) = run.of::<E>(a, b) {
        for (x, &y) in a.iter_mut().zip(b) {
            f(x, y);
        }
    }
}

/// (m, ℓ, o) ⊕ (m', ℓ', o'): both are rescaled to the larger maximum and added. A row that has seen
/// nothing (m = −∞) leaves the other as it is.
fn merge_row<F: Float>(x: &mut [F], y: &[F]) {
    if y[0].is_neg_infinity() {
        return;
    }
    if x[0].is_neg_infinity() {
        x.copy_from_slice(y);
        return;
    }
    let m = x[0].maximum(y[0]);
    let (a, b) = (x[0].minus(m).exponential(), y[0].minus(m).exponential());
    x[0] = m;
    for (p, &q) in x[1..].iter_mut().zip(&y[1..]) {
        *p = p.times(a).plus(q.times(b));
    }
}

/// The arithmetic that merging needs of a floating-point type.
trait Float: Element {
    fn plus(self, o: Self) -> Self;
    fn minus(self, o: Self) -> Self;
    fn times(self, o: Self) -> Self;
    fn maximum(self, o: Self) -> Self;
    fn exponential(self) -> Self;
    fn is_neg_infinity(self) -> bool;
}

macro_rules! float {
    ($t:ty) => {
        impl Float for $t {
            fn plus(self, o: Self) -> Self {
                self + o
            }
            fn minus(self, o: Self) -> Self {
                self - o
            }
            fn times(self, o: Self) -> Self {
                self * o
            }
            fn maximum(self, o: Self) -> Self {
                self.max(o)
            }
            fn exponential(self) -> Self {
                self.exp()
            }
            fn is_neg_infinity(self) -> bool {
                self == <$t>::NEG_INFINITY
            }
        }
    };
}
float!(f32);
float!(f64);

impl Float for Canonical {
    fn plus(self, o: Self) -> Self {
        self.merged(o)
    }
    fn minus(self, o: Self) -> Self {
        self - o
    }
    fn times(self, o: Self) -> Self {
        self * o
    }
    fn maximum(self, o: Self) -> Self {
        Canonical(self.0.max(o.0))
    }
    fn exponential(self) -> Self {
        Canonical(self.0.exp())
    }
    fn is_neg_infinity(self) -> bool {
        self.0 == f64::NEG_INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The neutral element changes nothing, on either side, for every monoid.
    #[test]
    fn identity_is_neutral() {
        let x: Data = vec![0.5f64, 2.0, -3.0, -1.0, 1.0, 4.0].into();
        for monoid in [Monoid::Sum, Monoid::Max, Monoid::LogSumExp] {
            let mut left = monoid.identity(DType::F64, &[2, 3]);
            monoid.merge(&mut left, &x, Run { a: 0, b: 0, len: 6 }, 3);
            assert_eq!(left, x, "{monoid:?}");
            let mut right = x.clone();
            let neutral = monoid.identity(DType::F64, &[2, 3]);
            monoid.merge(&mut right, &neutral, Run { a: 0, b: 0, len: 6 }, 3);
            assert_eq!(right, x, "{monoid:?}");
        }
    }

    /// Merging (m, l, o) over parts equals the softmax-weighted sum over the whole.
    #[test]
    fn log_sum_exp_equals_softmax() {
        let scores = [0.3f64, 700.0, -2.0, 699.5, 12.0];
        let values = [1.0f64, -2.0, 3.0, 0.25, 9.0];
        let mut total = Monoid::LogSumExp.identity(DType::F64, &[1, 3]);
        for (s, v) in scores.iter().zip(values) {
            let part = vec![*s, 1.0, v].into();
            Monoid::LogSumExp.merge(&mut total, &part, Run { a: 0, b: 0, len: 3 }, 3);
        }
        let t = total.get::<f64>().expect("f64");
        let z: f64 = scores.iter().map(|s| (s - 700.0).exp()).sum();
        let o: f64 = scores
            .iter()
            .zip(values)
            .map(|(s, v)| (s - 700.0).exp() * v)
            .sum();
        assert!((t[2] / t[1] - o / z).abs() < 1e-14);
        assert_eq!(t[0], 700.0);
    }
}
