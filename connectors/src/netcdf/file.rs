//! One way to read netCDF-4, plain HDF5 and classic netCDF.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::cf::{Packing, instants};
use super::classic::ClassicFile;
use super::hdf::{HdfFile, ReadPath};
use super::model::{Attribute, NumberType, Values, Variable};
use super::slab::Slab;
use crate::error::{ConnectorError, Result};

/// The most bytes one read may return by default: 8 GiB.
const LIMIT: u64 = 8 << 30;

/// An open file of arrays.
#[derive(Debug)]
pub struct NetcdfFile {
    place: String,
    limit: u64,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Classic(ClassicFile),
    Hdf(Box<HdfFile>),
}

impl NetcdfFile {
    /// Opens a file and reads its table of contents. Errors if it is in none of the formats,
    /// truncated or damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut magic = Vec::with_capacity(4);
        File::open(path)
            .map_err(ConnectorError::io(
                "open",
                path,
                "check the path and its permissions",
            ))?
            .take(4)
            .read_to_end(&mut magic)
            .map_err(ConnectorError::io("read", path, "check the disk"))?;
        let inner = match magic.as_slice() {
            [b'C', b'D', b'F', _] => Inner::Classic(ClassicFile::open(path)?),
            _ => Inner::Hdf(Box::new(HdfFile::open(path)?)),
        };
        Ok(Self {
            place: path.display().to_string(),
            limit: LIMIT,
            inner,
        })
    }

    /// Sets the most bytes one read may return (default 8 GiB).
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// The path, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// All variables by name.
    pub fn variables(&self) -> &BTreeMap<String, Variable> {
        match &self.inner {
            Inner::Classic(f) => &f.variables,
            Inner::Hdf(f) => &f.variables,
        }
    }

    /// Lengths of the named dimensions.
    pub fn dimensions(&self) -> &BTreeMap<String, usize> {
        match &self.inner {
            Inner::Classic(f) => &f.dimensions,
            Inner::Hdf(f) => &f.dimensions,
        }
    }

    /// Attributes of the file itself.
    pub fn attributes(&self) -> &BTreeMap<String, Attribute> {
        match &self.inner {
            Inner::Classic(f) => &f.attributes,
            Inner::Hdf(f) => &f.attributes,
        }
    }

    /// A variable by name. Errors with the names there are.
    pub fn variable(&self, name: &str) -> Result<&Variable> {
        self.variables()
            .get(name)
            .ok_or_else(|| ConnectorError::Unknown {
                place: self.place.clone(),
                kind: "variable",
                name: name.to_string(),
                found: self
                    .variables()
                    .keys()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// Numbers as they are stored, row-major, shape `slab.count`.
    ///
    /// Errors if the variable is unknown or holds no numbers, the box leaves it, the bytes exceed
    /// the limit, or the file is damaged there.
    pub fn read(&self, name: &str, slab: &Slab) -> Result<Values> {
        self.read_by(name, slab, ReadPath::Fastest)
    }

    /// [`NetcdfFile::read`] by a chosen path; classic files have one path only.
    pub fn read_by(&self, name: &str, slab: &Slab, path: ReadPath) -> Result<Values> {
        let variable = self.variable(name)?;
        if variable.number_type == NumberType::Other {
            return Err(ConnectorError::invalid(
                &*self.place,
                format!("variable `{name}`"),
                "texts or compounds",
                "a variable of numbers",
            ));
        }
        slab.check(variable, &self.place, self.limit)?;
        match &self.inner {
            Inner::Classic(f) => f.read(variable, slab),
            Inner::Hdf(f) => f.read(variable, slab, path),
        }
    }

    /// Physical numbers in single precision: unpacked, missing ones NaN (see [`Packing`]).
    pub fn read_f32(&self, name: &str, slab: &Slab) -> Result<Vec<f32>> {
        let stored = self.read(name, slab)?;
        Ok(Packing::of(self.variable(name)?).unpack_f32(stored))
    }

    /// Physical numbers in double precision: unpacked, missing ones NaN (see [`Packing`]).
    pub fn read_f64(&self, name: &str, slab: &Slab) -> Result<Vec<f64>> {
        let stored = self.read(name, slab)?;
        Ok(Packing::of(self.variable(name)?).unpack_f64(stored))
    }

    /// All of a variable in double precision; for coordinates.
    pub fn read_all_f64(&self, name: &str) -> Result<Vec<f64>> {
        self.read_f64(name, &Slab::all(self.variable(name)?))
    }

    /// Instants of a CF time coordinate, nanoseconds since 1970. Errors if `units` are no time.
    pub fn read_times(&self, name: &str) -> Result<Vec<i64>> {
        let variable = self.variable(name)?;
        let stored = self.read(name, &Slab::all(variable))?;
        instants(variable, stored, &self.place)
    }
}
