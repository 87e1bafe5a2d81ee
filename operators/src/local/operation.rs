//! The primitive operations, forward.

use std::borrow::Cow;
use std::rc::Rc;

use candle_core::{D, DType, Device, Result, Tensor};

use super::remake::Segment;
use crate::gpu;

/// Extents, or numbers of dimensions.
pub(super) type Extents = Rc<[usize]>;

/// What a node of a tape does with its inputs. Operands of arithmetic have one shape: broadcasting is an
/// operation of its own, whose adjoint is a sum.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Leaf(Cow<'static, str>),
    // ---- arithmetic
    Add,
    Subtract,
    Multiply,
    Divide,
    /// scale x + shift
    Affine {
        scale: f64,
        shift: f64,
    },
    MatMul,
    // ---- functions of each element
    Exp,
    Log,
    Sqrt,
    Recip,
    Power(f64),
    Sin,
    Cos,
    Tanh,
    Sigmoid,
    Relu,
    Silu,
    Gelu,
    // ---- functions of the last dimension
    Softmax,
    LogSoftmax,
    // ---- shapes
    Reshape(Extents),
    Permute(Extents),
    Broadcast(Extents),
    Narrow {
        dim: usize,
        start: usize,
        len: usize,
    },
    Pad {
        dim: usize,
        before: usize,
        after: usize,
    },
    Concat {
        dim: usize,
    },
    /// Summed dimensions stay, with extent 1.
    Sum(Extents),
    /// The sum of all inputs in the type of the first, rounded once; later ones may lack leading dimensions.
    Total,
    /// The sum over the dimensions before these, of `bf16` in `f32`.
    Columns(Extents),
    Cast(DType),
    // ---- rows by number
    /// (x, ids): row `ids[i]` of x
    Gather,
    /// (x, ids): row r is the sum of the rows of x with `ids[i] = r`
    SegmentSum {
        rows: usize,
    },
    // ---- choices
    /// (mask, a, b)
    Choose,
    Above(f64),
    // ---- made again
    /// One of the results of a segment.
    Segment {
        of: Rc<Segment>,
        part: usize,
    },
}

impl Operation {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Operation::Leaf(_) => "input",
            Operation::Add => "add",
            Operation::Subtract => "sub",
            Operation::Multiply => "mul",
            Operation::Divide => "div",
            Operation::Affine { .. } => "affine",
            Operation::MatMul => "matmul",
            Operation::Exp => "exp",
            Operation::Log => "log",
            Operation::Sqrt => "sqrt",
            Operation::Recip => "recip",
            Operation::Power(_) => "powf",
            Operation::Sin => "sin",
            Operation::Cos => "cos",
            Operation::Tanh => "tanh",
            Operation::Sigmoid => "sigmoid",
            Operation::Relu => "relu",
            Operation::Silu => "silu",
            Operation::Gelu => "gelu",
            Operation::Softmax => "softmax",
            Operation::LogSoftmax => "log_softmax",
            Operation::Reshape(_) => "reshape",
            Operation::Permute(_) => "permute",
            Operation::Broadcast(_) => "broadcast",
            Operation::Narrow { .. } => "narrow",
            Operation::Pad { .. } => "pad",
            Operation::Concat { .. } => "concat",
            Operation::Sum(_) => "sum",
            Operation::Total => "total",
            Operation::Columns(_) => "columns",
            Operation::Cast(_) => "cast",
            Operation::Gather => "gather_rows",
            Operation::SegmentSum { .. } => "segment_sum",
            Operation::Choose => "choose",
            Operation::Above(_) => "above",
            Operation::Segment { .. } => "remake",
        }
    }

    /// Whether a derivative with respect to input `i` exists.
    pub(super) fn differentiable(&self, i: usize) -> bool {
        match self {
            Operation::Above(_) => false,
            Operation::Gather | Operation::SegmentSum { .. } => i == 0,
            Operation::Choose => i > 0,
            Operation::Cast(to) => to.is_float(),
            Operation::Segment { of, part } => of.depends(*part, i),
            _ => true,
        }
    }

    /// Whether the adjoint reads the value of the node.
    pub(super) fn needs_itself(&self) -> bool {
        matches!(
            self,
            Operation::Leaf(_)
                | Operation::Divide
                | Operation::Exp
                | Operation::Sqrt
                | Operation::Recip
                | Operation::Tanh
                | Operation::Sigmoid
                | Operation::Relu
                | Operation::Softmax
                | Operation::LogSoftmax
        )
    }

    /// Whether the adjoint reads the value of input `i`.
    pub(super) fn needs_input(&self, i: usize) -> bool {
        match self {
            Operation::Multiply
            | Operation::MatMul
            | Operation::Log
            | Operation::Power(_)
            | Operation::Sin
            | Operation::Cos
            | Operation::Silu
            | Operation::Gelu
            | Operation::Segment { .. } => true,
            Operation::Divide | Operation::Gather | Operation::SegmentSum { .. } => i == 1,
            Operation::Choose => i == 0,
            _ => false,
        }
    }

    /// The value, from those of the inputs. Leaves and segments are put on a tape with their values.
    pub(super) fn compute(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let device = inputs[0].device();
        if device.is_cpu() || inputs.iter().all(|x| x.elem_count() > 0) {
            return self.computed(inputs);
        }
        // a GPU launches nothing for no elements and says so by an error
        let here = inputs.iter().map(|x| x.to_device(&Device::Cpu));
        let here = here.collect::<Result<Vec<_>>>()?;
        self.computed(&here.iter().collect::<Vec<_>>())?
            .to_device(device)
    }

    fn computed(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let x = inputs[0];
        match self {
            Operation::Leaf(_) | Operation::Segment { .. } => Ok(x.clone()),
            Operation::Add => x.add(inputs[1]),
            Operation::Subtract => x.sub(inputs[1]),
            Operation::Multiply => x.mul(inputs[1]),
            Operation::Divide => x.div(inputs[1]),
            Operation::Affine { scale, shift } => x.affine(*scale, *shift),
            Operation::MatMul => product(x, inputs[1]),
            Operation::Exp => x.exp(),
            Operation::Log => x.log(),
            Operation::Sqrt => x.sqrt(),
            Operation::Recip => x.recip(),
            Operation::Power(p) => x.powf(*p),
            Operation::Sin => x.sin(),
            Operation::Cos => x.cos(),
            Operation::Tanh => x.tanh(),
            Operation::Sigmoid => x.neg()?.exp()?.affine(1.0, 1.0)?.recip(),
            Operation::Relu => x.relu(),
            Operation::Silu => x.silu(),
            Operation::Gelu => x.gelu(),
            Operation::Softmax if x.elem_count() == 0 => Ok(x.clone()),
            Operation::Softmax => {
                let up = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
                up.broadcast_div(&up.sum_keepdim(D::Minus1)?)
            }
            Operation::LogSoftmax if x.elem_count() == 0 => Ok(x.clone()),
            Operation::LogSoftmax => {
                let below = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?;
                below.broadcast_sub(&below.exp()?.sum_keepdim(D::Minus1)?.log()?)
            }
            Operation::Reshape(to) => x.reshape(&**to),
            Operation::Permute(dims) => x.permute(&**dims),
            Operation::Broadcast(to) => x.broadcast_as(&**to),
            Operation::Narrow { dim, start, len } => x.narrow(*dim, *start, *len),
            Operation::Pad { dim, before, after } => x.pad_with_zeros(*dim, *before, *after),
            Operation::Concat { dim } => Tensor::cat(inputs, *dim),
            Operation::Sum(dims) => sum(x, dims),
            Operation::Total => total(x, &inputs[1..]),
            Operation::Columns(shape) => columns(x, shape),
            Operation::Cast(to) => x.to_dtype(*to),
            Operation::Gather => x.contiguous()?.index_select(&inputs[1].contiguous()?, 0),
            Operation::SegmentSum { rows } => {
                let shape = [&[*rows], &x.dims()[1..]].concat();
                let zeros = Tensor::zeros(shape, x.dtype(), x.device())?;
                zeros.index_add(&inputs[1].contiguous()?, &x.contiguous()?, 0)
            }
            Operation::Choose => x.where_cond(inputs[1], inputs[2]),
            Operation::Above(limit) => x.gt(*limit),
        }
    }
}

/// A batch of matrices whose rows or columns are runs of memory, as the product of candle takes them.
fn matrices(x: &Tensor) -> Result<Tensor> {
    let rank = x.rank();
    let batch = x.dims()[..rank - 2].iter().product::<usize>();
    let flat = |x: &Tensor| {
        let extents = &x.dims()[rank - 2..];
        x.reshape((batch, extents[0], extents[1]))
    };
    let turned = x.t()?;
    match turned.is_contiguous() && !x.is_contiguous() {
        true => flat(&turned)?.t(),
        false => flat(&x.contiguous()?),
    }
}

/// a b over the last two dimensions; the dimensions before them are alike.
fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let rank = a.rank();
    if rank < 2 || b.rank() != rank || a.dims()[..rank - 2] != b.dims()[..rank - 2] {
        candle_core::bail!("{:?} and {:?} are not matrices alike", a.dims(), b.dims());
    }
    let shape = [&a.dims()[..rank - 1], &b.dims()[rank - 1..]].concat();
    matrices(a)?.matmul(&matrices(b)?)?.reshape(shape)
}

/// x and more terms, added up in the type in which sums of its numbers are worked.
fn total(x: &Tensor, more: &[&Tensor]) -> Result<Tensor> {
    let known = match *more {
        [y] if y.dims() == x.dims() => gpu::total(x, Some(y), None),
        [b] => gpu::total(x, None, Some(b)),
        [y, b] => gpu::total(x, Some(y), Some(b)),
        _ => None,
    };
    if let Some(made) = known {
        return made;
    }
    let wide = wide(x.dtype());
    let mut sum = x.to_dtype(wide)?;
    for term in more {
        sum = sum.broadcast_add(&term.to_dtype(wide)?)?;
    }
    sum.to_dtype(x.dtype())
}

/// The sum over the dimensions before `shape`, in the type in which sums are worked.
fn columns(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if let Some(made) = gpu::column_sums(x, shape) {
        return made;
    }
    let lead: Vec<usize> = (0..x.rank() - shape.len()).collect();
    sum(&x.to_dtype(wide(x.dtype()))?, &lead)?.reshape(shape)
}

/// The type in which sums and functions are worked where numbers of type `of` flow.
pub(crate) fn wide(of: DType) -> DType {
    match of {
        DType::BF16 => DType::F32,
        other => other,
    }
}

/// The sum over `dims`, which stay with extent 1.
fn sum(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    for &dim in dims {
        shape[dim] = 1;
    }
    if x.elem_count() == 0 {
        return Tensor::zeros(shape, x.dtype(), x.device());
    }
    // Sums over rows are products with ones: the reduction of candle goes element by element there.
    let rest: usize = shape.iter().product();
    let leading = dims.iter().enumerate().all(|(i, dim)| i == *dim);
    if leading && rest > 1 && matches!(x.dtype(), DType::F32 | DType::F64) && x.is_contiguous() {
        let rows = x.elem_count() / rest;
        let ones = Tensor::ones((1, rows), x.dtype(), x.device())?;
        return ones.matmul(&x.reshape((rows, rest))?)?.reshape(shape);
    }
    x.sum_keepdim(dims)
}
