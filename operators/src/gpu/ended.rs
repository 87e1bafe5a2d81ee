//! What ends products: shifts, functions of each element, gates and residual sums.

use candle_core::{DType, Result, Tensor};

use super::Of;
use super::launch::{Arg, Code, Extent, empty, launch, rows, takes};
use super::slabs::added;
use crate::local::Kernel;

const CODE: Code = Code {
    name: "ended",
    text: include_str!("ended.cu"),
    head: None,
};
/// Threads of a block.
const THREADS: usize = 256;
/// The number of the identity among functions.
const IDENTITY: usize = 0;

/// f(u + b).
#[derive(Debug)]
pub(super) struct Ended(pub(super) Of);

/// f(a) b.
#[derive(Debug)]
pub(super) struct Gated(pub(super) Of);

/// Blocks for columns of `m` numbers, with the number of slabs that sums are in.
fn columns(rows: usize, m: usize) -> (Extent, usize) {
    let width = if m.is_multiple_of(8) { 8 } else { 1 };
    let across = (m / width).next_power_of_two().min(THREADS);
    let down = THREADS / across;
    let blocks = (m / width).div_ceil(across);
    let most = (1024 / blocks).max(1);
    let high = rows.div_ceil(16 * down).clamp(1, most);
    let extent = Extent {
        grid: [blocks, high, 1],
        block: [across, down],
        shared: 0,
    };
    (extent, high * down)
}

/// Whether `b` is a row of single precision that x ends with.
fn beside(x: &Tensor, b: &Tensor) -> bool {
    let lead = x.rank().saturating_sub(b.rank());
    b.dtype() == DType::F32 && b.is_contiguous() && b.dims() == &x.dims()[lead..]
}

/// The numbers of rows and of columns beside a row of `b`, or of the last dimension.
fn extents(x: &Tensor, b: Option<&Tensor>) -> [usize; 2] {
    let last = x.dims().last().copied().unwrap_or(1);
    let m = b.map_or(last, Tensor::elem_count);
    [x.elem_count() / m, m]
}

pub(super) fn takes_total(x: &Tensor, y: Option<&Tensor>, b: Option<&Tensor>) -> bool {
    let alike = |y: &Tensor| y.dtype() == DType::BF16 && y.dims() == x.dims();
    takes(&[x]) && y.is_none_or(alike) && b.is_none_or(|b| beside(x, b))
}

pub(super) fn total(x: &Tensor, y: Option<&Tensor>, b: Option<&Tensor>) -> Result<Tensor> {
    let (x, [n, m]) = (rows(x)?, extents(x, b));
    let z = empty(x.shape(), DType::BF16, x.device())?;
    let (extent, _) = columns(n, m);
    match y {
        Some(y) => {
            let y = rows(y)?;
            let args = [
                Arg::Tensor(&x),
                Arg::Tensor(&y),
                Arg::maybe(b),
                Arg::Tensor(&z),
                Arg::Int(n),
                Arg::Int(m),
            ];
            launch(CODE, "ended_residual", extent, &args)?;
        }
        None => forward(&x, b, &z, [n, m], IDENTITY)?,
    }
    Ok(z)
}

fn forward(
    u: &Tensor,
    b: Option<&Tensor>,
    y: &Tensor,
    [n, m]: [usize; 2],
    of: usize,
) -> Result<()> {
    let args = [
        Arg::Tensor(u),
        Arg::maybe(b),
        Arg::Tensor(y),
        Arg::Int(n),
        Arg::Int(m),
        Arg::Int(of),
    ];
    launch(CODE, "ended_forward", columns(n, m).0, &args)
}

pub(super) fn column_sums(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let x = rows(x)?;
    let m: usize = shape.iter().product();
    let n = x.elem_count() / m;
    let (extent, slabs) = columns(n, m);
    let part = empty((slabs, m), DType::F32, x.device())?;
    let args = [
        Arg::Tensor(&x),
        Arg::Tensor(&part),
        Arg::Int(n),
        Arg::Int(m),
    ];
    launch(CODE, "ended_residual_column", extent, &args)?;
    added(&part)?.reshape(shape)
}

impl Kernel for Ended {
    fn takes(&self, inputs: &[&Tensor]) -> bool {
        takes(inputs) && inputs[1..].iter().all(|b| beside(inputs[0], b))
    }

    fn value(&self, inputs: &[&Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        let (u, b) = (rows(inputs[0])?, inputs.get(1).copied());
        let y = empty(u.shape(), DType::BF16, u.device())?;
        forward(&u, b, &y, extents(&u, b), self.0 as usize)?;
        Ok((y, Vec::new()))
    }

    fn cotangents(&self, inputs: &[&Tensor], _: &[Tensor], back: &Tensor) -> Result<Vec<Tensor>> {
        let (u, b) = (rows(inputs[0])?, inputs.get(1).copied());
        let (back, [n, m]) = (rows(back)?, extents(&u, b));
        let du = empty(u.shape(), DType::BF16, u.device())?;
        let (extent, slabs) = columns(n, m);
        let part = b.map(|_| empty((slabs, m), DType::F32, u.device()));
        let part = part.transpose()?;
        let args = [
            Arg::Tensor(&u),
            Arg::maybe(b),
            Arg::Tensor(&back),
            Arg::Tensor(&du),
            Arg::maybe(part.as_ref()),
            Arg::Int(n),
            Arg::Int(m),
            Arg::Int(self.0 as usize),
        ];
        launch(CODE, "ended_backward", extent, &args)?;
        let mut all = vec![du];
        if let (Some(part), Some(b)) = (part, b) {
            all.push(added(&part)?.reshape(b.shape())?);
        }
        Ok(all)
    }
}

impl Gated {
    fn extent(count: usize) -> Extent {
        Extent {
            grid: [count.div_ceil(2048).clamp(1, 4096), 1, 1],
            block: [THREADS, 1],
            shared: 0,
        }
    }
}

impl Kernel for Gated {
    fn takes(&self, inputs: &[&Tensor]) -> bool {
        let alike = inputs[0].dims() == inputs[1].dims() && inputs[1].dtype() == DType::BF16;
        takes(inputs) && alike
    }

    fn value(&self, inputs: &[&Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        let (a, b) = (rows(inputs[0])?, rows(inputs[1])?);
        let y = empty(a.shape(), DType::BF16, a.device())?;
        let count = a.elem_count();
        let args = [
            Arg::Tensor(&a),
            Arg::Tensor(&b),
            Arg::Tensor(&y),
            Arg::Count(count),
            Arg::Int(self.0 as usize),
        ];
        launch(CODE, "ended_gated", Gated::extent(count), &args)?;
        Ok((y, Vec::new()))
    }

    fn cotangents(&self, inputs: &[&Tensor], _: &[Tensor], back: &Tensor) -> Result<Vec<Tensor>> {
        let (a, b, back) = (rows(inputs[0])?, rows(inputs[1])?, rows(back)?);
        let made = || empty(a.shape(), DType::BF16, a.device());
        let (da, db) = (made()?, made()?);
        let count = a.elem_count();
        let args = [
            Arg::Tensor(&a),
            Arg::Tensor(&b),
            Arg::Tensor(&back),
            Arg::Tensor(&da),
            Arg::Tensor(&db),
            Arg::Count(count),
            Arg::Int(self.0 as usize),
        ];
        launch(CODE, "ended_gated_backward", Gated::extent(count), &args)?;
        Ok(vec![da, db])
    }
}
