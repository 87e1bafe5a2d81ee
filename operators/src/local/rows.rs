//! Operations that choose: rows by their numbers, as messages between atoms need them, and elements by masks.

use candle_core::{DType, Device};

use super::operation::Operation;
use super::tape::{Handle, Tape};
use crate::OperatorError;

type Result<T> = std::result::Result<T, OperatorError>;

/// Numbers of a tensor at most: more cannot be held.
const MOST: usize = 1 << 40;

impl Tape {
    /// Row `ids[i]` of x for each i: `[n, …]` by `[m]` to `[m, …]`. The id `i64::MAX` names no row and gives
    /// zeros, which fills a list of edges up.
    ///
    /// # Errors
    /// If an id is negative or not below n, or ids are not whole numbers (`I64` or `U32`).
    pub fn gather_rows(&mut self, x: Handle, ids: Handle) -> Result<Handle> {
        self.check_ids("gather_rows", x, ids)?;
        self.check_range("gather_rows", self.shape(x)?[0], ids)?;
        self.apply(Operation::Gather, &[x, ids])
    }

    /// Row r is the sum of the rows of x with `ids[i] = r`, in their order: `[m, …]` by `[m]` to
    /// `[rows, …]`. Rows with the id `i64::MAX` are left out. It is the adjoint of [`Tape::gather_rows`].
    ///
    /// # Errors
    /// As [`Tape::gather_rows`], and if x has not as many rows as there are ids.
    pub fn segment_sum(&mut self, x: Handle, ids: Handle, rows: usize) -> Result<Handle> {
        self.check_ids("segment_sum", x, ids)?;
        self.check_range("segment_sum", rows, ids)?;
        let row: usize = self.shape(x)?.iter().skip(1).product();
        if rows.checked_mul(row.max(1)).is_none_or(|n| n > MOST) {
            let why =
                format!("{rows} rows of {row} numbers are more than can be held; give fewer rows");
            return Err(OperatorError::tensor("segment_sum", why));
        }
        self.apply(Operation::SegmentSum { rows }, &[x, ids])
    }

    /// a where the mask is not 0, b elsewhere; all of one shape. The mask has no derivative.
    ///
    /// # Errors
    /// If the shapes differ, or the mask is not of whole numbers.
    pub fn choose(&mut self, mask: Handle, a: Handle, b: Handle) -> Result<Handle> {
        self.apply(Operation::Choose, &[mask, a, b])
    }

    /// The mask (`U8`) of the elements above a limit.
    ///
    /// # Errors
    /// If the value of `x` was let go.
    pub fn above(&mut self, x: Handle, limit: f64) -> Result<Handle> {
        self.apply(Operation::Above(limit), &[x])
    }

    fn check_ids(&self, verb: &'static str, x: Handle, ids: Handle) -> Result<()> {
        let whole = matches!(self.dtype(ids)?, DType::I64 | DType::U32);
        if whole && self.shape(ids)?.len() == 1 && !self.shape(x)?.is_empty() {
            return Ok(());
        }
        let why = format!(
            "rows of {:?} cannot be named by {:?}{:?}; give ids of I64 in one dimension",
            self.shape(x)?,
            self.dtype(ids)?,
            self.shape(ids)?
        );
        Err(OperatorError::tensor(verb, why))
    }
    /// On a GPU a kernel that meets a wrong id ends all use of the GPU, so ids are looked at before.
    fn check_range(&self, verb: &'static str, rows: usize, ids: Handle) -> Result<()> {
        let none = match self.dtype(ids)? {
            DType::U32 => i64::from(u32::MAX),
            _ => i64::MAX,
        };
        let numbers = self.value(ids)?.to_device(&Device::Cpu)?;
        let numbers = numbers.to_dtype(DType::I64)?.to_vec1::<i64>()?;
        let there = |id: i64| usize::try_from(id).is_ok_and(|id| id < rows);
        match numbers.into_iter().find(|&id| id != none && !there(id)) {
            Some(wrong) => {
                let why =
                    format!("there is no row {wrong} of {rows}; give ids from 0 to below {rows}");
                Err(OperatorError::tensor(verb, why))
            }
            None => Ok(()),
        }
    }
}
