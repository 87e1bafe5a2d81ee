//! Attention partials: for each query the row $(m, \ell, o)$ over the keys that are at hand.
//!
//! $$ s_j = \frac{q \cdot k_j}{\sqrt d}, \quad m = \max_j s_j, \quad
//!    \ell = \sum_j e^{s_j - m}, \quad o = \sum_j e^{s_j - m} v_j . $$
//!
//! A row stands for $e^m (\ell, o)$, in which the merge over workers is a sum. Its cotangent is a
//! row $(\mu, a, b)$ that stands for $e^\mu (a, b)$, so with $w_j = e^{s_j + \mu}$
//!
//! $$ \bar s_j = w_j\,(a + b \cdot v_j), \quad \bar v_j = w_j\, b, \quad
//!    \bar q = \sum_j \bar s_j k_j / \sqrt d, \quad \bar k_j = \bar s_j\, q / \sqrt d . $$
//!
//! [`FinishAttention`](super::FinishAttention) sends $\mu = -L$ of the merged row, hence
//! $w_j \le 1$. Scores are computed again on the way back: nothing of size queries × keys is kept.
//! Sources: Milakov and Gimelshein (2018), *Online normalizer calculation for softmax*; Dao
//! (2023), *FlashAttention-2*, section 3.1.
//!
//! | q | k and v | rows | known as |
//! |---|---|---|---|
//! | as in [`Attention`] | | cut as q | |
//! | Same | cut by position (1) | Partial(LogSumExp) | keys that stay |
//! | cut by position (1) | cut and shifted (1) | cut as q, of a [`Turn`] | ring |

use std::borrow::Cow;
use std::ops::Range;

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Deal, Mesh, Monoid, Operator, Placement, Result, Shard, Spec};

use super::Attention;
use super::tile::{Back, Pair, State, Tile, put};
use super::view::{Head, View};
use super::whole::transposed;
use crate::kernels::each_with;
use crate::network::real::{Real, with_real};
use crate::network::rules::{layout, refuse};

/// One turn of the ring: positions are dealt out in pieces, and queries of piece p see keys of piece
/// p + `by`, around the end. All turns together see all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Pieces that the keys have gone on.
    pub by: usize,
    /// Number of pieces.
    pub of: usize,
    /// How positions are dealt out.
    pub deal: Deal,
}

/// Rows $(m, \ell, o)$: q `[b, n, g, r, d]` and keys with values `[b, t, 2, g, d]` to `[b, n, g, r, 2 + d]`,
/// scaled ([`Rows::Scaled`]); then bounds, if [`Attention::bounded`] asks for them; last, with `onto`, rows
/// that these keys are merged into. `f32` or `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionPartial {
    /// What queries see.
    pub attention: Attention,
    /// Which of the keys are at hand, if not all.
    pub turn: Option<Turn>,
    /// Whether rows of other keys come in.
    pub onto: bool,
}

impl AttentionPartial {
    /// Rows of all keys.
    pub fn new(attention: Attention) -> Self {
        AttentionPartial {
            attention,
            turn: None,
            onto: false,
        }
    }

    /// Pairs of queries and keys that `worker` works on, for q and keys with values of these layouts and
    /// without bounds, in whole blocks: the multiplications of the forward pass are 2 d of each.
    pub fn pairs(self, mesh: &Mesh, [q, kv]: [&Spec; 2], worker: usize) -> usize {
        let at = |spec: &Spec| {
            spec.layout
                .indices(mesh, &spec.shape, worker)
                .swap_remove(1)
        };
        let view = View::new(
            &q.local_shape(mesh, worker),
            [&at(q), &at(kv)],
            self.attention.sight(None),
        );
        view.heads().map(|head| view.pairs(head)).sum()
    }

    fn inputs(self) -> usize {
        self.attention.inputs() + usize::from(self.onto)
    }

    /// Where the rows come in.
    fn rows(self) -> Option<usize> {
        self.onto.then(|| self.attention.inputs())
    }

    /// Where the rows go out, for the placements of the inputs on one axis.
    fn placed(self, axis: usize, mesh: &Mesh, on: &[Placement]) -> Option<Placement> {
        const SAME: Placement = Placement::Same;
        const CUT: Placement = Placement::Split { dim: 1 };
        let others = self.rows().map(|i| on[i]);
        let bounds = self.attention.bounded.then(|| on[2]);
        let shift = match on[1] {
            CUT => Some(0),
            Placement::Shifted { dim: 1, by } => Some(by),
            _ => None,
        };
        let placed = match (on[0], shift, self.turn) {
            (CUT, Some(by), Some(turn)) => {
                let fits = turn.by == by
                    && turn.of == mesh.sizes()[axis]
                    && turn.deal == mesh.deals()[axis];
                (fits && bounds.is_none_or(|p| p == CUT)).then_some(CUT)
            }
            (SAME, Some(0), None) if !self.onto => bounds
                .is_none_or(|p| p == SAME)
                .then_some(Placement::Partial(Monoid::LogSumExp)),
            _ => self.attention.alone(on),
        };
        placed.filter(|&p| others.is_none_or(|rows| rows == p))
    }

    /// The parts that are worked on one after the other.
    fn parts(self, site: &Site) -> Vec<Part> {
        let [queries, keys] = [0, 1].map(|i| site.input_indices(i).swap_remove(1));
        let on = |i: usize| &site.inputs()[i].layout.axes;
        let mut axes = on(0).iter().zip(on(1));
        let dealt = axes.any(|(q, kv)| q.dim() == Some(1) && kv.dim() == Some(1));
        let Some(Turn { by, of, deal }) = self.turn.filter(|_| !dealt) else {
            return vec![Part {
                positions: [queries, keys],
                at: None,
            }];
        };
        let part = |p: usize| {
            let piece = |all: &[usize], p: usize| -> Vec<usize> {
                let runs = deal.of(all.len(), p % of, of);
                runs.into_iter().flatten().collect()
            };
            let at = [piece(&queries, p), piece(&keys, p + by)];
            let of = |all: &[usize], at: &[usize]| at.iter().map(|&i| all[i]).collect();
            Part {
                positions: [of(&queries, &at[0]), of(&keys, &at[1])],
                at: Some(at),
            }
        };
        (0..of).map(part).collect()
    }

    /// The inputs of `part`.
    fn hand<'a, T: Real>(
        self,
        part: &Part,
        [q, kv]: [&'a Shard; 2],
        bounds: Option<&'a Shard>,
    ) -> Hand<'a, T> {
        let [queries, keys] = [0, 1].map(|i| part.at.as_ref().map(|at| at[i].as_slice()));
        let bounds = bounds.map(|shard| take(shard.elements::<i64>(), &shard.shape, queries));
        let mut sight = self.attention.sight(None);
        sight.bounds = bounds.as_deref();
        let [of_queries, of_keys] = &part.positions;
        Hand {
            view: View::new(&q.shape, [of_queries, of_keys], sight),
            q: take(q.elements(), &q.shape, queries),
            kv: take(kv.elements(), &kv.shape, keys),
        }
    }

    /// q, k and v with their bounds.
    fn kept<'a>(
        self,
        site: &Site,
        saved: &'a Saved,
    ) -> Result<([&'a Shard; 2], Option<&'a Shard>)> {
        let input = |i| saved.input(site, i);
        let bounds = self.attention.bounded.then(|| input(2)).transpose()?;
        Ok(([input(0)?, input(1)?], bounds))
    }
}

impl Operator for AttentionPartial {
    fn infer(&self, mesh: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "AttentionPartial";
        if inputs.len() != self.inputs() {
            let (takes, got) = (self.inputs(), inputs.len());
            return refuse(NAME, format!("it takes {takes} inputs, not {got}"));
        }
        let dtype = self.attention.check(NAME, inputs)?;
        if let Some(Turn { by, of, .. }) = self.turn.filter(|turn| turn.by >= turn.of) {
            return refuse(NAME, format!("turn {by} of {of}; turns are counted from 0"));
        }
        let mut shape = inputs[0].shape.clone();
        shape[4] += 2;
        let fits =
            |rows: &Spec| rows.rows == Rows::Scaled && rows.shape == shape && rows.dtype == dtype;
        if let Some(rows) = self.rows().map(|i| &inputs[i]).filter(|rows| !fits(rows)) {
            let why = format!("{rows} are no rows (m, l, o) of {}", inputs[0]);
            return refuse(NAME, why);
        }
        let mend = "cut queries, bounds and rows alike, with keys Same, of the same groups, or shifted \
                    as the turn says";
        let axis = std::cell::Cell::new(0);
        let layout = layout(NAME, inputs, mend, |on| {
            let at = axis.replace(axis.get() + 1);
            self.placed(at, mesh, on)
        })?;
        Ok(vec![Spec::new(shape, dtype, layout).scaled()])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let bounds = self.attention.bounded.then(|| &inputs[2]);
        let rows = with_real!(site, inputs[0].dtype(), T => {
            let shape = site.output_shape(0);
            let before = self.rows().map(|i| inputs[i].elements::<T>());
            let mut rows: Vec<T> = buffer(shape.iter().product());
            for part in self.parts(site) {
                let hand = self.hand::<T>(&part, [&inputs[0], &inputs[1]], bounds);
                let queries = part.queries();
                let before = before.map(|rows| take(rows, &shape, queries));
                let made = hand.rows(before.as_deref(), 2 + hand.view.d);
                place(&mut rows, &shape, queries, made);
            }
            Ok(Shard::new(site.key(), shape, rows.into()))
        })?;
        Ok((vec![rows], Saved::nothing()))
    }

    fn keeps(&self) -> &[usize] {
        self.attention.kept()
    }

    fn differentiable(&self, input: usize) -> bool {
        input < 2 || Some(input) == self.rows()
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let (at, bounds) = self.kept(site, saved)?;
        with_real!(site, at[0].dtype(), T => {
            let shape = site.output_shape(0);
            let mut rows: Vec<T> = buffer(shape.iter().product());
            for part in self.parts(site) {
                let hand = self.hand::<T>(&part, at, bounds);
                let change = self.hand::<T>(&part, [&tangents[0], &tangents[1]], bounds);
                place(&mut rows, &shape, part.queries(), hand.along(&change));
            }
            if let Some(i) = self.rows() {
                merge(&mut rows, tangents[i].elements(), shape[4]);
            }
            Ok(vec![Shard::new(site.key(), shape, rows.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let (at, bounds) = self.kept(site, saved)?;
        with_real!(site, at[0].dtype(), T => {
            let given = &cotangents[0];
            let [mut to_q, mut to_kv] = at.map(|shard| buffer::<T>(shard.len()));
            for part in self.parts(site) {
                let hand = self.hand::<T>(&part, at, bounds);
                let given = take(given.elements::<T>(), &given.shape, part.queries());
                let (of_q, of_kv) = hand.back(&given);
                place(&mut to_q, &at[0].shape, part.queries(), of_q);
                place(&mut to_kv, &at[1].shape, part.keys(), of_kv);
            }
            let shard = |of: &Shard, to: Vec<T>| Shard::new(site.key(), of.shape.clone(), to.into());
            let mut answers = vec![Some(shard(at[0], to_q)), Some(shard(at[1], to_kv))];
            answers.resize(self.attention.inputs(), None);
            // a merge is a sum of what the rows stand for
            answers.extend(self.onto.then(|| Some(given.clone())));
            Ok(answers)
        })
    }
}

/// Queries and the keys at hand.
struct Part {
    /// Their global positions.
    positions: [Vec<usize>; 2],
    /// Where they are among those of this worker, if not all of them.
    at: Option<[Vec<usize>; 2]>,
}

impl Part {
    fn queries(&self) -> Option<&[usize]> {
        self.at.as_ref().map(|at| at[0].as_slice())
    }

    fn keys(&self) -> Option<&[usize]> {
        self.at.as_ref().map(|at| at[1].as_slice())
    }
}

/// The rows `at` these places of dimension 1, or all.
fn take<'a, E: Copy>(x: &'a [E], shape: &[usize], at: Option<&[usize]>) -> Cow<'a, [E]> {
    let Some(at) = at else {
        return Cow::Borrowed(x);
    };
    let row = shape[2..].iter().product::<usize>();
    let samples = x.chunks_exact((shape[1] * row).max(1));
    let rows = samples.flat_map(|of| at.iter().flat_map(move |&i| &of[i * row..(i + 1) * row]));
    Cow::Owned(rows.copied().collect())
}

/// Puts rows where [`take`] took them.
fn place<T: Copy>(x: &mut Vec<T>, shape: &[usize], at: Option<&[usize]>, rows: Vec<T>) {
    let Some(at) = at else {
        *x = rows;
        return;
    };
    let row = shape[2..].iter().product::<usize>().max(1);
    let samples = x.chunks_exact_mut((shape[1] * row).max(1));
    for (to, from) in samples.zip(rows.chunks_exact((at.len() * row).max(1))) {
        for (&i, from) in at.iter().zip(from.chunks_exact(row)) {
            to[i * row..(i + 1) * row].copy_from_slice(from);
        }
    }
}

/// Queries, and keys with values, that are at hand.
struct Hand<'a, T: Real> {
    view: View,
    q: Cow<'a, [T]>,
    kv: Cow<'a, [T]>,
}

impl<T: Real> Hand<'_, T> {
    /// Rows of these keys, on those that there are.
    fn rows(&self, before: Option<&[T]>, width: usize) -> Vec<T> {
        let view = &self.view;
        let heads = view.b * view.g * view.r;
        let mut rows = buffer(heads * view.n * width);
        let heads = view.heads().zip(view.rows_mut(&mut rows)).collect();
        each_with(
            heads,
            || Tile::new(view),
            |tile, (head, mut rows)| {
                let begin = |queries: &Range<usize>, state: &mut State<'_, T>| {
                    let Some(before) = before else { return };
                    let states = state.top.iter_mut().zip(state.sums.iter_mut());
                    let outputs = state.rows.chunks_exact_mut(view.d.max(1));
                    for ((query, o), (top, sum)) in queries.clone().zip(outputs).zip(states) {
                        let row = view.row(before, head, query);
                        (*top, *sum) = (row[0], row[1]);
                        o.copy_from_slice(&row[2..]);
                    }
                };
                tile.attend(view, head, [&self.q, &self.kv], begin, |queries, state| {
                    let mut made = Vec::with_capacity(queries.len() * width);
                    let states = state.top.iter().zip(state.sums.iter());
                    for (o, (&top, &sum)) in state.rows.chunks_exact(view.d.max(1)).zip(states) {
                        made.extend([top, sum]);
                        made.extend_from_slice(o);
                    }
                    put(&mut rows, queries.start, &made);
                });
            },
        );
        rows
    }

    /// The derivative of the rows of these keys.
    fn along(&self, change: &Self) -> Vec<T> {
        let (view, width) = (&self.view, 2 + self.view.d);
        let mut rows = self.rows(None, width);
        let top: Vec<Vec<T>> = view
            .heads()
            .map(|head| (0..view.n).map(|i| view.row(&rows, head, i)[0]).collect())
            .collect();
        let heads = view
            .heads()
            .zip(view.rows_mut(&mut rows))
            .zip(&top)
            .collect();
        each_with(
            heads,
            || Tile::new(view),
            |tile, ((head, mut rows), top)| {
                let [pair, dpair] = [&self.kv, &change.kv].map(|of| Pair::of(view, of, head));
                let q = [&*self.q, &*change.q];
                tile.change(view, head, q, [&pair, &dpair], top, |queries, o, totals| {
                    let mut made = Vec::with_capacity(queries.len() * width);
                    let tops = &top[queries.clone()];
                    for (o, (&top, &total)) in
                        o.chunks_exact(view.d.max(1)).zip(tops.iter().zip(totals))
                    {
                        made.extend([top, total]);
                        made.extend_from_slice(o);
                    }
                    put(&mut rows, queries.start, &made);
                });
            },
        );
        rows
    }

    /// Cotangents of queries, and of keys with values, from those of rows.
    fn back(&self, given: &[T]) -> (Vec<T>, Vec<T>) {
        let view = &self.view;
        transposed(
            view,
            [&self.q, &self.kv],
            |head: Head, queries: &Range<usize>| {
                let mut back = Back {
                    given: Vec::with_capacity(queries.len() * view.d),
                    logs: Vec::with_capacity(queries.len()),
                    along: Vec::with_capacity(queries.len()),
                };
                for row in queries.clone().map(|query| view.row(given, head, query)) {
                    back.logs.push(-row[0]);
                    back.along.push(-row[1]);
                    back.given.extend_from_slice(&row[2..]);
                }
                back
            },
        )
    }
}

/// Adds scaled rows `(m, v…)` to others: $e^m v + e^{m'} v'$.
fn merge<T: Real>(rows: &mut [T], others: &[T], width: usize) {
    let pairs = rows.chunks_exact_mut(width).zip(others.chunks_exact(width));
    for (row, other) in pairs.filter(|(_, other)| other[0] != T::LOWEST) {
        let high = if row[0] > other[0] { row[0] } else { other[0] };
        let [mine, theirs] = [row[0], other[0]].map(|m| (m - high).exponential());
        row[0] = high;
        for (x, &y) in row[1..].iter_mut().zip(&other[1..]) {
            *x = *x * mine + y * theirs;
        }
    }
}
