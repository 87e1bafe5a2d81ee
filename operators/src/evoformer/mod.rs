//! The Evoformer: an alignment of sequences and the pairs of their positions, each of which attends to the other
//! (Jumper et al. 2021, *Highly accurate protein structure prediction with AlphaFold*, supplement 1.6).
//!
//! | operator | module | what it is |
//! |---|---|---|
//! | [`EvoformerAttention`] | `attention` | rows, columns and triangles attend, with a mask and a shared bias |
//! | [`TriangleProduct`] | `triangle` | pairs multiplied over the third node of a triangle |
//! | [`OuterProductMean`] | `outer` | from columns of an alignment to their pairs |
//! | [`PairEmbedding`] | `pair` | first pairs, from positions and their differences |
//! | [`FirstRowEmbedding`] | `first_row` | rows of a table for the first sequence |
//! | [`AddTransposed`] | `transposed` | pairs made symmetric |
//! | [`PairCount`] | `pair_count` | rows in which both positions of a pair are there |
//! | [`ByCount`] | `by_count` | what is not there made 0, and means of what is |
//!
//! [`Evoformer`] is the model; what every axis of a mesh does is a [`Strategy`](crate::transformer::Strategy):
//!
//! | tensor | data, zero | context-heads | context-gather | sequence | tensor | stage |
//! |---|---|---|---|---|---|---|
//! | alignment `[b, s, l, c]` between blocks | b | s | l | s | Same | At |
//! | pairs `[b, l, l, c]` between blocks | b | first l | first l | first l | Same | At |
//! | heads and hidden columns | b | | | cut | cut | At |
//! | row attention | b | s | l, keys gathered | heads | heads | At |
//! | column attention | b | l: an all-to-all | l | heads | heads | At |
//! | triangles, starting node | b | first l | first l | heads | heads | At |
//! | triangles, ending node | b | second l: an all-to-all | as before | heads | heads | At |
//!
//! Where a mask is given, attention sees no key that is not there, products of triangles and outer products take 0 in its
//! place, and means of outer products are over the rows in which both positions are there.
//!
//! An axis of the role `context-heads` exchanges rows for columns and back, as heads are exchanged for positions in a
//! transformer (Cheng et al. 2023, *FastFold*, dynamic axial parallelism); one of the role `context-gather` cuts
//! the columns of the alignment everywhere. Other roles of a context (`context-chunks`, `context-ring`, and positions
//! that are dealt out in another order) have no form here and are refused: take `context-gather`. In both, rows of pairs are cut, the bias of rows and triangles is
//! gathered where all of it is needed, and of its cotangent every worker has a part of the sum.

mod attention;
mod by_count;
mod first_row;
pub(crate) mod laws;
mod masks;
mod model;
mod outer;
mod pair;
mod pair_count;
mod places;
mod stack;
mod tile;
mod transposed;
mod triangle;
mod view;

pub use attention::{Along, EvoformerAttention};
pub use by_count::ByCount;
pub use first_row::FirstRowEmbedding;
pub use model::Evoformer;
pub use outer::OuterProductMean;
pub use pair::PairEmbedding;
pub use pair_count::PairCount;
pub use transposed::AddTransposed;
pub use triangle::{Edges, TriangleProduct};
