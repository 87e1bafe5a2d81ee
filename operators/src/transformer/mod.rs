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
//! relayouts between these layouts, forward and back. What is between them runs on processors, or on a device
//! ([`Strategy::on`]).

pub(crate) mod blocks;
pub(crate) mod build;
mod depth;
mod gpt;
mod on_device;
mod strategy;
mod style;
mod vit;

pub use blocks::Activation;
pub use gpt::Gpt;
pub use strategy::{Context, Role, Strategy, Zero};
pub use style::{Norm, Positions, Style};
pub use vit::Vit;

use advect_engine::DType;

/// The type of parameters, their gradients and the state of their optimizer where what flows is of type
/// `flows`: in mixed precision (`BF16`), what is learned is not rounded.
pub fn stored(flows: DType) -> DType {
    match flows {
        DType::BF16 => DType::F32,
        other => other,
    }
}
