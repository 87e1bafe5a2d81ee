//! The linear map $y = f(x W + b)$ over the last dimensions of x, on whole and cut weights; the shift b and
//! the function f of each element are there if they are asked for.
//!
//! $$ u_{\ldots m} = \sum_k x_{\ldots k} W_{km} + b_m, \qquad y = f(u), \qquad \bar u = f'(u)\, \bar y, $$
//! $$ \bar x = \bar u\, W^\top, \qquad \bar W = \sum_{\ldots} x^\top \bar u, \qquad
//!    \bar b = \sum_{\ldots} \bar u . $$
//!
//! Shift and function are applied to a block of rows while it is in the caches, and so are their
//! derivatives; $\bar u$ is only ever there for some of the rows.
//!
//! k and m may each be several dimensions: a projection to heads is `[h] → [heads, d]`, so that whole
//! heads are cut, however many there are and whatever d is.
//!
//! | x | W | y | known as |
//! |---|---|---|---|
//! | cut before k | Same | as x | data (and sequence) parallel |
//! | Same | cut in m | cut alike | column parallel |
//! | cut in k | cut alike | Partial(Sum) | row parallel |
//! | Same | Same | Same | replicated |
//! | Partial(Sum) in one of them | Same | Partial(Sum) | |
//!
//! b is cut where m is. A sum has no shift and no function yet: they follow when it is finished.
//!
//! The gradient of a replicated weight comes out as `Partial(Sum)`; its all-reduce, or
//! reduce-scatter, is the relayout that the user chooses. Source of the two cuts: Shoeybi et al.
//! (2019), *Megatron-LM*, section 3.

use advect_engine::graph::{Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};
use faer::MatRef;

use super::Pointwise;
use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::product::{ROWS, block_of_rows, by_rows, over_rows};
use crate::kernels::{add_rows, add_to_rows, each, total, zeros};

/// $y = f(x W + b)$: x `[…, k…]`, W `[k…, m…]` (or `[m…, k…]`), b `[m…]`, y `[…, m…]`; `f32` or `f64`.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    /// Number of dimensions of k.
    pub(crate) over: usize,
    /// Whether W is `[m…, k…]`.
    pub(crate) transposed: bool,
    /// Whether there is a third input, b.
    shifted: bool,
    pub(crate) then: Option<Pointwise>,
}

const SUM: Placement = Placement::Partial(Monoid::Sum);
/// Rows whose $\bar u$ is there at once.
const BAND: usize = 8 * ROWS;

impl Linear {
    /// Over the last dimension of x.
    pub const LAST: Linear = Linear::over(1);

    /// Over the last `dims` dimensions of x, which are the first of W.
    pub const fn over(dims: usize) -> Self {
        Linear {
            over: dims,
            transposed: false,
            shifted: false,
            then: None,
        }
    }

    /// The same with the dimensions of W in the other order: `[m…, k…]`, as in a table of tokens.
    pub const fn transposed(self) -> Self {
        Linear {
            transposed: true,
            ..self
        }
    }

    /// The same with a shift b as third input.
    pub const fn shifted(self) -> Self {
        Linear {
            shifted: true,
            ..self
        }
    }

    /// The same, and then a function of each element.
    pub const fn then(self, function: Pointwise) -> Self {
        Linear {
            then: Some(function),
            ..self
        }
    }

    /// Where k begins among the dimensions of a weight of `rank`, and where m does.
    fn begins(&self, rank: usize) -> (usize, usize) {
        match self.transposed {
            true => (rank - self.over, 0),
            false => (0, self.over),
        }
    }

    /// W as a matrix of rows k and columns m.
    fn weight<'a, T: Real>(&self, w: &'a Shard) -> MatRef<'a, T> {
        match self.transposed {
            true => matrix(w, w.shape.len() - self.over).transpose(),
            false => matrix(w, self.over),
        }
    }
}

impl Operator for Linear {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Linear";
        let ranks = [self.over, self.over, 0];
        let dtype = reals(NAME, inputs, &ranks[..2 + usize::from(self.shifted)])?;
        let (x, w) = (&inputs[0], &inputs[1]);
        let lead = x.shape.len() - self.over;
        let (k, m) = self.begins(w.shape.len());
        let columns = w.shape.len() - self.over;
        if x.shape[lead..] != w.shape[k..k + self.over] {
            let side = if self.transposed { "last" } else { "first" };
            let why = format!("the last extents of {x} are not the {side} of {w}");
            return refuse(NAME, why);
        }
        if let Some(b) = inputs.get(2).filter(|b| b.shape != w.shape[m..m + columns]) {
            return refuse(
                NAME,
                format!("{b} has not the extents of the columns of {w}"),
            );
        }
        let plain = !self.shifted && self.then.is_none();
        let mend = "cut x before the summed dimensions beside a weight that is Same, or keep x Same \
                    beside a weight cut in its columns, or, without shift and function, cut both \
                    alike in a summed dimension; a shift is cut as the columns are";
        let layout = layout(NAME, inputs, mend, |on| {
            let shift = on.get(2).copied();
            let whole = shift.is_none_or(|b| b == Placement::Same);
            match (on[0], on[1]) {
                (Placement::Same, Placement::Same) if whole => Some(Placement::Same),
                (Placement::Same, Placement::Split { dim })
                    if (m..m + columns).contains(&dim)
                        && shift.is_none_or(|b| b == (Placement::Split { dim: dim - m })) =>
                {
                    Some(Placement::Split {
                        dim: lead + dim - m,
                    })
                }
                (Placement::Split { dim: of_x }, Placement::Split { dim })
                    if plain && (k..k + self.over).contains(&dim) && of_x == lead + dim - k =>
                {
                    Some(SUM)
                }
                (SUM, Placement::Same) | (Placement::Same, SUM) if plain => Some(SUM),
                (cut @ Placement::Split { dim }, Placement::Same) if whole && dim < lead => {
                    Some(cut)
                }
                (cut, Placement::Same) if plain && cut.dim().is_some_and(|dim| dim < lead) => {
                    Some(cut)
                }
                _ => None,
            }
        })?;
        let shape = [&x.shape[..lead], &w.shape[m..m + columns]].concat();
        Ok(vec![Spec::new(shape, dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let (x, w) = (self.rows::<T>(&inputs[0]), self.weight::<T>(&inputs[1]));
            let b = inputs.get(2).map(Shard::elements::<T>);
            let mut u = buffer(x.nrows() * w.ncols());
            let mut y = buffer(if self.then.is_some() { u.len() } else { 0 });
            let run = (ROWS * w.ncols()).max(1);
            let mut outputs = y.chunks_mut(run);
            let blocks = u.chunks_mut(run).enumerate().map(|(at, u)| (at, u, outputs.next()));
            each(blocks.collect(), |(at, u, y): (usize, &mut [T], Option<&mut [T]>)| {
                block_of_rows(x, w, at, u);
                if let Some(b) = b {
                    add_to_rows(u, b);
                }
                if let (Some(f), Some(y)) = (self.then, y) {
                    f.values(u, y);
                }
            });
            let shard = |of: Vec<T>| Shard::new(site.key(), site.output_shape(0), T::data(of));
            let u = shard(u);
            Ok(match self.then {
                Some(_) => (vec![shard(y)], Saved::shards(vec![u])),
                None => (vec![u], Saved::shards(vec![])),
            })
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1]
    }

    fn separable(&self) -> bool {
        true
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let (x, w) = (saved.input(site, 0)?, saved.input(site, 1)?);
        let kept: &Vec<Shard> = saved.get(site)?;
        with_real!(site, x.dtype(), T => {
            let by_x = self.times::<T>(&tangents[0], w);
            let mut sum = self.times::<T>(x, &tangents[1]);
            sum.iter_mut().zip(by_x).for_each(|(sum, x)| *sum += x);
            if let Some(b) = tangents.get(2) {
                add_to_rows(&mut sum, b.elements::<T>());
            }
            if let (Some(f), Some(u)) = (self.then, kept.first()) {
                let along = sum.clone();
                f.slopes(u.elements::<T>(), &along, &mut sum);
            }
            Ok(vec![Shard::new(site.key(), site.output_shape(0), sum.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let (x, w) = (saved.input(site, 0)?, saved.input(site, 1)?);
        let kept: &Vec<Shard> = saved.get(site)?;
        with_real!(site, x.dtype(), T => {
            let given = cotangents[0].elements::<T>();
            let u = kept.first().map(Shard::elements::<T>);
            let found = self.back(x, w, u, given, wanted);
            let shapes = [0, 1, 2].map(|i| if i < wanted.len() { site.input_shape(i) } else { vec![] });
            let answers = found.into_iter().zip(shapes).take(wanted.len());
            Ok(answers
                .map(|(v, shape)| v.map(|v| Shard::new(site.key(), shape, v.into())))
                .collect())
        })
    }
}

/// Cotangents of x, W and b.
type Found<T> = [Option<Vec<T>>; 3];

/// A block of rows on the way back: its number, and where its cotangents go.
type Block<'a, T> = (usize, &'a [T], &'a mut [T], &'a mut [T], &'a mut [T]);

impl Linear {
    fn rows<'a, T: Real>(&self, x: &'a Shard) -> MatRef<'a, T> {
        matrix(x, x.shape.len() - self.over)
    }

    fn times<T: Real>(&self, x: &Shard, w: &Shard) -> Vec<T> {
        let (x, w) = (self.rows::<T>(x), self.weight::<T>(w));
        let mut y = buffer(x.nrows() * w.ncols());
        by_rows(x, w, &mut y);
        y
    }

    /// Band after band of rows: $\bar u$, $\bar x$ and sums for $\bar b$ by blocks of rows, then
    /// $\bar W$ by tiles.
    fn back<T: Real>(
        &self,
        x: &Shard,
        w: &Shard,
        u: Option<&[T]>,
        given: &[T],
        wanted: &[bool],
    ) -> Found<T> {
        let (x, w) = (self.rows::<T>(x), self.weight::<T>(w));
        let (height, k, m) = (x.nrows(), w.nrows(), w.ncols());
        let size = |wanted: bool, n: usize| if wanted { n } else { 0 };
        let to_b = wanted.get(2).copied().unwrap_or(false);
        let mut to_x = buffer(size(wanted[0], height * k));
        let mut to_w = zeros(size(wanted[1], k * m));
        let mut parts = vec![T::of(0.0); size(to_b, height.div_ceil(ROWS).max(1) * m)];
        let mut band = buffer(size(u.is_some(), BAND.min(height) * m));
        for first in (0..height).step_by(BAND) {
            let rows = BAND.min(height - first);
            let given = &given[first * m..][..rows * m];
            let mut to_x = to_x[size(wanted[0], first * k)..].chunks_mut((ROWS * k).max(1));
            let mut parts = parts[size(to_b, first / ROWS * m)..].chunks_mut(m.max(1));
            let mut slopes = band.chunks_mut((ROWS * m).max(1));
            let blocks = given
                .chunks((ROWS * m).max(1))
                .enumerate()
                .map(|(at, given)| {
                    let own = slopes.next().map(|s| &mut s[..given.len()]);
                    let (own, part) = (own.unwrap_or_default(), parts.next().unwrap_or_default());
                    (
                        first / ROWS + at,
                        given,
                        own,
                        to_x.next().unwrap_or_default(),
                        part,
                    )
                });
            each(
                blocks.collect(),
                |(at, given, own, to_x, part): Block<'_, T>| {
                    let d = match (self.then, u) {
                        (Some(f), Some(u)) => {
                            f.slopes(&u[at * ROWS * m..][..given.len()], given, own);
                            &*own
                        }
                        _ => given,
                    };
                    if to_b {
                        add_rows(d, part);
                    }
                    if wanted[0] {
                        let d = MatRef::from_row_major_slice(d, d.len() / m.max(1), m);
                        block_of_rows(d, w.transpose(), 0, to_x);
                    }
                },
            );
            if wanted[1] {
                let d = if u.is_some() {
                    &band[..rows * m]
                } else {
                    given
                };
                let d = MatRef::from_row_major_slice(d, rows, m);
                let x = x.subrows(first, rows);
                match self.transposed {
                    true => over_rows(d, x, &mut to_w),
                    false => over_rows(x, d, &mut to_w),
                }
            }
        }
        [
            wanted[0].then_some(to_x),
            wanted[1].then_some(to_w),
            to_b.then(|| total(parts, m)),
        ]
    }
}

/// A shard as a matrix whose rows are its first `lead` dimensions.
fn matrix<T: Real>(shard: &Shard, lead: usize) -> MatRef<'_, T> {
    let (rows, columns) = shard.shape.split_at(lead);
    let (rows, columns) = (rows.iter().product(), columns.iter().product());
    MatRef::from_row_major_slice(shard.elements::<T>(), rows, columns)
}
