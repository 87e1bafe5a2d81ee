//! A discrete dynamical system $x_{k+1} = M(x_k)$ with tangent $M'$ and adjoint $M'^\top$.

use std::fmt::Debug;

/// A deterministic model that advances states of a fixed dimension by a fixed time step.
///
/// States are plain slices of `f64`; several states lie one after the other (row-major, one row a
/// member), so that an ensemble is advanced in one call.
///
/// # Panics
///
/// All methods panic when a slice is not made of whole states: lengths are fixed by the code that
/// calls, never by data.
pub trait Model: Debug + Send + Sync {
    /// The number of state variables, `d`.
    fn dimension(&self) -> usize;

    /// The length of one step in the model's time unit.
    fn time_step(&self) -> f64;

    /// A state from which experiments start, shape `[d]`.
    fn reference_state(&self) -> Vec<f64>;

    /// Advances every row of `states` (`[members * d]`) by `steps` time steps in place.
    ///
    /// A row's result does not depend on the other rows, bit for bit, so members may be split over
    /// workers.
    fn advance(&self, states: &mut [f64], steps: usize);

    /// Replaces `perturbation` (`[d]`) by $M'(x)\,\delta x$ of one step at `state` (`[d]`).
    fn tangent(&self, state: &[f64], perturbation: &mut [f64]);

    /// Replaces `cotangent` (`[d]`) by $M'(x)^\top \lambda$ of one step at `state` (`[d]`).
    fn adjoint(&self, state: &[f64], cotangent: &mut [f64]);
}
