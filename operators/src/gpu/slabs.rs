//! Sums that several blocks made parts of.

use candle_core::{DType, Result, Tensor};

use super::launch::{Arg, Code, Extent, empty, launch};

const CODE: Code = Code {
    name: "slabs",
    text: include_str!("slabs.cu"),
    head: None,
};

/// Slabs `[slabs, m]` added up, `[m]`.
pub(super) fn added(part: &Tensor) -> Result<Tensor> {
    let (slabs, m) = part.dims2()?;
    let total = empty(m, DType::F32, part.device())?;
    let extent = Extent {
        grid: [m.div_ceil(32), 1, 1],
        block: [32, 32],
        shared: 0,
    };
    let args = [
        Arg::Tensor(part),
        Arg::Tensor(&total),
        Arg::Int(slabs),
        Arg::Int(m),
    ];
    launch(CODE, "add_slabs", extent, &args)?;
    Ok(total)
}
