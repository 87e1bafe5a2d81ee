//! Norms of rows.

use candle_core::{DType, Result, Tensor};

use super::launch::{Arg, Code, Extent, empty, launch, rows, takes};
use super::slabs::added;
use crate::local::Kernel;

const CODE: Code = Code {
    name: "norm",
    text: include_str!("norm.cu"),
    head: None,
};
/// Slabs of rows, at most, of which gradients of gains are added up.
const SLABS: usize = 1024;
/// Columns that a block keeps sums of, in its shared memory.
const WIDEST: usize = 16_384;

/// Layer norm, or that by the root of the mean square.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) epsilon: f64,
    pub(super) rms: bool,
}

impl Norm {
    /// Threads of a row.
    fn across(h: usize) -> usize {
        h.div_ceil(16).next_multiple_of(32).min(512)
    }

    /// x, gain and shift, with the number of rows and their width.
    fn parts<'a>(
        inputs: &[&'a Tensor],
    ) -> Result<(Tensor, &'a Tensor, Option<&'a Tensor>, [usize; 2])> {
        let x = rows(inputs[0])?;
        let h = inputs[1].elem_count();
        let of = [x.elem_count() / h, h];
        Ok((x, inputs[1], inputs.get(2).copied(), of))
    }
}

impl Kernel for Norm {
    fn takes(&self, inputs: &[&Tensor]) -> bool {
        let told = &inputs[1..];
        let h = inputs[0].dims().last().copied().unwrap_or(0);
        let plain = |t: &&Tensor| t.dtype() == DType::F32 && t.is_contiguous() && t.dims() == [h];
        takes(inputs) && h <= WIDEST && told.iter().all(plain)
    }

    fn value(&self, inputs: &[&Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        let (x, gain, shift, [n, h]) = Norm::parts(inputs)?;
        let y = empty(x.shape(), DType::BF16, x.device())?;
        let across = Norm::across(h);
        let down = (128 / across).max(1);
        let extent = Extent {
            grid: [n.div_ceil(down), 1, 1],
            block: [across, down],
            shared: 0,
        };
        let args = [
            Arg::Tensor(&x),
            Arg::Tensor(gain),
            Arg::maybe(shift),
            Arg::Tensor(&y),
            Arg::Int(n),
            Arg::Int(h),
            Arg::Real(self.epsilon),
            Arg::Int(self.rms.into()),
        ];
        launch(CODE, "norm_forward", extent, &args)?;
        Ok((y, Vec::new()))
    }

    fn cotangents(&self, inputs: &[&Tensor], _: &[Tensor], back: &Tensor) -> Result<Vec<Tensor>> {
        let (x, gain, shift, [n, h]) = Norm::parts(inputs)?;
        let (back, device) = (rows(back)?, x.device());
        let dx = empty(x.shape(), DType::BF16, device)?;
        let slab = n.div_ceil(SLABS).max(4);
        let slabs = n.div_ceil(slab);
        let part = || empty((slabs, h), DType::F32, device);
        let (to_gain, to_shift) = (part()?, shift.map(|_| part()).transpose()?);
        let extent = Extent {
            grid: [slabs, 1, 1],
            block: [Norm::across(h), 1],
            shared: 8 * h,
        };
        let args = [
            Arg::Tensor(&x),
            Arg::Tensor(gain),
            Arg::Tensor(&back),
            Arg::Tensor(&dx),
            Arg::Tensor(&to_gain),
            Arg::maybe(to_shift.as_ref()),
            Arg::Int(n),
            Arg::Int(h),
            Arg::Real(self.epsilon),
            Arg::Int(self.rms.into()),
            Arg::Int(slab),
        ];
        launch(CODE, "norm_backward", extent, &args)?;
        let mut all = vec![dx];
        for part in [Some(to_gain), to_shift].into_iter().flatten() {
            all.push(added(&part)?);
        }
        Ok(all)
    }
}
