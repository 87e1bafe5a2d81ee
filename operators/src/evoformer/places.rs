//! Where the streams of an Evoformer are, by what the axes of the mesh do.

use advect_engine::graph::Value;
use advect_engine::{Layout, Placement, Result};

use super::masks::Masks;
use crate::transformer::build::{Build, split};
use crate::transformer::{Context, Role};

const SAME: Placement = Placement::Same;

/// The alignment `[b, s, l, c]` and the pairs `[b, l, l, c]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    pub(super) alignment: Value,
    pub(super) pairs: Value,
    /// What of both is there, if that is given.
    pub(super) masks: Option<Masks>,
}

/// Where tensors are on axes of each role: samples cut by their batch, and others by these.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// Rows and columns are exchanged.
    pub(super) exchanged: Placement,
    /// Columns are cut, and gathered.
    pub(super) gathered: Placement,
    pub(super) sequence: Placement,
    pub(super) tensor: Placement,
}

impl Places {
    /// The alignment between blocks.
    pub(super) const ALIGNMENT: Places = Places {
        exchanged: split(1),
        gathered: split(2),
        sequence: split(1),
        tensor: SAME,
    };
    /// Where losses of letters are made: everything is cut.
    pub(super) const FINISHED: Places = Places {
        tensor: split(1),
        ..Places::ALIGNMENT
    };
    /// The pairs between blocks.
    pub(super) const PAIRS: Places = Places {
        exchanged: split(1),
        gathered: split(1),
        sequence: split(1),
        tensor: SAME,
    };
    /// What every worker has whole.
    pub(super) const WHOLE: Places = Places::all(SAME);

    /// The same on all axes that do not cut samples.
    pub(super) const fn all(place: Placement) -> Self {
        Places {
            exchanged: place,
            gathered: place,
            sequence: place,
            tensor: place,
        }
    }

    /// On axes that cut positions, and on those that cut weights.
    pub(super) const fn cut(positions: Placement, weights: Placement) -> Self {
        Places {
            exchanged: positions,
            gathered: positions,
            sequence: weights,
            tensor: weights,
        }
    }

    pub(super) fn layout(self, build: &Build<'_>) -> Layout {
        build.layout(|role| match role {
            Role::Data | Role::Sharded(_) => split(0),
            Role::Context(Context::Heads) => self.exchanged,
            Role::Context(_) => self.gathered,
            Role::Sequence => self.sequence,
            Role::Tensor | Role::Stage => self.tensor,
        })
    }

    pub(super) fn take(self, build: &mut Build<'_>, x: Value) -> Result<Value> {
        let layout = self.layout(build);
        build.graph.relayout(x, &layout)
    }
}
