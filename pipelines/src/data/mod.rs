//! Data sets: where they come from, their digest and their licence.

mod catalogue;
mod fetch;
mod sha256;

use std::path::PathBuf;

use crate::error::{PipelineError, Result};

pub use catalogue::{CATALOGUE, DataSet, Origin, find};
pub use fetch::get;
pub use sha256::sha256_of;

/// The folder of the data sets: the environment variable `ADVECT_DATA`, if it is set.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os("ADVECT_DATA")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
}

/// The path that a configuration names: `${ADVECT_DATA}/…` lies in the folder of the data sets.
///
/// # Errors
/// [`PipelineError::Data`] if it is to lie there and the variable is not set.
pub fn locate(name: &str) -> Result<PathBuf> {
    let Some(below) = name.strip_prefix("${ADVECT_DATA}/") else {
        return Ok(PathBuf::from(name));
    };
    let root = folder().ok_or_else(|| PipelineError::Data {
        name: below.to_owned(),
        why: "the environment variable ADVECT_DATA is not set".to_owned(),
        mend: "set it to the folder of the data sets, or name the file itself".to_owned(),
    })?;
    Ok(root.join(below))
}
