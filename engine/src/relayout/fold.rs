//! Merging of parts that are all as large as the result.

use super::step::row;
use crate::fabric::bulk;
use crate::partial::{Monoid, Run};
use crate::shard::payload::{Payload, View};
use crate::shard::{DType, Data};

/// Elements that are merged at a time: few enough to stay in the first-level cache.
const SWEEP: usize = 2048;

/// Merges parts that are all as large as the result, in their order, in one sweep. One that is on
/// its way is merged as it comes.
pub(super) fn merged(monoid: Monoid, dtype: DType, shape: &[usize], parts: Vec<Payload>) -> Data {
    let len: usize = shape.iter().product();
    let row = row(shape);
    let coming = |part: &Payload| matches!(part, Payload::Coming(_));
    // runs end anywhere in a row, which only merges of rows mind
    let last = parts
        .iter()
        .rposition(coming)
        .filter(|_| monoid != Monoid::LogSumExp);
    let last = last.map(|at| (at, parts[at].clone()));
    let views: Vec<Option<View>> = (parts.into_iter().enumerate())
        .map(|(at, part)| match (&last, part) {
            (Some((last, _)), _) if *last == at => None,
            (_, Payload::Here(view)) => Some(view),
            (_, part) => Some(View::whole(part.into_data())),
        })
        .collect();
    let mut fold = Fold {
        monoid,
        row,
        views,
        sum: Data::zeros(dtype, ((SWEEP / row).max(1) * row).min(len.max(1))),
        out: bulk::buffer(dtype, len),
    };
    let part = match last {
        None => return fold.all(None),
        Some((_, part)) => part,
    };
    match part.runs(&mut |at, run| fold.run(at, run.len(), Some(run))) {
        Ok(()) => fold.out,
        Err(part) => fold.all(Some(part.view().data())),
    }
}

/// A merge in progress.
struct Fold {
    monoid: Monoid,
    row: usize,
    /// Parts that are all here; `None` is the one that comes in runs.
    views: Vec<Option<View>>,
    /// Memory for the elements that are merged at a time.
    sum: Data,
    out: Data,
}

impl Fold {
    /// Merges everything at once.
    fn all(mut self, other: Option<&Data>) -> Data {
        self.run(0, self.out.len(), other);
        self.out
    }

    /// Merges `len` elements from `first` on; those of the part that comes are all of `coming`.
    fn run(&mut self, first: usize, len: usize, coming: Option<&Data>) {
        let size = self.sum.dtype().size();
        let sweep = self.sum.len();
        for at in (0..len).step_by(sweep) {
            let n = sweep.min(len - at);
            for (k, view) in self.views.iter().enumerate() {
                let (from, start) = match (view, coming) {
                    (Some(view), _) => {
                        let (memory, start) = view.memory();
                        (memory, start + first + at)
                    }
                    (None, Some(coming)) => (coming, at),
                    (None, None) => continue,
                };
                if k == 0 {
                    self.sum.as_bytes_mut()[..n * size]
                        .copy_from_slice(&from.as_bytes()[start * size..(start + n) * size]);
                } else {
                    let run = Run {
                        a: 0,
                        b: start,
                        len: n,
                    };
                    self.monoid.merge(&mut self.sum, from, run, self.row);
                }
            }
            self.out.as_bytes_mut()[(first + at) * size..(first + at + n) * size]
                .copy_from_slice(&self.sum.as_bytes()[..n * size]);
        }
    }
}
