//! Which positions of an alignment are there, where each part of a block asks for it.

use advect_engine::graph::Value;
use advect_engine::{DType, Placement, Result, Spec};

use super::PairCount;
use super::places::Places;
use crate::transformer::build::{Build, split};

const SAME: Placement = Placement::Same;

/// A mask `[b, s, l]`, and in how many rows both positions of each pair are there `[b, l, l]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Masks {
    /// Of the alignment between blocks.
    pub(super) alignment: Value,
    /// Of keys along rows, and along columns.
    pub(super) rows: Value,
    pub(super) columns: Value,
    /// Of the pairs between blocks, at the entry of triangles and of attention along rows, and of that along columns.
    pub(super) pairs: Value,
    pub(super) starting: Value,
    pub(super) ending: Value,
}

impl Masks {
    /// Of the input `mask`.
    pub(super) fn new(build: &mut Build<'_>, shape: [usize; 3]) -> Result<Self> {
        let layout = Places::ALIGNMENT.layout(build);
        let mask = Spec::new(shape, DType::I64, layout);
        let mask = build.graph.input("mask", mask)?;
        let left = Places {
            tensor: SAME,
            ..Places::all(split(2))
        };
        let left = left.take(build, mask)?;
        let right = Places::WHOLE.take(build, mask)?;
        let pairs = build
            .graph
            .apply("pairs.count", PairCount, &[left, right])?;
        Self::of(build, mask, pairs)
    }

    fn of(build: &mut Build<'_>, mask: Value, pairs: Value) -> Result<Self> {
        let keys = Places {
            gathered: SAME,
            ..Places::cut(split(1), SAME)
        };
        let alignment = Places::ALIGNMENT.take(build, mask)?;
        let pairs = Places::PAIRS.take(build, pairs)?;
        Ok(Masks {
            alignment,
            rows: keys.take(build, alignment)?,
            columns: Places::cut(split(2), SAME).take(build, alignment)?,
            pairs,
            starting: Places::cut(split(1), SAME).take(build, pairs)?,
            ending: Places::cut(split(2), SAME).take(build, pairs)?,
        })
    }

    /// The same at the stage that is built now.
    pub(super) fn go_on(self, build: &mut Build<'_>) -> Result<Self> {
        match Places::ALIGNMENT.layout(build) == build.graph.spec(self.alignment).layout {
            true => Ok(self),
            false => Self::of(build, self.alignment, self.pairs),
        }
    }
}
