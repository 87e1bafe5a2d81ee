//! Cases: an operator, inputs of its domain, and the layouts it works on.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::graph::{Operator, Rows};
use crate::layout::{Layout, Placement};
use crate::mesh::Mesh;
use crate::shard::DType;

/// A whole tensor from which numbers are drawn evenly.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
    pub(crate) rows: Rows,
    pub(crate) range: Range<f64>,
}

/// Layouts on one mesh, one per input.
#[derive(Debug, Clone)]
pub(crate) struct Placing {
    pub(crate) mesh: Mesh,
    pub(crate) layouts: Vec<Layout>,
}

/// One operator in one setting, with all the layouts that it must be right on.
#[derive(Debug, Clone)]
pub struct Case {
    pub(crate) name: String,
    pub(crate) operator: Arc<dyn Operator>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) placings: Vec<Placing>,
}

impl Case {
    /// A case without inputs yet.
    pub fn new(name: &str, operator: impl Operator + 'static) -> Self {
        Case {
            name: name.to_owned(),
            operator: Arc::new(operator),
            inputs: Vec::new(),
            placings: Vec::new(),
        }
    }

    fn push(mut self, shape: &[usize], dtype: DType, rows: Rows, range: Range<f64>) -> Self {
        self.inputs.push(Input {
            shape: shape.to_vec(),
            dtype,
            rows,
            range,
        });
        self
    }

    /// An input of plain `f64` numbers drawn from `range`, which lies inside the domain.
    pub fn input(self, shape: &[usize], range: Range<f64>) -> Self {
        self.push(shape, DType::F64, Rows::Plain, range)
    }

    /// An input of scaled rows `(m, v…)` with numbers drawn from `range`.
    pub fn scaled_input(self, shape: &[usize], range: Range<f64>) -> Self {
        self.push(shape, DType::F64, Rows::Scaled, range)
    }

    /// An input of integers drawn from `range`.
    pub fn integer_input(self, shape: &[usize], range: Range<i64>) -> Self {
        self.push(
            shape,
            DType::I64,
            Rows::Plain,
            range.start as f64..range.end as f64,
        )
    }

    /// Placements of the inputs that are right on one axis of 1, 2, 3 and 4 workers.
    pub fn on_line<const N: usize>(mut self, placements: [Placement; N]) -> Self {
        for workers in 1..=4 {
            let layouts = placements.map(|p| Layout::new([p])).to_vec();
            self.placings.push(Placing {
                mesh: Mesh::line("x", workers),
                layouts,
            });
        }
        self
    }

    /// Placements of the inputs on two axes, right on meshes of 2×2, 1×3 and 3×2 workers.
    ///
    /// # Errors
    /// None for these meshes; the result is that of [`Mesh::new`].
    pub fn on_plane<const N: usize>(mut self, placements: [[Placement; 2]; N]) -> Result<Self> {
        for [x, y] in [[2, 2], [1, 3], [3, 2]] {
            let layouts = placements.map(Layout::new).to_vec();
            self.placings.push(Placing {
                mesh: Mesh::new([("x", x), ("y", y)])?,
                layouts,
            });
        }
        Ok(self)
    }

    /// Layouts of the inputs that are right on one mesh.
    pub fn on<const N: usize>(mut self, mesh: Mesh, layouts: [Layout; N]) -> Self {
        self.placings.push(Placing {
            mesh,
            layouts: layouts.to_vec(),
        });
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What a type must keep to count as registered.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Names of the types that the cases prove.
    pub types: Vec<&'static str>,
    /// The cases.
    pub cases: Vec<Case>,
}
