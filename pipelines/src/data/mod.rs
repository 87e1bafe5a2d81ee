//! Data sets: where they come from, their digest and their licence.

mod catalogue;
mod fetch;
mod sha256;

use std::path::PathBuf;

pub use catalogue::{CATALOGUE, DataSet, Origin, find};
pub use fetch::get;
pub use sha256::sha256_of;

/// The folder of the data sets: the environment variable `ADVECT_DATA`, if it is set.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os("ADVECT_DATA")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
}
