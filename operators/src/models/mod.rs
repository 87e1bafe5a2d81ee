//! Small chaotic models with their tangent-linear and adjoint, the proving ground of assimilation.
//!
//! | model | module | integrator | source |
//! |---|---|---|---|
//! | Lorenz-63 | [`lorenz63`] | RK4 | Lorenz (1963) |
//! | Lorenz-96 | [`lorenz96`] | RK4 | Lorenz (1996) |
//! | Kuramoto–Sivashinsky | [`kuramoto_sivashinsky`] | ETDRK4 | Kassam and Trefethen (2005) |

mod forecast;
pub mod kuramoto_sivashinsky;
pub mod lorenz63;
pub mod lorenz96;
pub mod model;
pub mod runge_kutta;

#[cfg(test)]
pub(crate) mod laws;

pub use forecast::Forecast;
pub use kuramoto_sivashinsky::KuramotoSivashinsky;
pub use lorenz63::Lorenz63;
pub use lorenz96::Lorenz96;
pub use model::Model;
pub use runge_kutta::{RungeKutta4, Tendency};
