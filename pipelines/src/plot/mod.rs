//! Maps and diagrams as PNG, drawn without any library of graphics.
//!
//! [`Map`] shows a field on a regular grid of latitude and longitude with relief, coast lines,
//! stations, graticule and colour bar. [`Diagram`] shows series over an axis, with error bars.
//! Both give a [`Canvas`], which saves itself.
//!
//! | file | what |
//! |---|---|
//! | `canvas` | pixels: lines, discs, squares with smooth edges; PNG |
//! | `font` | texts |
//! | `colour` | colour maps of even perception, and their levels |
//! | `projection` | plate carrée and Lambert's conformal conic |
//! | `grid` | fields of latitude and longitude, sampled anywhere |
//! | `map`, `ground`, `overlay` | the map, from bottom to top |
//! | `axis`, `diagram` | ticks, and series over an axis |

mod axis;
mod canvas;
mod colour;
mod diagram;
mod font;
mod grid;
mod ground;
mod map;
mod overlay;
mod projection;

#[cfg(test)]
mod tests;

pub use axis::{round_step, ticks};
pub use canvas::Canvas;
pub use colour::{ColourMap, Rgb, Scale};
pub use diagram::{Diagram, Mark, Series};
pub use font::Size;
pub use grid::Grid;
pub use map::{Map, Station};
pub use projection::Projection;
