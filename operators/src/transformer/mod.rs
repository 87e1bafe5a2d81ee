//! Transformers as graphs: the model is written once, and what every mesh axis does is a [`Strategy`].
//!
//! | tensor | [`Role::Data`] | [`Role::Sharded`] | [`Role::Tensor`] | [`Role::Sequence`] | [`Role::Context`] | [`Role::Stage`] |
//! |---|---|---|---|---|---|---|
//! | residual stream `[b, s, h]` | b | b | Same | s | s | At |
//! | heads and hidden columns | b | b | cut | cut | s | At |
//! | vocabulary | Same | Same | cut | cut | Same | At the ends |
//! | parameters of heads, columns, vocabulary, stored | Same | cut | cut | cut | Same | At |
//! | other parameters, stored | Same | cut | Same | Same | Same | At |
//!
//! Axes of any roles stand in any order, and several may have one role. All communication is in the
//! relayouts between these layouts, forward and back.

mod build;
mod gpt;
mod strategy;
mod style;

pub use gpt::{Activation, Gpt};
pub use strategy::{Context, Role, Strategy, Zero};
pub use style::{Norm, Positions, Style};
