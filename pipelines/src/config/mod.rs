//! Configuration in layers, each value with the place it came from.
//!
//! Layers, later over earlier: the pipeline's documented default, a preset it offers, the file of
//! `--config`, environment variables `ADVECT_SECTION__KEY`, and `--set section.key=value`. The
//! default and the presets say which keys exist and of which type they are; anything else is an
//! error that names the place, the key and the nearest key there is.
//!
//! ```text
//! error: my.toml:3:1: unknown key `inflation.ampitude`; did you mean `inflation.amplitude`?
//! ```

mod error;
mod layer;
mod nearest;
mod origin;
mod resolve;
mod schema;
mod settings;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use nearest::nearest;
pub(crate) use origin::Lines;
pub use origin::Origin;
pub use resolve::{Sources, resolve};
pub use settings::{Config, Setting};

/// The largest configuration file that is read, in bytes.
pub const LIMIT: u64 = 1 << 20;

/// How deep tables may nest.
pub const DEPTH: usize = 16;
