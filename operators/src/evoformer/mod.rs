//! The Evoformer: an alignment of sequences and the pairs of their positions, each of which attends to the other
//! (Jumper et al. 2021, *Highly accurate protein structure prediction with AlphaFold*, supplement 1.6).

mod attention;
pub(crate) mod laws;
mod tile;
mod view;

pub use attention::{Along, EvoformerAttention};
