//! The adjoint graph: operators and relayouts, written once forward, wired in both directions.
//!
//! A [`Graph`] is built once from a mesh: sources ([`Graph::input`], [`Graph::parameter`]),
//! operators ([`Graph::apply`]) and relayouts ([`Graph::relayout`]). It can then be
//!
//! * printed, with its bytes, before it runs ([`std::fmt::Display`], [`Graph::dot`]);
//! * wired as a timely dataflow ([`Graph::wire`]) and mirrored ([`Graph::backward`]): operators
//!   become their adjoints, relayouts run from the dual of their end to the dual of their start,
//!   and cotangents that meet are added from the last use to the first, which comes last;
//! * rehearsed on all workers in one thread ([`Graph::rehearse`]), which is the reference that the
//!   dataflow equals bit for bit and where tangents are computed.
//!
//! | on the way forward | on the way back |
//! |---|---|
//! | operator | its adjoint |
//! | relayout X → Y | relayout dual(Y) → dual(X) |
//! | fan-out | sum from the last use to the first |
//! | parameter held over the moments of a version | sum in the order of the moments |
//! | what the derivative needs | a message from the operator to its adjoint |
//! | tensor that is made again ([`Graph::remake`]) | its maker once more, when a cotangent comes |
//! | tensor that is put away ([`Graph::offload`]) | itself, from a file, when a cotangent comes |
//! | operators that follow each other as one ([`Graph::fused`]) | its adjoint |
//! | operator at one place of an axis | its adjoint there, nothing elsewhere |
//! | `bf16` widened and rounded at the edges of an operator ([`Mixed`]) | cotangents likewise |

mod adjoint;
mod admission;
mod backward;
mod build;
mod collect;
mod forward;
mod fuse;
mod gate;
mod kept;
mod mixed;
mod moment;
mod offload;
mod operator;
mod order;
mod place;
mod print;
mod reducing;
mod rehearse;
mod remake;
mod shuffle;
mod spec;
mod sweep;
mod wire;

pub use build::{Graph, Rate, Value};
pub use fuse::{Chain, End, Fit, Link};
pub use kept::Kept;
pub use mixed::Mixed;
pub use moment::Moment;
pub use operator::{Operator, Saved, Site};
pub use rehearse::{Rehearsal, Transposed};
pub use shuffle::Delivery;
pub use spec::{Rows, Spec};
pub use wire::{Streams, Wired, Wiring};
