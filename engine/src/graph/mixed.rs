//! Mixed precision: what flows is `bf16`, arithmetic and what is learned are `f32`.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use half::bf16;

use crate::error::{EngineError, Result};
use crate::graph::{Operator, Saved, Site, Spec};
use crate::mesh::Mesh;
use crate::shard::{DType, Data, Shard, buffer};

/// An operator in `f32` between tensors in `bf16`: they are widened at its edges, and what it makes is rounded
/// to the nearest, ties to even. So tensors that wait or travel take half the bytes, and no sum inside of
/// an operator is rounded on its way.
///
/// What comes in `f32` stays so, and so does its cotangent: parameters, whose gradients are then added up
/// over micro-batches and workers in `f32`, and are steps of an optimizer on weights that lose nothing to
/// rounding. [`Mixed::rounding`] names those that enter products, where the values are rounded as a
/// machine with products in `bf16` has them. Other types pass.
///
/// `bf16` has the exponents of `f32`, so that no gradient is lost for being small and no loss is scaled.
/// Sources: Micikevicius et al. (2018), *Mixed precision training*, section 3; Kalamkar et al. (2019), *A
/// study of BFLOAT16 for deep learning training*.
#[derive(Clone)]
pub struct Mixed {
    inner: Arc<dyn Operator>,
    rounded: Vec<usize>,
    whole: bool,
}

impl Mixed {
    /// An operator between tensors in `bf16`.
    pub fn of(inner: impl Operator + 'static) -> Self {
        Mixed {
            inner: Arc::new(inner),
            rounded: Vec::new(),
            whole: false,
        }
    }

    /// The same with the values of these inputs rounded, if they come in `f32`.
    #[must_use]
    pub fn rounding(self, inputs: impl Into<Vec<usize>>) -> Self {
        Mixed {
            rounded: inputs.into(),
            ..self
        }
    }

    /// The same with outputs in `f32`: partials that will be merged, and losses.
    #[must_use]
    pub fn whole(self) -> Self {
        Mixed {
            whole: true,
            ..self
        }
    }

    /// The place of the operator inside.
    fn site(&self, site: &Site) -> Site {
        let wide = |specs: &[Spec]| specs.iter().map(widened).collect();
        Site {
            inputs: wide(&site.inputs),
            outputs: wide(&site.outputs),
            ..site.clone()
        }
    }

    /// An input as the operator inside has it.
    fn input(&self, number: usize, shard: &Shard) -> Shard {
        match shard.dtype() {
            DType::F32 if self.rounded.contains(&number) => wide(&narrow(shard)),
            _ => wide(shard),
        }
    }

    /// Calls `f` with what the operator inside kept.
    fn inside<R>(
        &self,
        site: &Site,
        saved: &Saved,
        f: impl FnOnce(&Site, &Saved) -> Result<R>,
    ) -> Result<R> {
        let numbers = self.inner.keeps();
        let inputs = numbers.iter().map(|&i| {
            let kept = saved.input(site, i)?;
            Ok((i, self.input(i, kept)))
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let site_inside = self.site(site);
        match saved.get(site)? {
            Keeps::Shards(shards) => {
                let mut again = Saved::shards(shards.iter().map(wide).collect());
                again.put(inputs);
                f(&site_inside, &again)
            }
            Keeps::Other(inner) => {
                let mut inner = inner.try_borrow_mut().map_err(|_| busy(site))?;
                inner.put(inputs);
                let made = f(&site_inside, &inner);
                inner.put(Vec::new());
                made
            }
        }
    }
}

/// What the operator inside kept beside its inputs.
enum Keeps {
    /// Shards; those in the form of an output are rounded as outputs are.
    Shards(Vec<Shard>),
    Other(RefCell<Saved>),
}

impl Operator for Mixed {
    fn infer(&self, mesh: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let wide: Vec<Spec> = inputs.iter().map(widened).collect();
        let mut outputs = self.inner.infer(mesh, &wide)?;
        if !self.whole {
            let narrow = outputs.iter_mut().filter(|spec| spec.dtype == DType::F32);
            narrow.for_each(|spec| spec.dtype = DType::BF16);
        }
        Ok(outputs)
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let wide = inputs.iter().enumerate().map(|(i, x)| self.input(i, x));
        let wide: Vec<Shard> = wide.collect();
        let (made, mut kept) = self.inner.forward(&self.site(site), &wide)?;
        drop(wide);
        let outputs: Vec<Shard> = (made.iter().enumerate())
            .map(|(i, y)| output(site, i, y))
            .collect();
        let saved = match kept.take_shards() {
            Some(shards) => {
                let as_output = |kept: Shard| {
                    let same = made
                        .iter()
                        .position(|y| std::ptr::eq(y.data().as_bytes(), kept.data().as_bytes()));
                    let form = || outputs.iter().position(|y| y.shape == kept.shape);
                    match (same, form()) {
                        (Some(i), _) => outputs[i].clone(),
                        (None, Some(i)) => output(site, i, &kept),
                        (None, None) => kept,
                    }
                };
                let shards: Vec<Shard> = shards.into_iter().map(as_output).collect();
                let bytes = shards.iter().map(Shard::bytes_len).sum();
                Saved::new(Keeps::Shards(shards), bytes)
            }
            None => {
                let bytes = kept.bytes();
                Saved::new(Keeps::Other(RefCell::new(kept)), bytes)
            }
        };
        Ok((outputs, saved))
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let tangents: Vec<Shard> = tangents.iter().map(wide).collect();
        let made = self.inside(site, saved, |at, kept| {
            self.inner.tangent(at, kept, &tangents)
        })?;
        Ok((made.iter().enumerate())
            .map(|(i, y)| output(site, i, y))
            .collect())
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let cotangents: Vec<Shard> = cotangents.iter().map(wide).collect();
        let found = self.inside(site, saved, |at, kept| {
            self.inner.adjoint(at, kept, &cotangents, wanted)
        })?;
        let back = |(found, spec): (Option<Shard>, &Spec)| {
            found.map(|found| match spec.dtype {
                DType::BF16 => narrow(&found),
                _ => found,
            })
        };
        Ok(found.into_iter().zip(&site.inputs).map(back).collect())
    }

    fn keeps(&self) -> &[usize] {
        self.inner.keeps()
    }

    fn separable(&self) -> bool {
        self.inner.separable()
    }

    fn differentiable(&self, input: usize) -> bool {
        self.inner.differentiable(input)
    }
}

impl fmt::Debug for Mixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A tensor as it is inside.
fn widened(spec: &Spec) -> Spec {
    let dtype = match spec.dtype {
        DType::BF16 => DType::F32,
        other => other,
    };
    Spec {
        dtype,
        ..spec.clone()
    }
}

/// A piece in `f32`, if it is in `bf16`.
fn wide(shard: &Shard) -> Shard {
    if shard.dtype() != DType::BF16 {
        return shard.clone();
    }
    let mut to: Vec<f32> = buffer(shard.len());
    let pairs = to.iter_mut().zip(shard.elements::<bf16>());
    pairs.for_each(|(to, x)| *to = x.to_f32());
    like(shard, to.into())
}

/// A piece in `bf16`, if it is in `f32`.
fn narrow(shard: &Shard) -> Shard {
    if shard.dtype() != DType::F32 {
        return shard.clone();
    }
    let mut to: Vec<bf16> = buffer(shard.len());
    let pairs = to.iter_mut().zip(shard.elements::<f32>());
    pairs.for_each(|(to, x)| *to = bf16::from_f32(*x));
    like(shard, to.into())
}

fn like(shard: &Shard, data: Data) -> Shard {
    Shard::new(shard.key, shard.shape.clone(), data)
        .addressed(shard.from as usize, shard.to as usize)
}

/// What the operator inside makes, as the one around it gives it.
fn output(site: &Site, number: usize, shard: &Shard) -> Shard {
    match site.outputs[number].dtype {
        DType::BF16 => narrow(shard),
        _ => shard.clone(),
    }
}

fn busy(site: &Site) -> EngineError {
    site.error("what it kept is in use; a derivative is not taken inside of itself")
}
