//! Named axes over the workers of a job.

use std::ops::Range;

use crate::error::{EngineError, Result};

/// A grid of workers with named axes; the last axis varies fastest with the worker index.
///
/// ```
/// use advect_engine::Mesh;
/// let mesh = Mesh::new([("data", 2), ("space", 3)]).unwrap();
/// assert_eq!(mesh.workers(), 6);
/// assert_eq!(mesh.coordinates(4), vec![1, 1]);
/// assert_eq!(mesh.worker(&[1, 1]), 4);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    names: Vec<String>,
    sizes: Vec<usize>,
    deals: Vec<Deal>,
}

/// How an axis of p places deals a dimension that it cuts out among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Deal {
    /// p contiguous pieces, as even as they come.
    #[default]
    Blocks,
    /// 2 p contiguous chunks, of which place i has those numbered i and 2 p − 1 − i: what grows along the
    /// dimension, as the work of causal attention does, comes out even (Zhu 2024, *ring-flash-attention*;
    /// Dubey et al. 2024, *The Llama 3 herd of models*, section 3.3.2).
    ZigZag,
    /// Element j is at place j mod p (Brandon et al. 2023, *Striped attention*).
    Striped,
}

impl Deal {
    /// What place `i` of `p` has of `n` elements, in order.
    pub fn of(self, n: usize, i: usize, p: usize) -> Vec<Range<usize>> {
        self.cut(std::slice::from_ref(&(0..n)), i, p)
    }

    /// What place `i` of `p` has of the elements of ascending `runs`, in order.
    pub(crate) fn cut(self, runs: &[Range<usize>], i: usize, p: usize) -> Vec<Range<usize>> {
        let n = runs.iter().map(ExactSizeIterator::len).sum();
        let all = 0..n;
        match self {
            Deal::Blocks => within(runs, &[piece(&all, i, p)]),
            Deal::ZigZag => {
                let chunk = |j| piece(&all, j, 2 * p);
                within(runs, &[chunk(i), chunk(2 * p - 1 - i)])
            }
            Deal::Striped => {
                let elements = (i..n).step_by(p).map(|j| j..j + 1);
                within(runs, &elements.collect::<Vec<_>>())
            }
        }
    }
}

/// Piece `i` of `p` of a range, as even as they come.
fn piece(range: &Range<usize>, i: usize, p: usize) -> Range<usize> {
    let n = range.len();
    range.start + i * n / p..range.start + (i + 1) * n / p
}

/// The elements at `positions` among those of `runs`; both ascend.
fn within(runs: &[Range<usize>], positions: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let (mut run, mut before) = (0, 0);
    for at in positions {
        let mut next = at.start;
        while next < at.end && run < runs.len() {
            let here = &runs[run];
            if before + here.len() <= next {
                before += here.len();
                run += 1;
                continue;
            }
            let start = here.start + next - before;
            let end = here.end.min(start + at.end - next);
            match found.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => found.push(start..end),
            }
            next += end - start;
        }
    }
    found
}

impl Mesh {
    /// A mesh with the given axes, outermost first.
    ///
    /// # Errors
    /// If a name comes twice, an axis has no worker, or the workers cannot be counted.
    pub fn new<N: Into<String>>(axes: impl IntoIterator<Item = (N, usize)>) -> Result<Self> {
        let (names, sizes): (Vec<String>, Vec<usize>) =
            axes.into_iter().map(|(n, s)| (n.into(), s)).unzip();
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                return Err(mesh_error(
                    name,
                    "the axis is named twice; name each axis once",
                ));
            }
            if sizes[i] == 0 {
                return Err(mesh_error(
                    name,
                    "the axis has no worker; give it at least 1",
                ));
            }
        }
        let mut all = 1usize;
        for (name, size) in names.iter().zip(&sizes) {
            all = all.checked_mul(*size).ok_or_else(|| {
                mesh_error(
                    name,
                    "there are more workers than can be counted; give fewer",
                )
            })?;
        }
        let deals = vec![Deal::Blocks; sizes.len()];
        Ok(Mesh {
            names,
            sizes,
            deals,
        })
    }

    /// The mesh of one axis over all workers.
    pub fn line(name: &str, workers: usize) -> Self {
        Mesh {
            names: vec![name.to_owned()],
            sizes: vec![workers.max(1)],
            deals: vec![Deal::Blocks],
        }
    }

    /// The same workers, where axis `axis` deals out what it cuts otherwise; no such axis changes nothing.
    #[must_use]
    pub fn dealing(mut self, axis: usize, deal: Deal) -> Self {
        if let Some(of) = self.deals.get_mut(axis) {
            *of = deal;
        }
        self
    }

    /// How each axis deals out what it cuts.
    pub fn deals(&self) -> &[Deal] {
        &self.deals
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.sizes.len()
    }

    /// Workers along each axis.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Names of the axes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Position of the axis called `name`.
    pub fn axis(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// Place of a worker on each axis.
    pub fn coordinates(&self, worker: usize) -> Vec<usize> {
        let mut rest = worker;
        let mut at = vec![0; self.rank()];
        for (c, &size) in at.iter_mut().zip(&self.sizes).rev() {
            *c = rest % size;
            rest /= size;
        }
        at
    }

    /// Worker at a place.
    pub fn worker(&self, coordinates: &[usize]) -> usize {
        coordinates
            .iter()
            .zip(&self.sizes)
            .fold(0, |w, (&c, &size)| w * size + c)
    }
}

fn mesh_error(axis: &str, why: &str) -> EngineError {
    EngineError::Layout {
        layout: format!("mesh axis '{axis}'"),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More workers than can be counted are no mesh.
    #[test]
    fn workers_are_counted() {
        let many = Mesh::new([("a", usize::MAX), ("b", 2)]).expect_err("too many");
        assert!(many.to_string().contains("than can be counted"), "{many}");
    }

    /// What the places have is everything, once, in ascending runs, and even to a chunk, also of runs.
    #[test]
    fn deals_tile() {
        for deal in [Deal::Blocks, Deal::ZigZag, Deal::Striped] {
            for n in [0usize, 1, 2, 7, 16, 33] {
                for p in 1..9 {
                    let runs = [0..n / 3, n / 2..n + 5];
                    let mut all = Vec::new();
                    let mut sizes = Vec::new();
                    for i in 0..p {
                        let cut = deal.cut(&runs, i, p);
                        assert!(cut.windows(2).all(|w| w[0].end < w[1].start), "{cut:?}");
                        assert!(cut.iter().all(|r| !r.is_empty()), "{cut:?}");
                        sizes.push(cut.iter().map(ExactSizeIterator::len).sum::<usize>());
                        all.extend(cut.into_iter().flatten());
                    }
                    all.sort_unstable();
                    let want: Vec<usize> = runs.into_iter().flatten().collect();
                    assert_eq!(all, want, "{deal:?} of {n} on {p}");
                    let (least, most) = (sizes.iter().min(), sizes.iter().max());
                    assert!(
                        most.zip(least).is_some_and(|(a, b)| a - b <= 2),
                        "{sizes:?}"
                    );
                }
            }
        }
    }

    /// The chunks of the causal balance: 16 elements on 2 places.
    #[test]
    fn zig_zag_has_both_ends() {
        let has = |i| Deal::ZigZag.of(16, i, 2).into_iter().flatten();
        assert!(has(0).eq((0..4).chain(12..16)));
        assert!(has(1).eq(4..12));
    }
}
