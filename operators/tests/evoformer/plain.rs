//! Attention as it is written in papers: all scores of a row at once, in double precision.

use advect_operators::evoformer::Along;

/// Extents of attention along rows or columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extents {
    pub(crate) along: Along,
    pub(crate) batch: usize,
    pub(crate) rows: usize,
    pub(crate) length: usize,
    pub(crate) heads: usize,
    pub(crate) width: usize,
}

impl Extents {
    /// Shape of q, k, v and y.
    pub(crate) fn shape(&self) -> [usize; 5] {
        let Extents {
            along,
            batch,
            rows,
            length,
            heads,
            width,
        } = *self;
        match along {
            Along::Rows => [batch, rows, length, heads, width],
            Along::Columns => [batch, length, rows, heads, width],
        }
    }

    /// Shape of the mask.
    pub(crate) fn mask(&self) -> [usize; 3] {
        let [b, i, j, ..] = self.shape();
        [b, i, j]
    }

    /// Shape of the bias.
    pub(crate) fn bias(&self) -> [usize; 4] {
        [self.batch, self.length, self.length, self.heads]
    }

    /// Which position of a tensor `[b, i, j]` is this.
    pub(crate) fn position(&self, b: usize, row: usize, at: usize) -> usize {
        match self.along {
            Along::Rows => (b * self.rows + row) * self.length + at,
            Along::Columns => (b * self.length + at) * self.rows + row,
        }
    }

    fn pair(&self, b: usize, query: usize, key: usize, head: usize) -> usize {
        let [x, y] = match self.along {
            Along::Rows => [query, key],
            Along::Columns => [key, query],
        };
        ((b * self.length + x) * self.length + y) * self.heads + head
    }
}

/// What attention is of.
#[derive(Debug, Clone)]
pub(crate) struct Tensors {
    pub(crate) q: Vec<f64>,
    pub(crate) k: Vec<f64>,
    pub(crate) v: Vec<f64>,
    pub(crate) mask: Option<Vec<i64>>,
    pub(crate) bias: Option<Vec<f64>>,
    /// The cotangent of the outputs.
    pub(crate) given: Vec<f64>,
}

/// Outputs, and cotangents of q, k, v and the bias.
pub(crate) fn plain(of: &Extents, tensors: &Tensors) -> [Vec<f64>; 5] {
    let Tensors {
        q,
        k,
        v,
        mask,
        bias,
        given,
    } = tensors;
    let (n, d) = (of.length, of.width);
    let [mut y, mut dq, mut dk, mut dv] = [(); 4].map(|()| vec![0.0; q.len()]);
    let mut db = vec![0.0; of.bias().iter().product()];
    let scale = 1.0 / (d as f64).sqrt();
    for b in 0..of.batch {
        for row in 0..of.rows {
            for head in 0..of.heads {
                let at = |i: usize| (of.position(b, row, i) * of.heads + head) * d;
                let seen = |j: usize| {
                    let mask = mask.as_ref();
                    mask.is_none_or(|mask| mask[of.position(b, row, j)] != 0)
                };
                for i in 0..n {
                    let score = |j: usize| {
                        let product: f64 = (0..d).map(|c| q[at(i) + c] * k[at(j) + c]).sum();
                        let bias = bias
                            .as_ref()
                            .map_or(0.0, |bias| bias[of.pair(b, i, j, head)]);
                        if seen(j) {
                            (scale * product + bias).exp()
                        } else {
                            0.0
                        }
                    };
                    let weights: Vec<f64> = (0..n).map(score).collect();
                    let sum: f64 = weights.iter().sum();
                    if sum == 0.0 {
                        continue;
                    }
                    let p: Vec<f64> = weights.iter().map(|w| w / sum).collect();
                    for c in 0..d {
                        y[at(i) + c] = (0..n).map(|j| p[j] * v[at(j) + c]).sum();
                    }
                    let dp =
                        |j: usize| (0..d).map(|c| given[at(i) + c] * v[at(j) + c]).sum::<f64>();
                    let dp: Vec<f64> = (0..n).map(dp).collect();
                    let mean: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
                    for j in 0..n {
                        let ds = p[j] * (dp[j] - mean);
                        db[of.pair(b, i, j, head)] += ds;
                        for c in 0..d {
                            dq[at(i) + c] += ds * scale * k[at(j) + c];
                            dk[at(j) + c] += ds * scale * q[at(i) + c];
                            dv[at(j) + c] += p[j] * given[at(i) + c];
                        }
                    }
                }
            }
        }
    }
    [y, dq, dk, dv, db]
}
