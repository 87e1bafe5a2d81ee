//! Plans of relayouts: the intermediate layout, the steps, their bytes and their adjoint.

use crate::error::{EngineError, Result};
use crate::layout::{Layout, Overlap, Placement};
use crate::mesh::Mesh;
use crate::partial::Monoid;
use crate::relayout::Step;
use crate::shard::payload::Payload;
use crate::shard::{DType, Shard};

/// A planned move of a logical tensor from one layout to another.
///
/// ```
/// use advect_engine::{DType, Layout, Mesh, Monoid, Placement, Relayout};
/// let mesh = Mesh::line("data", 4);
/// let partial = Layout::new([Placement::Partial(Monoid::Sum)]);
/// let plan = Relayout::plan(&mesh, &[1024], DType::F32, &partial, &Layout::same(&mesh)).unwrap();
/// // an all-reduce sends 2 (P - 1) / P of the tensor from every worker
/// assert_eq!(plan.bytes_sent(0), 2 * 3 * 1024);
/// ```
#[derive(Debug, Clone)]
pub struct Relayout {
    mesh: Mesh,
    shape: Vec<usize>,
    dtype: DType,
    layouts: Vec<Layout>,
}

impl Relayout {
    /// Plans the move of a tensor of global `shape` from layout `from` to layout `to`.
    ///
    /// # Errors
    /// If a layout does not fit the mesh, the shape or the type ([`Layout::check`]).
    pub fn plan(
        mesh: &Mesh,
        shape: &[usize],
        dtype: DType,
        from: &Layout,
        to: &Layout,
    ) -> Result<Self> {
        from.check(mesh, shape, dtype)?;
        to.check(mesh, shape, dtype)?;
        let layouts = match intermediate(mesh, shape, from, to) {
            _ if from == to => vec![from.clone()],
            Some(between) if between != *to => vec![from.clone(), between, to.clone()],
            _ => vec![from.clone(), to.clone()],
        };
        Ok(Relayout {
            mesh: mesh.clone(),
            shape: shape.to_vec(),
            dtype,
            layouts,
        })
    }

    /// The mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Global extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Layout at the start.
    pub fn from(&self) -> &Layout {
        &self.layouts[0]
    }

    /// Layout at the end.
    pub fn to(&self) -> &Layout {
        &self.layouts[self.layouts.len() - 1]
    }

    /// The layouts passed through, both ends included.
    pub fn layouts(&self) -> &[Layout] {
        &self.layouts
    }

    /// The relayout of the cotangent: from the dual of the end to the dual of the start.
    ///
    /// # Errors
    /// If a layout holds partials of a monoid other than addition.
    pub fn adjoint(&self) -> Result<Relayout> {
        let (from, to) = (self.to().dual()?, self.from().dual()?);
        Relayout::plan(&self.mesh, &self.shape, self.dtype, &from, &to)
    }

    /// Bytes that `worker` sends to other workers.
    pub fn bytes_sent(&self, worker: usize) -> usize {
        self.steps(worker).iter().map(Step::bytes_sent).sum()
    }

    /// Bytes that `worker` receives from other workers.
    pub fn bytes_received(&self, worker: usize) -> usize {
        self.steps(worker).iter().map(Step::bytes_received).sum()
    }

    /// The steps as `worker` takes them.
    pub(crate) fn steps(&self, worker: usize) -> Vec<Step> {
        let pairs = self.layouts.windows(2);
        pairs
            .map(|w| Step::new(&self.mesh, &self.shape, self.dtype, &w[0], &w[1], worker))
            .collect()
    }

    /// Names of the steps, as a user knows them: `space: Split(0)→Same` for each axis that
    /// changes.
    pub(crate) fn names(&self) -> Vec<String> {
        let changes = |w: &[Layout]| -> String {
            let axes = w[0].axes.iter().zip(&w[1].axes).zip(self.mesh.names());
            let changed = axes.filter(|((from, to), _)| from != to);
            let named: Vec<String> = changed
                .map(|((from, to), axis)| format!("{axis}: {from}→{to}"))
                .collect();
            named.join(", ")
        };
        self.layouts.windows(2).map(changes).collect()
    }

    /// Moves the pieces of all workers at once, in memory: the reference that the dataflow is
    /// tested against. `pieces[w]` is the shard of worker `w`.
    ///
    /// # Errors
    /// If a piece has not the local shape of the starting layout.
    pub fn apply(&self, pieces: &[Shard]) -> Result<Vec<Shard>> {
        let workers = self.mesh.workers();
        let mut now = pieces.to_vec();
        for (worker, piece) in now.iter().enumerate() {
            let want = self.from().local_shape(&self.mesh, &self.shape, worker);
            if piece.shape != want || piece.dtype() != self.dtype {
                return Err(EngineError::Tensor {
                    place: format!("relayout of worker {worker}"),
                    expected: format!("{want:?} of {:?}", self.dtype),
                    got: format!("{:?} of {:?}", piece.shape, piece.dtype()),
                });
            }
        }
        for at in 0..self.layouts.len() - 1 {
            let steps: Vec<Step> = (0..workers)
                .map(|w| self.steps(w).swap_remove(at))
                .collect();
            let mut mail: Vec<Vec<(usize, Payload)>> = vec![Vec::new(); workers];
            for (worker, step) in steps.iter().enumerate() {
                for (to, part) in step.cut(&now[worker]) {
                    mail[to].push((worker, part));
                }
            }
            for (worker, (step, parts)) in steps.iter().zip(mail).enumerate() {
                let (key, shape) = (now[worker].key, step.shape_out().to_vec());
                now[worker] = Shard::of_payload(key, shape, step.assemble(parts));
            }
        }
        Ok(now)
    }
}

/// The layout to pass through, where going straight would reduce at every receiver.
fn intermediate(mesh: &Mesh, shape: &[usize], from: &Layout, to: &Layout) -> Option<Layout> {
    let rows = from.monoid() == Some(Monoid::LogSumExp);
    let last = shape.len().wrapping_sub(1);
    let cuttable = |dim: usize| !(rows && dim == last);
    let mut axes = Vec::with_capacity(from.axes.len());
    let mut reduces = false;
    for (axis, (&x, &y)) in from.axes.iter().zip(&to.axes).enumerate() {
        let between = match (x, y) {
            _ if x == y && !touches(from, to, x) => x,
            (
                Placement::Partial(_),
                Placement::Split { dim }
                | Placement::Shifted { dim, .. }
                | Placement::Halo { dim, .. },
            ) if cuttable(dim) => {
                reduces = true;
                Placement::Split { dim }
            }
            (Placement::Partial(_), _) if x != y => {
                // a cut outside of another cut of the same dimension would move its pieces
                let inner = from.axes[axis + 1..].iter().chain(&to.axes[axis + 1..]);
                let cut: Vec<_> = inner.filter_map(|p| p.dim()).collect();
                let free = largest(shape, |dim| cuttable(dim) && !cut.contains(&dim));
                match free.or_else(|| largest(shape, cuttable)) {
                    // two workers that send each other all they have send no more
                    _ if free.is_none() && mesh.sizes()[axis] == 2 && !cut.is_empty() => x,
                    Some(dim) => {
                        reduces = true;
                        Placement::Split { dim }
                    }
                    None => return None,
                }
            }
            (
                Placement::Halo {
                    dim,
                    overlap: Overlap::Sums,
                    ..
                },
                _,
            ) => {
                reduces = true;
                Placement::Split { dim }
            }
            (Placement::Same, Placement::Split { dim }) if cuttable(dim) => y,
            _ => x,
        };
        axes.push(between);
    }
    reduces.then_some(Layout { axes })
}

/// Whether the dimension that `p` cuts is cut otherwise by another axis after the move.
fn touches(from: &Layout, to: &Layout, p: Placement) -> bool {
    let Some(dim) = p.dim() else { return false };
    let cuts = |l: &Layout| -> Vec<Option<Placement>> {
        l.axes
            .iter()
            .map(|q| (q.dim() == Some(dim)).then_some(*q))
            .collect()
    };
    cuts(from) != cuts(to)
}

fn largest(shape: &[usize], cuttable: impl Fn(usize) -> bool) -> Option<usize> {
    (0..shape.len())
        .filter(|&d| cuttable(d))
        .max_by_key(|&d| (shape[d], shape.len() - d))
}
