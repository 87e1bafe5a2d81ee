//! Attention without scores of all pairs.

use candle_core::{DType, Result, Tensor, bail};

use super::launch::{Arg, Code, Extent, empty, launch, rows, takes};
use crate::local::Kernel;

/// Widths of heads that kernels are compiled for.
const HEADS: [usize; 4] = [32, 64, 96, 128];
const THREADS: usize = 128;
/// Blocks along the second and third axis of a grid, at most.
const BLOCKS: usize = 65_535;
/// Queries of a block.
const QUERIES: usize = 128;

/// Attention of queries from position `first` on.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) causal: bool,
    pub(super) first: usize,
}

/// q and keys with values, as kernels read them, and their extents.
struct Parts {
    q: Tensor,
    kv: Tensor,
    b: usize,
    n: usize,
    t: usize,
    g: usize,
    r: usize,
    d: usize,
}

impl Parts {
    fn of(inputs: &[&Tensor]) -> Result<Self> {
        let (q, kv) = (rows(inputs[0])?, rows(inputs[1])?);
        let ((b, n, g, r, d), t) = (q.dims5()?, kv.dim(1)?);
        Ok(Parts {
            q,
            kv,
            b,
            n,
            t,
            g,
            r,
            d,
        })
    }

    fn code(&self) -> Code {
        Code {
            name: "attention",
            text: concat!(include_str!("tile.cuh"), include_str!("attention.cu")),
            head: Some(self.d),
        }
    }

    /// Whether tiles are those of narrow heads.
    fn narrow(&self) -> bool {
        self.d <= 64
    }

    /// Blocks of queries.
    fn queries(&self, shared: usize) -> Extent {
        Extent {
            grid: [self.n.div_ceil(QUERIES), self.g * self.r, self.b],
            block: [THREADS, 1],
            shared,
        }
    }

    /// A number for each query of each head.
    fn by_query(&self) -> Result<Tensor> {
        let shape = (self.b, self.g * self.r, self.n);
        empty(shape, DType::F32, self.q.device())
    }
}

impl Attention {
    /// Extents and order, as every kernel takes them last.
    fn told(&self, of: &Parts) -> [Arg<'static>; 6] {
        [
            Arg::Int(of.n),
            Arg::Int(of.t),
            Arg::Int(of.g),
            Arg::Int(of.r),
            Arg::Int(self.causal.into()),
            Arg::Int(self.first),
        ]
    }
}

impl Kernel for Attention {
    fn takes(&self, inputs: &[&Tensor]) -> bool {
        let Ok((b, _, g, r, d)) = inputs[0].dims5() else {
            return false;
        };
        let fits = HEADS.contains(&d) && b.max(g * r) <= BLOCKS;
        takes(inputs) && inputs[1].dtype() == DType::BF16 && fits
    }

    fn value(&self, inputs: &[&Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        let of = Parts::of(inputs)?;
        let y = empty(of.q.shape(), DType::BF16, of.q.device())?;
        // of each query the logarithm of the sum of its weights
        let logs = of.by_query()?;
        let tensors = [&of.q, &of.kv, &y, &logs].map(Arg::Tensor);
        let args = [&tensors[..], &self.told(&of)].concat();
        let extent = of.queries(768 * of.d);
        launch(of.code(), "attention_forward", extent, &args)?;
        // the product that follows keeps y, too
        Ok((y.clone(), vec![y, logs]))
    }

    fn cotangents(
        &self,
        inputs: &[&Tensor],
        kept: &[Tensor],
        back: &Tensor,
    ) -> Result<Vec<Tensor>> {
        let [y, logs] = kept else {
            bail!("attention has kept {} tensors", kept.len());
        };
        let (of, back) = (Parts::of(inputs)?, rows(back)?);
        let along = of.by_query()?;
        let extent = Extent {
            grid: [(of.b * of.n * of.g * of.r).div_ceil(8), 1, 1],
            block: [256, 1],
            shared: 0,
        };
        let tensors = [y, &back, &along].map(Arg::Tensor);
        let numbers = [of.b, of.n, of.g * of.r].map(Arg::Int);
        let args = [&tensors[..], &numbers].concat();
        launch(of.code(), "attention_delta", extent, &args)?;
        let [to_q, to_kv] = [&of.q, &of.kv].map(|x| empty(x.shape(), DType::BF16, x.device()));
        let (to_q, to_kv) = (to_q?, to_kv?);
        let given = [&of.q, &of.kv, logs, &back, &along].map(Arg::Tensor);
        let told = self.told(&of);
        let shared = if of.narrow() { 1024 } else { 768 } * of.d;
        let args = [&given[..], &[Arg::Tensor(&to_q)], &told].concat();
        launch(of.code(), "attention_dq", of.queries(shared), &args)?;
        let (keys, more) = if of.narrow() { (128, 512) } else { (64, 1024) };
        let extent = Extent {
            grid: [of.t.div_ceil(keys), of.g, of.b],
            block: [THREADS, 1],
            shared: 768 * of.d + more,
        };
        let args = [&given[..], &[Arg::Tensor(&to_kv)], &told].concat();
        launch(of.code(), "attention_dkv", extent, &args)?;
        Ok(vec![to_q, to_kv])
    }
}
