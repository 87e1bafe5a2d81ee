//! The layouts of functions that work row by row: samples, molecules, edges.

use advect_engine::{EngineError, Layout, Monoid, Placement, Result, Spec};

use crate::network::rules::layout;

/// How an input belongs to the rows of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The dimension counts the rows, each of which is computed on its own.
    Rows(usize),
    /// Every row reads all of it: a parameter.
    Whole,
}

/// Where the outputs of a function of rows are.
///
/// | rows | whole inputs | output by rows | sum over rows |
/// |---|---|---|---|
/// | Split | Same | Split | Partial(Sum) |
/// | Same | Same | Same | Same |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLayouts {
    /// By axis, whether the rows are cut.
    cut: Vec<bool>,
}

impl RowLayouts {
    /// Of a function whose inputs belong to rows as `cuts` says.
    ///
    /// # Errors
    /// [`EngineError::Operator`] if there are not as many inputs, or they are on an axis otherwise than in
    /// the table.
    pub fn try_new(function: &str, inputs: &[Spec], cuts: &[Cut]) -> Result<Self> {
        if inputs.len() != cuts.len() {
            return Err(EngineError::Operator {
                operator: function.to_owned(),
                why: format!("it takes {} inputs, not {}", cuts.len(), inputs.len()),
            });
        }
        let mend = "cut all inputs of rows there and keep the others Same, or keep all Same";
        let rows = layout(function, inputs, mend, |on| {
            let placed = |cut: &Cut| match cut {
                Cut::Rows(dim) => Placement::Split { dim: *dim },
                Cut::Whole => Placement::Same,
            };
            let same = on.iter().all(|p| *p == Placement::Same);
            let split = on.iter().zip(cuts).all(|(p, cut)| *p == placed(cut));
            match (same, split) {
                (true, _) => Some(Placement::Same),
                (false, true) => Some(Placement::Split { dim: 0 }),
                _ => None,
            }
        })?;
        let cut = rows.axes.iter().map(|p| *p != Placement::Same).collect();
        Ok(RowLayouts { cut })
    }

    /// Of an output whose dimension `dim` counts the rows.
    pub fn rows(&self, dim: usize) -> Layout {
        self.where_cut(Placement::Split { dim })
    }

    /// Of an output that is a sum over the rows.
    pub fn sum(&self) -> Layout {
        self.where_cut(Placement::Partial(Monoid::Sum))
    }

    fn where_cut(&self, placement: Placement) -> Layout {
        let on = |&cut: &bool| if cut { placement } else { Placement::Same };
        Layout::new(self.cut.iter().map(on).collect::<Vec<_>>())
    }
}
