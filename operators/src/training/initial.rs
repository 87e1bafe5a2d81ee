//! Initial values that do not depend on who holds them.
//!
//! Element `i` of the parameter `name` comes from the words from `4 i` on of the ChaCha8 stream that
//! `(seed, name)` chooses. So a worker makes its own piece and nothing else, and every layout on any
//! number of workers starts from the same bits.

use advect_engine::{DType, Data, Mesh, Shard, Spec};
use half::bf16;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::network::real::{Real, as_real};
use crate::random;

/// Words of 32 bits that an element takes.
const WORDS: u128 = 4;

/// What a parameter is before the first step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// One number everywhere.
    Constant(f64),
    /// Independent normal numbers of mean 0.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
}

impl Initial {
    /// The piece of `worker`, of the parameter `name` of an `f32` or `f64` tensor; in `bf16` the numbers of `f32`,
    /// rounded, and zeros in all other types.
    ///
    /// ```
    /// use advect_engine::{DType, Layout, Mesh, Placement, Spec};
    /// use advect_operators::training::Initial;
    /// let mesh = Mesh::line("data", 3);
    /// let cut = Spec::new([5, 4], DType::F64, Layout::new([Placement::Split { dim: 1 }]));
    /// let start = Initial::Normal { deviation: 0.02 };
    /// let pieces: Vec<_> = (0..3).map(|w| start.piece(7, "w", &cut, &mesh, w)).collect();
    /// let whole = Spec::new([5, 4], DType::F64, Layout::same(&mesh));
    /// let alone = start.piece(7, "w", &whole, &mesh, 0);
    /// assert_eq!(cut.join(&mesh, &pieces)?, *alone.data());
    /// let half = Spec::new([5, 4], DType::BF16, Layout::same(&mesh));
    /// let apart = |(a, b): (&f64, &f64)| (a - b).abs() <= a.abs() / 256.0;
    /// let [a, b] = [alone, start.piece(7, "w", &half, &mesh, 0)].map(|s| s.data().doubles().unwrap());
    /// assert!(a.iter().zip(&b).all(apart));
    /// # Ok::<(), advect_engine::EngineError>(())
    /// ```
    pub fn piece(&self, seed: u64, name: &str, spec: &Spec, mesh: &Mesh, worker: usize) -> Shard {
        let numbers = match spec.dtype {
            DType::BF16 => Some(rounded(
                &self.numbers::<f32>(seed, name, spec, mesh, worker),
            )),
            other => as_real!(other, T => self.numbers::<T>(seed, name, spec, mesh, worker)),
        };
        let shape = spec.local_shape(mesh, worker);
        let zeros = || Data::zeros(spec.dtype, shape.iter().product());
        let data = numbers.unwrap_or_else(zeros);
        Shard::new(0, shape, data)
    }

    fn numbers<T: Real>(
        &self,
        seed: u64,
        name: &str,
        spec: &Spec,
        mesh: &Mesh,
        worker: usize,
    ) -> Data {
        let len = spec.local_shape(mesh, worker).iter().product();
        let deviation = match *self {
            Initial::Constant(c) => return T::data(vec![T::of(c); len]),
            Initial::Normal { deviation } => deviation,
        };
        let mut random = random::stream(seed, name);
        let mut numbers = Vec::with_capacity(len);
        for run in random::runs(spec, mesh, worker) {
            random.set_word_pos(WORDS * run.start as u128);
            numbers.extend(run.map(|_| T::of(deviation * normal(&mut random))));
        }
        T::data(numbers)
    }
}

/// Numbers of single precision in `bf16`.
fn rounded(numbers: &Data) -> Data {
    let numbers = numbers.get::<f32>().unwrap_or_default();
    let rounded = numbers.iter().map(|&x| bf16::from_f32(x));
    rounded.collect::<Vec<_>>().into()
}

/// A standard normal number from four words: Box and Muller (1958), the cosine of the pair.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (radius, angle) = (unit(random.random()), unit(random.random()));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
