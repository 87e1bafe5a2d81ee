//! Dimension scales: how HDF5 says which dimension is which.
//!
//! "HDF5 Dimension Scale Specification" (The HDF Group): a scale is a data set with
//! `CLASS = "DIMENSION_SCALE"` and a `NAME`; a variable lists a reference to the scale of each
//! dimension in `DIMENSION_LIST`, and a scale lists its users in `REFERENCE_LIST`. netCDF-4 reads
//! dimension names from there and numbers them by `_Netcdf4Dimid`.

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenArray};
use hdf5::{Dataset, Datatype, File, H5Type, Location, ObjectReference, ObjectReference1};

use super::meta::NO_VARIABLE;
use super::model::Attribute;
use crate::error::{ConnectorError, Result};

/// One entry of `REFERENCE_LIST`: which variable uses a scale, for which of its dimensions.
#[derive(Debug, Clone, Copy, H5Type)]
#[repr(C)]
struct Use {
    dataset: ObjectReference1,
    dimension: i32,
}

/// Writes the attributes that make `dataset` the scale of dimension number `id`.
pub(super) fn mark_scale(
    dataset: &Dataset,
    name: &str,
    id: usize,
    coordinate: bool,
    place: &str,
) -> Result<()> {
    terminated(dataset, "CLASS", "DIMENSION_SCALE", place)?;
    if coordinate {
        terminated(dataset, "NAME", name, place)?;
    } else {
        // The length follows in ten columns, as the netCDF library writes it.
        let n = dataset.size();
        terminated(dataset, "NAME", &format!("{NO_VARIABLE}{n:10}"), place)?;
    }
    let id = i32::try_from(id).unwrap_or(i32::MAX);
    let refuse = || ConnectorError::hdf5(place, format!("number dimension `{name}`"));
    let attribute = dataset
        .new_attr::<i32>()
        .create("_Netcdf4Dimid")
        .map_err(refuse())?;
    attribute.write_scalar(&id).map_err(refuse())
}

/// Lists the scales `dimensions` of the variable at `variable` in its `DIMENSION_LIST`.
pub(super) fn attach(
    file: &File,
    variable: &str,
    dimensions: &[String],
    place: &str,
) -> Result<()> {
    let refuse = || ConnectorError::hdf5(place, format!("attach dimensions to `{variable}`"));
    let lists = dimensions
        .iter()
        .map(|d| {
            Ok(VarLenArray::from_slice(&[ObjectReference1::create(
                file, d,
            )?]))
        })
        .collect::<hdf5::Result<Vec<VarLenArray<ObjectReference1>>>>()
        .map_err(refuse())?;
    let dataset = file.dataset(variable).map_err(refuse())?;
    let builder = dataset.new_attr_builder().with_data(&lists);
    builder.create("DIMENSION_LIST").map(drop).map_err(refuse())
}

/// Lists the users of a scale, as `(variable, position of the dimension)`.
pub(super) fn list_users(
    file: &File,
    scale: &str,
    users: &[(String, usize)],
    place: &str,
) -> Result<()> {
    if users.is_empty() {
        return Ok(());
    }
    let refuse = || ConnectorError::hdf5(place, format!("list the users of `{scale}`"));
    let uses = users
        .iter()
        .map(|(variable, d)| {
            let dimension = i32::try_from(*d).unwrap_or(i32::MAX);
            Ok(Use {
                dataset: ObjectReference1::create(file, variable)?,
                dimension,
            })
        })
        .collect::<hdf5::Result<Vec<Use>>>()
        .map_err(refuse())?;
    let dataset = file.dataset(scale).map_err(refuse())?;
    let builder = dataset.new_attr_builder().with_data(&uses);
    builder.create("REFERENCE_LIST").map(drop).map_err(refuse())
}

/// A text attribute that ends in NUL, which the specification demands of `CLASS` and `NAME`.
fn terminated(location: &Location, name: &str, text: &str, place: &str) -> Result<()> {
    let refuse = || ConnectorError::hdf5(place, format!("write attribute `{name}`"));
    let datatype =
        Datatype::from_descriptor(&TypeDescriptor::FixedAscii(text.len() + 1)).map_err(refuse())?;
    // SAFETY: `datatype` owns a valid, modifiable string type for the whole call, and `sync`
    // holds the lock under which the library may be called.
    let status = hdf5::sync::sync(|| unsafe {
        hdf5_sys::h5t::H5Tset_strpad(datatype.id(), hdf5_sys::h5t::H5T_STR_NULLTERM)
    });
    if status < 0 {
        let detail = "H5Tset_strpad refused".to_string();
        let (place, action) = (place.to_string(), format!("write attribute `{name}`"));
        return Err(ConnectorError::Hdf5 {
            place,
            action,
            detail,
        });
    }
    let attribute = location
        .new_attr_builder()
        .empty_as(&datatype)
        .shape(())
        .create(name)
        .map_err(refuse())?;
    let value = FixedAscii::<1024>::from_ascii(text).map_err(|e| {
        ConnectorError::invalid(place, format!("dimension name `{text}`"), e, "plain ASCII")
    })?;
    attribute.write_scalar(&value).map_err(refuse())
}

/// Writes an ordinary attribute: texts with their exact length, integers as i32 where they fit
/// (classic tools know no i64), reals as f64.
pub(super) fn write_attribute(
    location: &Location,
    name: &str,
    value: &Attribute,
    place: &str,
) -> Result<()> {
    let refuse = || ConnectorError::hdf5(place, format!("write attribute `{name}`"));
    fn numbers<T: H5Type>(location: &Location, name: &str, v: &[T]) -> hdf5::Result<()> {
        match v {
            [one] => location.new_attr::<T>().create(name)?.write_scalar(one),
            many => location
                .new_attr_builder()
                .with_data(many)
                .create(name)
                .map(drop),
        }
    }
    match value {
        Attribute::Text(text) => write_text(location, name, text).map_err(refuse()),
        Attribute::Reals(v) => numbers(location, name, v).map_err(refuse()),
        Attribute::Integers(v) => {
            let short: Result<Vec<i32>, _> = v.iter().map(|&x| i32::try_from(x)).collect();
            match short {
                Ok(short) => numbers(location, name, &short).map_err(refuse()),
                Err(_) => numbers(location, name, v).map_err(refuse()),
            }
        }
    }
}

fn write_text(location: &Location, name: &str, text: &str) -> hdf5::Result<()> {
    // A string type of HDF5 is at least one byte long.
    let n = text.len().max(1);
    let create = |descriptor| {
        location
            .new_attr_builder()
            .empty_as(TypeDescriptor::clone(&descriptor))
            .shape(())
            .create(name)
    };
    if text.is_ascii() && !text.contains('\0') {
        let attribute = create(TypeDescriptor::FixedAscii(n))?;
        let fit = |e| hdf5::Error::Internal(format!("text of {n} bytes: {e}"));
        if n <= 1024 {
            attribute.write_scalar(&FixedAscii::<1024>::from_ascii(text).map_err(fit)?)
        } else {
            attribute.write_scalar(&FixedAscii::<65536>::from_ascii(text).map_err(fit)?)
        }
    } else {
        let attribute = create(TypeDescriptor::FixedUnicode(n))?;
        let fit = |e| hdf5::Error::Internal(format!("text of {n} bytes: {e}"));
        attribute.write_scalar(&text.parse::<FixedUnicode<65536>>().map_err(fit)?)
    }
}
