//! netCDF-4, plain HDF5 and classic netCDF files as arrays of numbers, and CF files written.
//!
//! [`NetcdfFile`] opens all three, told apart by their first bytes. A variable is read by
//! hyperslab ([`Slab`]), raw ([`Values`]) or in physical units with missing values as NaN.
//! Chunked and contiguous variables of HDF5 are read past the library where their filters allow
//! it ([`ReadPath`]): chunk addresses come from the library, bytes are read and inflated on
//! worker threads. [`NetcdfWriter`] writes files that Python's netCDF4 and xarray open.
//!
//! | file | what |
//! |---|---|
//! | `model` | variables, attributes, number types |
//! | `slab` | hyperslabs and their contiguous runs |
//! | `cf` | packing, missing values and time axes of the CF conventions |
//! | `classic`, `header` | the classic format (CDF-1, CDF-2), without a library |
//! | `hdf` | HDF5 by the faster of two ways |
//! | `library`, `meta` | HDF5 through the library |
//! | `apart`, `remote`, `wire` | the library in a process of its own, for files from elsewhere |
//! | `direct`, `decoder` | HDF5 chunks past the library |
//! | `spec`, `write`, `scales` | declaring, writing, and the dimension scales of HDF5 |

mod apart;
mod cf;
mod classic;
mod decoder;
mod direct;
mod file;
mod hdf;
mod header;
mod library;
mod meta;
mod model;
mod remote;
mod scales;
mod slab;
mod spec;
mod wire;
mod write;

pub use apart::isolate;
pub use cf::Packing;
pub use file::NetcdfFile;
pub use hdf::ReadPath;
pub use model::{Attribute, NumberType, Values, Variable};
pub use slab::Slab;
pub use spec::{Length, VariableSpec};
pub use write::NetcdfWriter;

#[cfg(test)]
mod tests;
