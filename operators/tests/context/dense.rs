//! Attention as it is defined: sums over all keys that a query sees.

use advect_operators::attention::Attention;

/// Groups, heads of a group, width of a head.
const G: usize = 2;
const R: usize = 3;
const D: usize = 4;

/// Two samples of queries, keys and values.
pub(crate) struct Problem {
    pub(crate) n: usize,
    pub(crate) t: usize,
    pub(crate) attention: Attention,
    pub(crate) q: Vec<f64>,
    pub(crate) kv: Vec<f64>,
    pub(crate) bounds: Option<Vec<i64>>,
    /// The cotangent of the output.
    pub(crate) seed: Vec<f64>,
}

/// Output and gradients.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answers {
    pub(crate) y: Vec<f64>,
    pub(crate) to_q: Vec<f64>,
    pub(crate) to_kv: Vec<f64>,
}

/// Numbers that look random, from −1 to 1.
fn numbers(seed: u64, n: usize) -> Vec<f64> {
    let number = |i: usize| {
        let mut z = (seed << 32 ^ i as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..n).map(number).collect()
}

impl Problem {
    pub(crate) fn new(n: usize, t: usize, attention: Attention, bounds: Option<Vec<i64>>) -> Self {
        let queries = 2 * n * G * R * D;
        Problem {
            n,
            t,
            attention: Attention {
                bounded: bounds.is_some(),
                ..attention
            },
            q: numbers(1, queries).iter().map(|x| 3.0 * x).collect(),
            kv: numbers(2, 2 * t * 2 * G * D),
            bounds,
            seed: numbers(3, queries),
        }
    }

    /// Everything that attention is used for.
    pub(crate) fn all() -> Vec<(&'static str, Problem)> {
        let (full, causal) = (Attention::FULL, Attention::CAUSAL);
        // the first positions of a sample are there
        let padded = [11, 5].into_iter().flat_map(|length: i64| {
            (0..13).flat_map(move |i| if i < length { [0, length] } else { [0, 0] })
        });
        // documents end at these positions
        let packed = [[4, 9, 13, 13], [1, 2, 7, 13]]
            .into_iter()
            .flat_map(|ends| {
                (0..13).flat_map(move |i: i64| {
                    let end = ends.into_iter().find(|&end| i < end).unwrap_or(13);
                    let before = ends.into_iter().filter(|&end| end <= i);
                    [before.max().unwrap_or(0), end]
                })
            });
        let (padded, packed): (Vec<i64>, Vec<i64>) = (padded.collect(), packed.collect());
        vec![
            ("causal", Problem::new(16, 16, causal, None)),
            ("full", Problem::new(16, 16, full, None)),
            ("ragged", Problem::new(13, 13, causal, None)),
            ("ragged and full", Problem::new(13, 13, full, None)),
            ("short", Problem::new(3, 3, causal, None)),
            ("padded", Problem::new(13, 13, full, Some(padded.clone()))),
            (
                "padded and causal",
                Problem::new(13, 13, causal, Some(padded)),
            ),
            ("packed", Problem::new(13, 13, causal, Some(packed.clone()))),
            ("packed and full", Problem::new(13, 13, full, Some(packed))),
            ("across", Problem::new(13, 9, full, None)),
            ("long", Problem::new(300, 300, causal, None)),
        ]
    }

    pub(crate) fn shapes(&self) -> [[usize; 5]; 2] {
        [[2, self.n, G, R, D], [2, self.t, 2, G, D]]
    }

    fn sees(&self, sample: usize, query: usize, key: usize) -> bool {
        let inside = self.bounds.as_ref().is_none_or(|bounds| {
            let pair = &bounds[(sample * self.n + query) * 2..][..2];
            (pair[0]..pair[1]).contains(&(key as i64))
        });
        inside && (!self.attention.causal || key <= query)
    }

    /// Output and gradients, pair by pair.
    pub(crate) fn dense(&self) -> Answers {
        let zeros = |of: &[f64]| vec![0.0; of.len()];
        let (mut y, mut to_q, mut to_kv) = (zeros(&self.q), zeros(&self.q), zeros(&self.kv));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let scale = 1.0 / (D as f64).sqrt();
        let heads = (0..2).flat_map(|b| (0..G).flat_map(move |g| (0..R).map(move |r| (b, g, r))));
        for (b, g, r) in heads {
            for i in 0..self.n {
                let at = (((b * self.n + i) * G + g) * R + r) * D;
                let key = |j: usize| (((b * self.t + j) * 2) * G + g) * D;
                let value = |j: usize| (((b * self.t + j) * 2 + 1) * G + g) * D;
                let keys: Vec<usize> = (0..self.t).filter(|&j| self.sees(b, i, j)).collect();
                let (q, seed) = (&self.q[at..at + D], &self.seed[at..at + D]);
                let score = |j: usize| scale * dot(q, &self.kv[key(j)..][..D]);
                let high = keys.iter().map(|&j| score(j)).fold(f64::MIN, f64::max);
                let total: f64 = keys.iter().map(|&j| (score(j) - high).exp()).sum();
                let weight = |j: usize| (score(j) - high).exp() / total;
                for &j in &keys {
                    for c in 0..D {
                        y[at + c] += weight(j) * self.kv[value(j) + c];
                    }
                }
                let mean = dot(&y[at..at + D], seed);
                for &j in &keys {
                    let p = weight(j);
                    let ds = p * (dot(seed, &self.kv[value(j)..][..D]) - mean) * scale;
                    for c in 0..D {
                        to_q[at + c] += ds * self.kv[key(j) + c];
                        to_kv[key(j) + c] += ds * q[c];
                        to_kv[value(j) + c] += p * seed[c];
                    }
                }
            }
        }
        Answers { y, to_q, to_kv }
    }
}
