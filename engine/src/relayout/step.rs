//! One step of a relayout: which boxes of the local piece go where, and how they come together.
//!
//! Both sides compute the same list of boxes from the two layouts, as the intersection of what the
//! sender has with what the receiver wants, so that only elements travel and no indices.
//!
//! Large tensors are bound by memory, so passes over them are counted: a part that is one run of
//! the sender's memory is sent from there, and one that is one run of the result is received
//! there; parts that are summed are read once each, in one sweep.

use super::fold::merged;
use crate::fabric::bulk;
use crate::layout::{Extent, Layout, Overlap, Placement, Segment};
use crate::mesh::Mesh;
use crate::partial::{Monoid, Run};
use crate::shard::payload::{Payload, View};
use crate::shard::{DType, Data, Shard};

/// A box of elements: in each dimension a start at the sender, a start at the receiver, a length.
type Block = Vec<(usize, usize, usize)>;

/// One step of a relayout as one worker takes it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    worker: usize,
    dtype: DType,
    shape_in: Vec<usize>,
    shape_out: Vec<usize>,
    /// Per receiver the boxes to send; other workers without a box are left out.
    sends: Vec<(usize, Vec<Block>)>,
    /// Per sender the boxes to expect; other workers without a box are left out.
    receives: Vec<(usize, Vec<Block>)>,
    /// How boxes that meet are merged, and the neutral element that the rest is filled with.
    merge: Option<Monoid>,
    fill: Monoid,
    /// Whether the boxes to expect, where they are not merged, leave no element out.
    covered: bool,
    /// Whether the worker has what it is to have, and nothing that others are to have.
    stays: bool,
}

/// Whether a box is all that a receiver of this shape has.
fn is_whole(block: &Block, shape: &[usize]) -> bool {
    let pairs = block.iter().zip(shape);
    pairs.into_iter().all(|(s, &n)| s.1 == 0 && s.2 == n)
}

impl Step {
    pub(crate) fn new(
        mesh: &Mesh,
        shape: &[usize],
        dtype: DType,
        from: &Layout,
        to: &Layout,
        worker: usize,
    ) -> Self {
        let pair = Pair {
            mesh,
            shape,
            from,
            to,
        };
        // a worker always gives itself a part, be it empty: then it learns of every tensor
        let all = |f: &dyn Fn(usize) -> Vec<Block>| -> Vec<(usize, Vec<Block>)> {
            let parts = (0..mesh.workers()).map(|w| (w, f(w)));
            parts
                .filter(|(w, b)| *w == worker || !b.is_empty())
                .collect()
        };
        let shape_in = from.local_shape(mesh, shape, worker);
        let shape_out = to.local_shape(mesh, shape, worker);
        let sends = all(&|other| pair.blocks(worker, other));
        let receives = all(&|other| pair.blocks(other, worker));
        let whole = |parts: &[(usize, Vec<Block>)]| match parts {
            [(_, blocks)] => matches!(blocks.as_slice(), [only] if is_whole(only, &shape_out)),
            _ => false,
        };
        let stays = shape_in == shape_out && whole(&sends) && whole(&receives);
        let expected = receives.iter().flat_map(|(_, b)| b).map(volume);
        let covered = expected.sum::<usize>() == shape_out.iter().product::<usize>();
        Step {
            worker,
            dtype,
            shape_in,
            shape_out,
            sends,
            receives,
            covered,
            stays,
            merge: pair.merge(),
            fill: to.monoid().or(from.monoid()).unwrap_or(Monoid::Sum),
        }
    }

    pub(crate) fn shape_out(&self) -> &[usize] {
        &self.shape_out
    }

    /// Number of parts to expect, this worker's own included.
    pub(crate) fn parts(&self) -> usize {
        self.receives.len()
    }

    pub(crate) fn bytes_sent(&self) -> usize {
        self.bytes(&self.sends)
    }

    pub(crate) fn bytes_received(&self) -> usize {
        self.bytes(&self.receives)
    }

    fn bytes(&self, parts: &[(usize, Vec<Block>)]) -> usize {
        let others = parts.iter().filter(|(other, _)| *other != self.worker);
        others.flat_map(|(_, b)| b).map(volume).sum::<usize>() * self.dtype.size()
    }

    /// Cuts the local piece into parts, one per receiver. A piece that stays is its own part, wherever its contents
    /// are.
    pub(crate) fn cut(&self, piece: &Shard) -> Vec<(usize, Payload)> {
        if self.stays {
            return vec![(self.worker, piece.clone().into_payload())];
        }
        let view = piece.view();
        let part = |blocks: &[Block]| match blocks {
            [] => view.run(0..0),
            [only] => match single_run(&self.shape_in, only, |r| r.0) {
                Some((start, len)) => view.run(start..start + len),
                None => gather(view, &self.shape_in, blocks),
            },
            _ => gather(view, &self.shape_in, blocks),
        };
        let sends = self.sends.iter();
        sends
            .map(|(to, blocks)| (*to, Payload::Here(part(blocks))))
            .collect()
    }

    /// Puts the parts together, in the order of their senders whatever order they came in.
    pub(crate) fn assemble(&self, mut parts: Vec<(usize, Payload)>) -> Payload {
        match self.stays {
            true => parts.swap_remove(0).1,
            false => Payload::here(self.assembled(parts)),
        }
    }

    fn assembled(&self, mut parts: Vec<(usize, Payload)>) -> Data {
        parts.sort_by_key(|(from, _)| *from);
        for ((from, _), (expected, _)) in parts.iter().zip(&self.receives) {
            assert_eq!(
                from, expected,
                "relayout got a part from a worker that has none to give"
            );
        }
        let whole = |b: &Block| is_whole(b, &self.shape_out);
        let mut received = parts.into_iter().map(|(_, part)| part).zip(&self.receives);
        if let Some(monoid) = self.merge
            && self.receives.len() > 1
            && (self.receives.iter()).all(|(_, b)| matches!(b.as_slice(), [only] if whole(only)))
        {
            let parts = received.map(|(part, _)| part).collect();
            return merged(monoid, self.dtype, &self.shape_out, parts);
        }
        let mut out: Option<Data> = None;
        if self.merge.is_none() && self.covered {
            out = match self.receives.as_slice() {
                [(_, b)] if matches!(b.as_slice(), [only] if whole(only)) => {
                    return received
                        .next()
                        .map_or_else(|| self.neutral(), |(p, _)| p.into_data());
                }
                _ => Some(bulk::buffer(self.dtype, self.shape_out.iter().product())),
            };
        }
        let size = self.dtype.size();
        for (part, (_, blocks)) in received {
            let run = match blocks.as_slice() {
                [only] if self.merge.is_none() => single_run(&self.shape_out, only, |r| r.1),
                _ => None,
            };
            match (&mut out, blocks.as_slice()) {
                (None, [only]) if whole(only) => out = Some(part.into_data()),
                (out, _) => {
                    let out = out.get_or_insert_with(|| self.neutral());
                    match run {
                        Some((o, n)) => {
                            part.fill(&mut out.as_bytes_mut()[o * size..(o + n) * size])
                        }
                        None => scatter(out, &self.shape_out, blocks, part.view(), self.merge),
                    }
                }
            }
        }
        out.unwrap_or_else(|| self.neutral())
    }

    fn neutral(&self) -> Data {
        self.fill.identity(self.dtype, &self.shape_out)
    }
}

/// The two layouts of a step.
struct Pair<'a> {
    mesh: &'a Mesh,
    shape: &'a [usize],
    from: &'a Layout,
    to: &'a Layout,
}

impl Pair<'_> {
    /// The monoid in which parts meet, if any do.
    fn merge(&self) -> Option<Monoid> {
        let axes = self.from.axes.iter().zip(&self.to.axes);
        axes.filter(|(x, y)| x != y).find_map(|(x, _)| match x {
            Placement::Partial(m) => Some(*m),
            Placement::Halo {
                overlap: Overlap::Sums,
                ..
            } => Some(Monoid::Sum),
            _ => None,
        })
    }

    /// Whether a halo stays as it is, so that every worker keeps its piece.
    fn kept(&self, dim: usize) -> bool {
        let halo = self
            .from
            .axes
            .iter()
            .any(|p| matches!(p, Placement::Halo { dim: d, .. } if *d == dim));
        let axes = self.from.axes.iter().zip(&self.to.axes);
        halo && axes
            .filter(|(x, y)| x.dim() == Some(dim) || y.dim() == Some(dim))
            .all(|(x, y)| x == y)
    }

    /// Boxes that `src` gives to `dst`, in a fixed order.
    fn blocks(&self, src: usize, dst: usize) -> Vec<Block> {
        let (s, t) = (self.mesh.coordinates(src), self.mesh.coordinates(dst));
        for (a, (x, y)) in self.from.axes.iter().zip(&self.to.axes).enumerate() {
            let meet = match (x, y) {
                (Placement::Partial(_), _) if x == y => s[a] == t[a],
                (Placement::Same, Placement::At { at }) => s[a] == *at && t[a] == *at,
                (Placement::At { at }, Placement::Partial(_)) => s[a] == *at && t[a] == *at,
                // extents say who has it and who wants it
                (Placement::Partial(_), _) | (Placement::At { .. }, _) => true,
                (Placement::Same, Placement::Partial(_)) => s[a] == 0 && t[a] == 0,
                (Placement::Same, _) | (_, Placement::Partial(_)) => s[a] == t[a],
                (Placement::Halo { dim, .. }, _) if self.kept(*dim) => s[a] == t[a],
                _ => true,
            };
            if !meet {
                return Vec::new();
            }
        }
        let has = self.from.extents(self.mesh, self.shape, src);
        let wants = self.to.extents(self.mesh, self.shape, dst);
        let mut blocks: Vec<Block> = vec![Vec::new()];
        for dim in 0..self.shape.len() {
            let runs = self.runs(dim, &has[dim], &wants[dim]);
            blocks = blocks
                .iter()
                .flat_map(|b| {
                    runs.iter().map(move |r| {
                        let mut longer = b.clone();
                        longer.push(*r);
                        longer
                    })
                })
                .collect();
        }
        blocks
    }

    /// Runs of one dimension that pass from `has` to `wants`.
    fn runs(&self, dim: usize, has: &Extent, wants: &Extent) -> Vec<(usize, usize, usize)> {
        if self.kept(dim) {
            return if has.len() == 0 || wants.len() == 0 {
                Vec::new()
            } else {
                vec![(0, 0, has.len())]
            };
        }
        let halo = |l: &Layout, what: Overlap| {
            l.axes.iter().any(|p| {
                matches!(p, Placement::Halo { dim: d, overlap, .. } if *d == dim && *overlap == what)
            })
        };
        let given = match halo(self.from, Overlap::Sums) {
            true => &has.held,
            false => &has.owned,
        };
        let taken = match halo(self.to, Overlap::Copies) {
            true => &wants.held,
            false => &wants.owned,
        };
        meet(given, taken)
    }
}

/// The elements that are in both: a start in each, and a length.
fn meet(given: &[Segment], taken: &[Segment]) -> Vec<(usize, usize, usize)> {
    let ascends = |s: &[Segment]| s.windows(2).all(|w| w[0].global + w[0].len <= w[1].global);
    let sorted = ascends(given) && ascends(taken);
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    let mut first = 0;
    for g in given {
        let end = g.global + g.len;
        // what ends before this run meets none of the later ones
        if sorted {
            first += taken[first..].partition_point(|t| t.global + t.len <= g.global);
        }
        for t in &taken[first..] {
            if sorted && t.global >= end {
                break;
            }
            let start = g.global.max(t.global);
            let end = end.min(t.global + t.len);
            if start < end {
                let run = (
                    g.local + start - g.global,
                    t.local + start - t.global,
                    end - start,
                );
                match runs.last_mut() {
                    // it goes on in both
                    Some(last) if [last.0 + last.2, last.1 + last.2] == [run.0, run.1] => {
                        last.2 += run.2;
                    }
                    _ => runs.push(run),
                }
            }
        }
    }
    runs
}

fn volume(block: &Block) -> usize {
    block.iter().map(|r| r.2).product()
}

/// Calls `f(offset, length)` for each contiguous run of a box in an array of extents `shape`.
fn for_runs(
    shape: &[usize],
    block: &Block,
    at: fn(&(usize, usize, usize)) -> usize,
    f: &mut dyn FnMut(usize, usize),
) {
    let rank = shape.len();
    if rank == 0 {
        f(0, 1);
        return;
    }
    // fold trailing dimensions that are taken whole into one run
    let mut inner = rank - 1;
    let mut stride = 1;
    while inner > 0 && block[inner].2 == shape[inner] {
        stride *= shape[inner];
        inner -= 1;
    }
    let len = block[inner].2 * stride;
    let outer: usize = block[..inner].iter().map(|r| r.2).product();
    for mut k in 0..outer {
        let mut offset = 0;
        let mut scale: usize = shape[inner..].iter().product();
        for d in (0..inner).rev() {
            offset += (at(&block[d]) + k % block[d].2) * scale;
            k /= block[d].2;
            scale *= shape[d];
        }
        f(offset + at(&block[inner]) * stride, len);
    }
}

/// Start and length of a box in an array of extents `shape`, if it is one run there.
fn single_run(
    shape: &[usize],
    block: &Block,
    at: fn(&(usize, usize, usize)) -> usize,
) -> Option<(usize, usize)> {
    let inner = (0..shape.len()).rev().find(|&d| block[d].2 != shape[d]);
    if block[..inner.unwrap_or(0)].iter().any(|r| r.2 != 1) {
        return None;
    }
    let mut run = None;
    for_runs(shape, block, at, &mut |o, n| run = Some((o, n)));
    run
}

/// Elements of a row of the last dimension.
pub(super) fn row(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1).max(1)
}

fn gather(from: &View, shape: &[usize], blocks: &[Block]) -> View {
    let size = from.dtype().size();
    let mut out = bulk::buffer(from.dtype(), blocks.iter().map(volume).sum());
    let (target, source) = (out.as_bytes_mut(), from.bytes());
    let mut next = 0;
    for b in blocks {
        for_runs(shape, b, |r| r.0, &mut |o, n| {
            let bytes = n * size;
            target[next..next + bytes].copy_from_slice(&source[o * size..o * size + bytes]);
            next += bytes;
        });
    }
    View::whole(out)
}

/// Places (or merges) the runs of `part` at the boxes of `out`.
fn scatter(out: &mut Data, shape: &[usize], blocks: &[Block], part: &View, merge: Option<Monoid>) {
    let size = part.dtype().size();
    let row = row(shape);
    let (from, start) = part.memory();
    let mut next = 0;
    for b in blocks {
        for_runs(shape, b, |r| r.1, &mut |o, len| {
            match merge {
                Some(monoid) => monoid.merge(
                    out,
                    from,
                    Run {
                        a: o,
                        b: start + next,
                        len,
                    },
                    row,
                ),
                None => out.as_bytes_mut()[o * size..(o + len) * size]
                    .copy_from_slice(&part.bytes()[next * size..(next + len) * size]),
            }
            next += len;
        });
    }
}
