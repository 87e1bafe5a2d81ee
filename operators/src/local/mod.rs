//! Local functions: tensors of candle and one small tape over them.
//!
//! A [`Function`] says what it computes with the verbs of a [`Tape`]; [`Local`] makes an operator of it, with
//! its tangent and its adjoint. Nothing else is written by hand.
//!
//! The tape is a flat list of nodes; a [`Handle`] is a place in it. A sweep goes through the list from the
//! end, so a chain of any length needs no stack. It starts from given cotangents of several nodes, touches
//! only what lies between them and the wanted inputs, and gives a gradient the moment it is complete. What
//! an operation does to cotangents is itself written with the verbs of the tape, so that a sweep can be
//! recorded ([`Tape::gradients`]) and swept again: forces $-\partial E/\partial x$ are trained through that
//! way. A sweep that is not recorded ([`Tape::sweep`]) owns the tape and lets every value go as it passes.
//!
//! | module | what it holds |
//! |---|---|
//! | `tape` | nodes, their values and the bytes they hold |
//! | `operation` | the primitive operations, forward |
//! | `cotangent` | what each does to a cotangent |
//! | `verbs`, `rows` | the operations as a user writes them |
//! | `plan`, `sweep`, `mode` | gradients, recorded or released |
//! | `remake`, `kernel` | segments whose inner values are made again, and those that a device has a kernel for |
//! | `operator`, `layouts` | functions as operators on cut tensors |
//! | `device` | processors and GPUs by name |
//! | `resident` | parameters that stay on a device for a version |
//!
//! The derivative formulas are the textbook ones: Griewank and Walther (2008), *Evaluating Derivatives*,
//! chapters 3 and 12 (making values again).

mod cotangent;
mod device;
mod kernel;
mod layouts;
mod ledger;
mod mode;
mod operation;
mod operator;
mod plan;
mod remake;
mod resident;
mod rows;
mod shards;
mod sweep;
mod tape;
mod verbs;

pub(crate) mod laws;

pub use candle_core::{DType, Device, Tensor};
pub use device::device;
pub(crate) use kernel::Kernel;
pub use layouts::{Cut, RowLayouts};
pub(crate) use operation::wide;
pub use operator::{Function, Local};
pub use shards::placed;
pub use sweep::Ready;
pub use tape::{Handle, Tape};
