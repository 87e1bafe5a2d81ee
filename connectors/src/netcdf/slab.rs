//! Hyperslabs: a box of an array, and the contiguous runs of numbers it is made of.

use serde::{Deserialize, Serialize};

use super::model::Variable;
use crate::error::{ConnectorError, Result};

/// A box of an array: `count[d]` places from `start[d]` on, along each dimension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slab {
    /// First place along each dimension.
    pub start: Vec<usize>,
    /// How many places along each dimension.
    pub count: Vec<usize>,
}

impl Slab {
    /// The whole array of a variable.
    pub fn all(variable: &Variable) -> Self {
        Self {
            start: vec![0; variable.shape.len()],
            count: variable.shape.clone(),
        }
    }

    /// The box `start .. start + count`.
    pub fn new(start: &[usize], count: &[usize]) -> Self {
        Self {
            start: start.to_vec(),
            count: count.to_vec(),
        }
    }

    /// Places `first .. first + count` of the slowest dimension, all of the others.
    pub fn along_first(variable: &Variable, first: usize, count: usize) -> Self {
        let mut slab = Self::all(variable);
        if let (Some(s), Some(c)) = (slab.start.first_mut(), slab.count.first_mut()) {
            (*s, *c) = (first, count);
        }
        slab
    }

    /// Checks the box against a variable and returns the number of its places.
    ///
    /// Errors if the ranks differ, the box leaves the array, or its bytes exceed `limit`.
    pub(crate) fn check(&self, variable: &Variable, place: &str, limit: u64) -> Result<usize> {
        let rank = variable.shape.len();
        let fits = self.start.len() == rank
            && self.count.len() == rank
            && (0..rank).all(|d| {
                self.start[d]
                    .checked_add(self.count[d])
                    .is_some_and(|e| e <= variable.shape[d])
            });
        if !fits {
            return Err(ConnectorError::invalid(
                place,
                format!("slab of variable `{}`", variable.name),
                format!("start {:?}, count {:?}", self.start, self.count),
                format!(
                    "a box inside {:?} {:?}",
                    variable.dimensions, variable.shape
                ),
            ));
        }
        let places = product(&self.count).unwrap_or(usize::MAX);
        let needed = (places as u64).saturating_mul(variable.number_type.size() as u64);
        if needed > limit {
            let what = format!("a slab of variable `{}`", variable.name);
            return Err(ConnectorError::TooLarge {
                place: place.to_string(),
                what,
                needed,
                limit,
            });
        }
        Ok(places)
    }

    /// How many trailing dimensions join into one contiguous run, and the numbers
    /// in a run. `split` says that the first dimension is never joined.
    pub(crate) fn run(&self, shape: &[usize], split: bool) -> (usize, usize) {
        let rank = shape.len();
        let (mut joined, mut length) = (0, 1);
        for d in (0..rank).rev() {
            if split && d == 0 {
                break;
            }
            joined += 1;
            length *= self.count[d];
            if self.count[d] != shape[d] {
                break;
            }
        }
        (joined, length)
    }
}

/// The product of lengths, if it fits.
pub(crate) fn product(lengths: &[usize]) -> Option<usize> {
    lengths.iter().try_fold(1_usize, |p, &n| p.checked_mul(n))
}

/// Calls `each` with every index of a box of these lengths, in row-major order; once for rank 0.
/// Stops at the first error.
pub(crate) fn for_each_index(
    lengths: &[usize],
    mut each: impl FnMut(&[usize]) -> Result<()>,
) -> Result<()> {
    if lengths.contains(&0) {
        return Ok(());
    }
    let mut index = vec![0; lengths.len()];
    loop {
        each(&index)?;
        let Some(d) = (0..lengths.len())
            .rev()
            .find(|&d| index[d] + 1 < lengths[d])
        else {
            return Ok(());
        };
        index[d] += 1;
        index[d + 1..].fill(0);
    }
}

/// The row-major position of an index in an array of these lengths.
pub(crate) fn position(index: impl IntoIterator<Item = usize>, lengths: &[usize]) -> usize {
    index
        .into_iter()
        .zip(lengths)
        .fold(0, |p, (i, n)| p * n + i)
}
