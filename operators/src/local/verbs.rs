//! The operations of a tape as they are written: arithmetic, functions of each element, shapes.
//!
//! Operands are broadcast as in NumPy: extents are compared from the last, and 1 fits any. Names are those
//! of candle and PyTorch. Every verb refuses what does not fit with [`OperatorError::Tensor`].

use candle_core::{DType, Tensor};

use super::operation::Operation;
use super::tape::{Handle, Tape};
use crate::OperatorError;

type Result<T> = std::result::Result<T, OperatorError>;

/// Verbs of one operand that need nothing else.
macro_rules! of_each_element {
    ($($(#[$doc:meta])* $verb:ident = $operation:ident;)*) => {
        impl Tape {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// If the value of `x` was let go, or has no floating-point type.
                pub fn $verb(&mut self, x: Handle) -> Result<Handle> {
                    self.smooth(stringify!($verb), x)?;
                    self.apply(Operation::$operation, &[x])
                }
            )*
        }
    };
}

of_each_element! {
    /// $e^x$.
    exp = Exp;
    /// $\ln x$; x > 0.
    log = Log;
    /// $\sqrt x$; x > 0. At 0 the derivative is infinite: keep away from it, as in $\sqrt{x + \epsilon}$.
    sqrt = Sqrt;
    /// $1 / x$.
    recip = Recip;
    /// $\sin x$.
    sin = Sin;
    /// $\cos x$.
    cos = Cos;
    /// $\tanh x$.
    tanh = Tanh;
    /// $\sigma(x) = 1 / (1 + e^{-x})$.
    sigmoid = Sigmoid;
    /// $\max(x, 0)$; at 0 the derivative is 0.
    relu = Relu;
    /// $x\,\sigma(x)$ (Elfwing et al. 2018; also called swish).
    silu = Silu;
    /// $\tfrac12 x\,(1 + \tanh(\sqrt{2/\pi}\,(x + 0.044715\,x^3)))$ (Hendrycks and Gimpel 2016).
    gelu = Gelu;
    /// $e^{x_i} / \sum_j e^{x_j}$ over the last dimension. A row of $-\infty$ gives NaN.
    softmax = Softmax;
    /// $x_i - \ln \sum_j e^{x_j}$ over the last dimension.
    log_softmax = LogSoftmax;
}

impl Tape {
    /// A refusal of whole numbers.
    fn smooth(&self, verb: &'static str, x: Handle) -> Result<()> {
        let dtype = self.dtype(x)?;
        match dtype.is_float() {
            true => Ok(()),
            false => {
                let why = format!(
                    "{} is of {dtype:?}; give floating-point numbers",
                    self.name(x)
                );
                Err(OperatorError::tensor(verb, why))
            }
        }
    }
}

/// Verbs of two operands that are broadcast to one shape.
macro_rules! of_two {
    ($($(#[$doc:meta])* $verb:ident = $operation:ident;)*) => {
        impl Tape {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// If the shapes cannot be broadcast to one, or the types differ.
                pub fn $verb(&mut self, a: Handle, b: Handle) -> Result<Handle> {
                    let (a, b) = self.together(stringify!($verb), a, b)?;
                    self.apply(Operation::$operation, &[a, b])
                }
            )*
        }
    };
}

of_two! {
    /// a + b.
    add = Add;
    /// a − b.
    sub = Subtract;
    /// a b, element by element.
    mul = Multiply;
    /// a / b, element by element.
    div = Divide;
}

impl Tape {
    /// scale x + shift.
    ///
    /// # Errors
    /// If the value of `x` was let go.
    pub fn affine(&mut self, x: Handle, scale: f64, shift: f64) -> Result<Handle> {
        self.apply(Operation::Affine { scale, shift }, &[x])
    }

    /// −x.
    ///
    /// # Errors
    /// As [`Tape::affine`].
    pub fn neg(&mut self, x: Handle) -> Result<Handle> {
        self.affine(x, -1.0, 0.0)
    }

    /// $x^p$; x > 0 unless p is a whole number.
    ///
    /// # Errors
    /// As [`Tape::affine`].
    pub fn powf(&mut self, x: Handle, p: f64) -> Result<Handle> {
        self.apply(Operation::Power(p), &[x])
    }

    /// $x^2$.
    ///
    /// # Errors
    /// As [`Tape::affine`].
    pub fn sqr(&mut self, x: Handle) -> Result<Handle> {
        self.apply(Operation::Multiply, &[x, x])
    }

    /// The product over the last two dimensions: `[…, m, k]` by `[…, k, n]` to `[…, m, n]`. The dimensions
    /// before them are broadcast; a matrix b is used for all of a without a copy.
    ///
    /// # Errors
    /// If an operand has less than two dimensions, or the extents do not fit.
    pub fn matmul(&mut self, a: Handle, b: Handle) -> Result<Handle> {
        let (of_a, of_b) = (self.shape(a)?.to_vec(), self.shape(b)?.to_vec());
        let unfit = || {
            let why =
                format!("{of_a:?} and {of_b:?} have no product; give […, m, k] and […, k, n]");
            OperatorError::tensor("matmul", why)
        };
        let ([lead_a @ .., m, k], [lead_b @ .., rows, n]) = (&of_a[..], &of_b[..]) else {
            return Err(unfit());
        };
        if k != rows {
            return Err(unfit());
        }
        if lead_b.is_empty() && !lead_a.is_empty() {
            let rows = lead_a.iter().product::<usize>() * m;
            let flat = self.reshape(a, &[rows, *k])?;
            let made = self.apply(Operation::MatMul, &[flat, b])?;
            return self.reshape(made, &[lead_a, &[*m, *n]].concat());
        }
        let lead = common(lead_a, lead_b).ok_or_else(unfit)?;
        let a = self.broadcast(a, &[&lead[..], &[*m, *k]].concat())?;
        let b = self.broadcast(b, &[&lead[..], &[*k, *n]].concat())?;
        self.apply(Operation::MatMul, &[a, b])
    }

    /// The same tensor for one of its uses: cotangents of this use add up before they meet those of others.
    pub(crate) fn use_of(&mut self, x: Handle) -> Result<Handle> {
        let shape = self.shape(x)?.into();
        self.apply(Operation::Reshape(shape), &[x])
    }

    /// The same numbers in other extents.
    ///
    /// # Errors
    /// If they hold another number of elements.
    pub fn reshape(&mut self, x: Handle, shape: &[usize]) -> Result<Handle> {
        match self.shape(x)? == shape {
            true => Ok(x),
            false => self.apply(Operation::Reshape(shape.into()), &[x]),
        }
    }

    /// Dimension `i` of the result is dimension `dims[i]` of x.
    ///
    /// # Errors
    /// If `dims` is no permutation.
    pub fn permute(&mut self, x: Handle, dims: &[usize]) -> Result<Handle> {
        self.apply(Operation::Permute(dims.into()), &[x])
    }

    /// The last two dimensions change places.
    ///
    /// # Errors
    /// If there are not two.
    pub fn transpose(&mut self, x: Handle) -> Result<Handle> {
        let rank = self.shape(x)?.len();
        if rank < 2 {
            let why = format!("{:?} has not two dimensions", self.shape(x)?);
            return Err(OperatorError::tensor("transpose", why));
        }
        let mut dims: Vec<usize> = (0..rank).collect();
        dims.swap(rank - 2, rank - 1);
        self.permute(x, &dims)
    }

    /// Copies along extents of 1 and along new leading dimensions; no memory is taken.
    ///
    /// # Errors
    /// If x does not fit into `shape`.
    pub fn broadcast(&mut self, x: Handle, shape: &[usize]) -> Result<Handle> {
        match self.shape(x)? == shape {
            true => Ok(x),
            false => self.apply(Operation::Broadcast(shape.into()), &[x]),
        }
    }

    /// `len` elements of dimension `dim`, from `start` on.
    ///
    /// # Errors
    /// If they are not there.
    pub fn narrow(&mut self, x: Handle, dim: usize, start: usize, len: usize) -> Result<Handle> {
        self.apply(Operation::Narrow { dim, start, len }, &[x])
    }

    /// Zeros before and after the elements of dimension `dim`.
    ///
    /// # Errors
    /// If there is no such dimension.
    pub fn pad(&mut self, x: Handle, dim: usize, before: usize, after: usize) -> Result<Handle> {
        match before + after {
            0 => Ok(x),
            _ => self.apply(Operation::Pad { dim, before, after }, &[x]),
        }
    }

    /// Tensors one after the other along dimension `dim`.
    ///
    /// # Errors
    /// If there is none, or other extents differ.
    pub fn concat(&mut self, parts: &[Handle], dim: usize) -> Result<Handle> {
        let Some(first) = parts.first() else {
            let why = "there is nothing to put together".to_owned();
            return Err(OperatorError::tensor("concat", why));
        };
        let rank = self.shape(*first)?.len();
        self.check_dim("concat", dim, rank)?;
        self.apply(Operation::Concat { dim }, parts)
    }

    /// The sum over dimensions, which go.
    ///
    /// # Errors
    /// If a dimension is not there.
    pub fn sum(&mut self, x: Handle, dims: &[usize]) -> Result<Handle> {
        let shape = self.shape(x)?;
        let left = shape.iter().enumerate().filter(|(i, _)| !dims.contains(i));
        let left: Vec<usize> = left.map(|(_, &n)| n).collect();
        let sums = self.sum_keepdim(x, dims)?;
        self.reshape(sums, &left)
    }

    /// The sum over dimensions, which stay with extent 1.
    ///
    /// # Errors
    /// As [`Tape::sum`].
    pub fn sum_keepdim(&mut self, x: Handle, dims: &[usize]) -> Result<Handle> {
        let rank = self.shape(x)?.len();
        for &dim in dims {
            self.check_dim("sum", dim, rank)?;
        }
        let mut dims = dims.to_vec();
        dims.sort_unstable();
        dims.dedup();
        match dims.is_empty() {
            true => Ok(x),
            false => self.apply(Operation::Sum(dims.into()), &[x]),
        }
    }

    /// x and more terms added up, in the type of x and rounded once: of `bf16`, sums are worked in `f32`. A term has the
    /// extents of x, or its last ones; its cotangent has its own type.
    ///
    /// # Errors
    /// If extents do not fit.
    pub fn total(&mut self, x: Handle, more: &[Handle]) -> Result<Handle> {
        let of = self.shape(x)?.to_vec();
        for &term in more {
            let shape = self.shape(term)?;
            if !of.ends_with(shape) {
                let why = format!("{of:?} does not end with {shape:?}");
                return Err(OperatorError::tensor("total", why));
            }
        }
        match more.is_empty() {
            true => Ok(x),
            false => self.apply(Operation::Total, &[&[x], more].concat()),
        }
    }

    /// The sum of all elements, `[]`.
    ///
    /// # Errors
    /// As [`Tape::sum`].
    pub fn sum_all(&mut self, x: Handle) -> Result<Handle> {
        let dims: Vec<usize> = (0..self.shape(x)?.len()).collect();
        self.sum(x, &dims)
    }

    /// The mean over dimensions, which go.
    ///
    /// # Errors
    /// As [`Tape::sum`].
    pub fn mean(&mut self, x: Handle, dims: &[usize]) -> Result<Handle> {
        let shape = self.shape(x)?;
        let over = shape.iter().enumerate().filter(|(i, _)| dims.contains(i));
        let count: usize = over.map(|(_, n)| n).product();
        let sums = self.sum(x, dims)?;
        self.affine(sums, 1.0 / count as f64, 0.0)
    }

    /// The numbers in another type. Integers have no derivative.
    ///
    /// # Errors
    /// If there is no such conversion.
    pub fn cast(&mut self, x: Handle, to: DType) -> Result<Handle> {
        match self.dtype(x)? == to {
            true => Ok(x),
            false => self.apply(Operation::Cast(to), &[x]),
        }
    }

    /// Zeros in the shape and type of x, without a derivative.
    ///
    /// # Errors
    /// As [`Tape::device`].
    pub fn zeros_like(&mut self, x: Handle) -> Result<Handle> {
        self.filled(x, Tensor::zeros((), self.dtype(x)?, self.device(x)?))
    }

    /// Ones in the shape and type of x, without a derivative: the cotangent of a sum.
    ///
    /// # Errors
    /// As [`Tape::device`].
    pub fn ones_like(&mut self, x: Handle) -> Result<Handle> {
        self.filled(x, Tensor::ones((), self.dtype(x)?, self.device(x)?))
    }

    fn filled(&mut self, x: Handle, number: candle_core::Result<Tensor>) -> Result<Handle> {
        let whole = number?.broadcast_as(self.shape(x)?)?;
        Ok(self.constant(&whole))
    }

    /// The adjoint of broadcasting from `shape`.
    pub(super) fn sum_to(&mut self, x: Handle, shape: &[usize]) -> Result<Handle> {
        let from = self.shape(x)?;
        let new = from.len() - shape.len();
        let copied = |i: &usize| *i < new || (shape[*i - new] == 1 && from[*i] != 1);
        let dims: Vec<usize> = (0..from.len()).filter(copied).collect();
        let sums = self.sum_keepdim(x, &dims)?;
        self.reshape(sums, shape)
    }

    fn together(&mut self, verb: &'static str, a: Handle, b: Handle) -> Result<(Handle, Handle)> {
        let (of_a, of_b) = (self.shape(a)?, self.shape(b)?);
        let shape = common(of_a, of_b).ok_or_else(|| {
            let why = format!("{of_a:?} and {of_b:?} cannot be broadcast to one shape");
            OperatorError::tensor(verb, why)
        })?;
        Ok((self.broadcast(a, &shape)?, self.broadcast(b, &shape)?))
    }

    fn check_dim(&self, verb: &'static str, dim: usize, rank: usize) -> Result<()> {
        if dim < rank {
            return Ok(());
        }
        let why = format!("there is no dimension {dim} among {rank}");
        Err(OperatorError::tensor(verb, why))
    }
}

/// The shape that both are broadcast to.
fn common(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], i: usize| match (i + shape.len()).checked_sub(rank) {
        Some(at) => shape[at],
        None => 1,
    };
    let pairs = (0..rank).map(|i| (extent(a, i), extent(b, i)));
    let one = |(a, b)| match (a, b) {
        (1, n) | (n, 1) => Some(n),
        (a, b) => (a == b).then_some(a),
    };
    pairs.map(one).collect()
}
