//! How positions are cut.

use advect_engine::{DType, Deal, Graph, Layout, Mesh, Placement, Result, Spec};
use advect_operators::attention::{Across, Pieces};

use crate::dense::Problem;

const SAME: Placement = Placement::Same;
const POSITIONS: Placement = Placement::Split { dim: 1 };
const QUERY_GROUPS: Placement = Placement::Split { dim: 2 };
const KEY_GROUPS: Placement = Placement::Split { dim: 3 };

/// A mode and the workers of its axes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    Gather(usize),
    GatherZigZag(usize),
    Chunks(usize),
    ChunksZigZag(usize),
    Ring(usize),
    ZigZag(usize),
    Striped(usize),
    Heads(usize),
    /// Keys go around the outer axis, heads are cut on the inner one.
    Hybrid(usize, usize),
    /// Heads are cut on the outer axis, and chunks of positions go around the inner one.
    Inside(usize, usize),
    /// Heads are cut on the outer axis, and each piece of keys on the inner one comes from its own worker.
    InsideChunks(usize, usize),
}

impl Mode {
    pub(crate) const ON_ONE_AXIS: [fn(usize) -> Mode; 8] = [
        Mode::Gather,
        Mode::GatherZigZag,
        Mode::Chunks,
        Mode::ChunksZigZag,
        Mode::Ring,
        Mode::ZigZag,
        Mode::Striped,
        Mode::Heads,
    ];

    fn mesh(self) -> Mesh {
        let line = |n: usize, deal: Deal| Mesh::line("context", n).dealing(0, deal);
        match self {
            Mode::Gather(n) | Mode::Chunks(n) | Mode::Ring(n) | Mode::Heads(n) => {
                line(n, Deal::Blocks)
            }
            Mode::GatherZigZag(n) | Mode::ChunksZigZag(n) | Mode::ZigZag(n) => {
                line(n, Deal::ZigZag)
            }
            Mode::Striped(n) => line(n, Deal::Striped),
            Mode::Hybrid(around, heads) => {
                Mesh::new([("around", around), ("heads", heads)]).expect("workers")
            }
            Mode::Inside(heads, around) | Mode::InsideChunks(heads, around) => {
                let mesh = Mesh::new([("heads", heads), ("around", around)]);
                mesh.expect("workers").dealing(1, Deal::ZigZag)
            }
        }
    }

    /// Queries, keys, bounds, and how keys come in pieces.
    fn layouts(self) -> ([Layout; 3], Option<Pieces>) {
        let on = |axes: &[[Placement; 3]]| {
            [0, 1, 2].map(|i| Layout::new(axes.iter().map(|a| a[i]).collect::<Vec<_>>()))
        };
        let gather = [POSITIONS, SAME, POSITIONS];
        let ring = [POSITIONS; 3];
        let heads = [QUERY_GROUPS, KEY_GROUPS, SAME];
        match self {
            Mode::Gather(_) | Mode::GatherZigZag(_) => (on(&[gather]), None),
            Mode::Ring(_) | Mode::ZigZag(_) | Mode::Striped(_) => {
                (on(&[ring]), Some(Pieces::Around(0)))
            }
            Mode::Chunks(_) | Mode::ChunksZigZag(_) => (on(&[ring]), Some(Pieces::Direct(0))),
            Mode::Heads(_) => (on(&[heads]), None),
            Mode::Hybrid(..) => (on(&[ring, heads]), Some(Pieces::Around(0))),
            Mode::Inside(..) => (on(&[heads, ring]), Some(Pieces::Around(1))),
            Mode::InsideChunks(..) => (on(&[heads, ring]), Some(Pieces::Direct(1))),
        }
    }
}

/// Attention of `q` and `kv`, which come and whose output goes cut by position on every axis.
pub(crate) fn graph(mode: Mode, of: &Problem, dtype: DType, regather: bool) -> Result<Graph> {
    let mesh = mode.mesh();
    let cut = Layout::new(vec![POSITIONS; mesh.rank()]);
    let ([queries, keys, told], pieces) = mode.layouts();
    let mut graph = Graph::new(mesh);
    let [q, kv] = of.shapes();
    let q = graph.input("q", Spec::new(q, dtype, cut.clone()))?;
    let kv = graph.input("kv", Spec::new(kv, dtype, cut.clone()))?;
    let bounds = match of.bounds {
        Some(_) => Some(graph.input("bounds", Spec::new([2, of.n, 2], DType::I64, told))?),
        None => None,
    };
    let across = Across {
        attention: of.attention,
        queries,
        keys,
        pieces,
        regather,
        flash: true,
    };
    let y = across.apply(&mut graph, "attention", [q, kv], bounds)?;
    let y = graph.relayout(y, &cut)?;
    graph.output("y", y)?;
    Ok(graph)
}
