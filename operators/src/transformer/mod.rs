//! Transformers as graphs: the model is written once, and what every mesh axis does is a [`Strategy`].
//!
//! | tensor | [`Role::Data`] | [`Role::Sharded`] | [`Role::Tensor`] | [`Role::Sequence`] | [`Role::Context`] |
//! |---|---|---|---|---|---|
//! | residual stream `[b, s, h]` | b | b | Same | s | s |
//! | heads and hidden columns | b | b | cut | cut | s |
//! | vocabulary | Same | Same | cut | cut | Same |
//! | parameters of heads, columns, vocabulary, stored | Same | cut | cut | cut | Same |
//! | other parameters, stored | Same | cut | Same | Same | Same |
//!
//! Axes of any roles stand in any order, and several may have one role. All communication is in the
//! relayouts between these layouts, forward and back.

mod build;
mod gpt;
mod strategy;

pub use gpt::{Activation, Gpt};
pub use strategy::{Context, Role, Strategy};
