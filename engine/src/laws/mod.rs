//! The laws that every operator keeps, written once.
//!
//! * **Adjoint**: ⟨J dx, y⟩ = ⟨dx, Jᵀ y⟩ to 1e-12, relative, in double precision.
//! * **Tangent**: J dx is the limit of differences (Richardson's extrapolation, 1e-9).
//! * **Layouts**: the pieces on any mesh stand for the tensors of one worker, to 1e-12: outputs,
//!   tangents and cotangents.
//! * **Order**: the dataflow gives the bits of the rehearsal, whatever order messages come in.
//!
//! An operator is declared with one [`Entry`]: its type and a [`Case`] or two. [`declared`] finds
//! the types that implement a trait in a source tree, so that a test can hold the list against
//! the code and nothing is forgotten.

mod bench;
mod case;
mod check;
mod perform;
mod scan;
mod vector;

pub use case::{Case, Entry};
pub use check::{Figures, check};
pub use perform::{Outcome, Sample, perform};
pub use scan::declared;
