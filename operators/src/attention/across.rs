//! Attention over positions that are cut: whose keys are where is a choice of layouts.

use std::sync::Arc;

use advect_engine::graph::{Mixed, Rate, Value};
use advect_engine::{DType, Graph, Layout, Operator, Placement, Result};

use super::{Attention, AttentionPartial, Composed, FinishAttention, Turn};
use crate::local::Local;
use crate::network::rules::refuse;

/// Attention of queries and keys that are cut along axes of a mesh, by groups, by positions, or both.
///
/// Without `pieces`, the layouts have each query beside all keys of its groups: keys `Same` where queries are
/// cut by position (LSS), or both cut by groups (Ulysses, tensor parallelism). With them, both are cut by
/// position on that axis, and keys with values come in [`Pieces`]: while one is worked on, the next are under
/// way. Rows (m, ℓ, o) stay with their queries, and every turn merges its keys into them.
///
/// The adjoint goes the same way back: around, cotangents of a piece gather from turn to turn on its way home,
/// in `BF16` rounded at every hop; directly, each goes home when its turn is over. What was fetched and not kept
/// is fetched again, each piece one turn before it is needed.
///
/// ```
/// use advect_engine::{DType, Graph, Layout, Mesh, Placement, Spec};
/// use advect_operators::attention::{Across, Attention, Pieces};
/// let mesh = Mesh::line("context", 4);
/// let mut graph = Graph::new(mesh);
/// let cut = Layout::new([Placement::Split { dim: 1 }]);
/// let q = graph.input("q", Spec::new([1, 64, 2, 1, 8], DType::F32, cut.clone()))?;
/// let kv = graph.input("kv", Spec::new([1, 64, 2, 2, 8], DType::F32, cut.clone()))?;
/// let ring = Across {
///     attention: Attention::CAUSAL,
///     queries: cut.clone(),
///     keys: cut,
///     pieces: Some(Pieces::Around(0)),
///     regather: true,
///     flash: true,
/// };
/// let y = ring.apply(&mut graph, "attention", [q, kv], None)?;
/// assert_eq!(graph.spec(y).shape, [1, 64, 2, 1, 8]);
/// // three hops of a quarter of the keys and values, and as many of their cotangents and fetches back
/// assert_eq!(graph.bytes_sent(0), 3 * 16 * 2 * 2 * 8 * 4);
/// assert_eq!(graph.bytes_sent_back(0), 2 * graph.bytes_sent(0));
/// # Ok::<(), advect_engine::EngineError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Across {
    /// What queries see.
    pub attention: Attention,
    /// Where queries `[b, n, g, r, d]` are worked on.
    pub queries: Layout,
    /// Where keys with values `[b, t, 2, g, d]` are then, or at the first turn.
    pub keys: Layout,
    /// How keys that are cut by position come; `None` if all are in one place.
    pub pieces: Option<Pieces>,
    /// Whether keys and values of other workers are let go, and fetched again on the way back.
    pub regather: bool,
    /// Whether scores are taken in blocks and never kept; otherwise attention is [`Composed`], which takes no
    /// pieces.
    pub flash: bool,
}

/// How pieces of keys with values come to the queries of a worker, along an axis of the mesh; each turn works on
/// one, first on that of the worker itself, then on those of the workers after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pieces {
    /// From the worker after this one, which had it a turn before: two are here at most (ring attention; Liu et
    /// al. 2023).
    Around(usize),
    /// From the worker whose it is: all are sent at once, as a gather sends them, and each is worked on while
    /// later ones are under way. All are here at most.
    Direct(usize),
}

/// Positions in queries, and in keys with values.
const POSITIONS: usize = 1;

impl Across {
    /// The output `[b, n, g, r, d]`, where the queries are worked on, of q and keys with values wherever they
    /// are; beside the queries stand `bounds`, if [`Attention::bounded`] asks for them. In `BF16`, rows are
    /// `F32`.
    ///
    /// # Errors
    /// [`advect_engine::EngineError::Operator`] if extents or layouts do not match, or the name is taken.
    pub fn apply(
        &self,
        graph: &mut Graph,
        name: &str,
        [q, kv]: [Value; 2],
        bounds: Option<Value>,
    ) -> Result<Value> {
        let q = graph.relayout(q, &self.queries)?;
        let here = graph.relayout(kv, &self.keys)?;
        if let Some(pieces) = self.pieces {
            return self.turns(graph, name, [q, here], bounds, pieces);
        }
        let inputs: Vec<Value> = [q, here].into_iter().chain(bounds).collect();
        let operator = match self.flash {
            true => mixed(graph, q, self.attention, false),
            false => {
                let scores = Local::new(Composed(self.attention));
                Arc::new(match here != kv && self.regather {
                    true => scores.remade(),
                    false => scores,
                })
            }
        };
        let y = graph.apply_all(name, operator, &inputs)?[0];
        if here != kv && self.regather {
            graph.remake(&[here], y)?;
        }
        Ok(y)
    }

    fn turns(
        &self,
        graph: &mut Graph,
        name: &str,
        [q, own]: [Value; 2],
        bounds: Option<Value>,
        come: Pieces,
    ) -> Result<Value> {
        let (Pieces::Around(axis) | Pieces::Direct(axis)) = come;
        let mesh = graph.mesh();
        let (Some(&of), Some(&deal)) = (mesh.sizes().get(axis), mesh.deals().get(axis)) else {
            return refuse(name, format!("the mesh has no axis {axis}"));
        };
        if !self.flash {
            let why = "attention that keeps its scores takes no keys in pieces; gather them or exchange heads \
                       for positions, or take flash attention";
            return refuse(name, why);
        }
        let (mut rows, mut pieces): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        let mut here = own;
        for by in 0..of {
            if by > 0 {
                let mut layout = self.keys.clone();
                layout.axes[axis] = Placement::Shifted { dim: POSITIONS, by };
                here = match (come, by.checked_sub(2)) {
                    // a piece is not sent before the turn before the last is over: two are here at most
                    (Pieces::Around(_), Some(before)) => {
                        graph.relayout_at(here, &layout, Rate::Moment(rows[before]))?
                    }
                    (Pieces::Around(_), None) => graph.relayout(here, &layout)?,
                    (Pieces::Direct(_), _) => graph.relayout(own, &layout)?,
                };
                pieces.push(here);
            }
            let partial = AttentionPartial {
                attention: self.attention,
                turn: Some(Turn { by, of, deal }),
                onto: by > 0,
            };
            let inputs = [q, here].into_iter().chain(bounds);
            let inputs: Vec<Value> = inputs.chain(rows.last().copied()).collect();
            let partial = mixed(graph, q, partial, true);
            rows.extend(graph.apply_all(&format!("{name}.turn {by}"), partial, &inputs)?);
        }
        if self.regather {
            for (at, &piece) in pieces.iter().enumerate() {
                // on the way back, the turn after that of the piece comes before it
                graph.remake(&[piece], rows[(at + 2).min(of - 1)])?;
            }
        }
        let finish = mixed(graph, q, FinishAttention, false);
        Ok(graph.apply_all(name, finish, &rows[of - 1..])?[0])
    }
}

/// An operator beside `q`, with outputs that are rounded, or `whole`.
fn mixed(
    graph: &Graph,
    q: Value,
    operator: impl Operator + 'static,
    whole: bool,
) -> Arc<dyn Operator> {
    match (graph.spec(q).dtype, whole) {
        (DType::BF16, true) => Arc::new(Mixed::of(operator).whole()),
        (DType::BF16, false) => Arc::new(Mixed::of(operator)),
        _ => Arc::new(operator),
    }
}
