//! The table of contents of an HDF5 file: variables, dimension names, attributes.
//!
//! Dimension names follow the HDF5 dimension-scale specification as netCDF-4 uses it: a data set
//! with `CLASS = "DIMENSION_SCALE"` names a dimension, and `DIMENSION_LIST` of a variable refers
//! to the scale of each of its dimensions.

use std::collections::BTreeMap;

use hdf5::types::{FixedAscii, FixedUnicode, FloatSize, IntSize, TypeDescriptor};
use hdf5::types::{VarLenArray, VarLenAscii, VarLenUnicode};
use hdf5::{
    Attribute as HdfAttribute, Dataset, Group, Location, ObjectReference1, ReferencedObject,
};

use super::model::{Attribute, NumberType, Variable};
use super::slab::product;
use crate::error::{ConnectorError, Result};

/// Attributes by which HDF5 and netCDF-4 keep their books; they are not shown.
const BOOKKEEPING: [&str; 7] = [
    "CLASS",
    "NAME",
    "DIMENSION_LIST",
    "REFERENCE_LIST",
    "_Netcdf4Dimid",
    "_Netcdf4Coordinates",
    "_NCProperties",
];
/// Groups deeper than this are not read; a file can hold cycles of hard links.
const MAX_DEPTH: usize = 8;
/// The most data sets that are listed.
const MAX_VARIABLES: usize = 65_536;
/// The most numbers or bytes of one attribute.
const MAX_ATTRIBUTE: usize = 65_536;
/// What netCDF-4 writes into `NAME` of a dimension that has no variable.
pub(super) const NO_VARIABLE: &str = "This is a netCDF dimension but not a netCDF variable.";

/// What [`contents`] finds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) variables: BTreeMap<String, Variable>,
    pub(super) dimensions: BTreeMap<String, usize>,
}

/// Lists all variables of a file, also those in groups.
pub(super) fn contents(root: &Group, place: &str) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut groups = vec![(root.clone(), 0)];
    while let Some((group, depth)) = groups.pop() {
        for dataset in group
            .datasets()
            .map_err(ConnectorError::hdf5(place, "list data sets"))?
        {
            describe(&dataset, place, &mut contents)?;
            if contents.variables.len() > MAX_VARIABLES {
                let what = "number of data sets";
                let most = format!("at most {MAX_VARIABLES}");
                return Err(ConnectorError::invalid(place, what, "more", most));
            }
        }
        if depth < MAX_DEPTH {
            let inner = group
                .groups()
                .map_err(ConnectorError::hdf5(place, "list groups"))?;
            groups.extend(inner.into_iter().map(|g| (g, depth + 1)));
        }
    }
    Ok(contents)
}

fn describe(dataset: &Dataset, place: &str, contents: &mut Contents) -> Result<()> {
    let name = dataset.name().trim_start_matches('/').to_string();
    let refuse = || ConnectorError::hdf5(place, format!("describe `{name}`"));
    let shape = dataset.get_shape().map_err(refuse())?;
    let scale = text_of(dataset, "CLASS").as_deref() == Some("DIMENSION_SCALE");
    if scale && shape.len() == 1 {
        contents.dimensions.insert(name.clone(), shape[0]);
        if text_of(dataset, "NAME").is_some_and(|n| n.starts_with(NO_VARIABLE)) {
            return Ok(());
        }
    }
    let number_type = dataset
        .dtype()
        .and_then(|t| t.to_descriptor())
        .map_or(NumberType::Other, |d| number_type(&d));
    if product(&shape)
        .and_then(|n| n.checked_mul(number_type.size().max(1)))
        .is_none()
    {
        return Err(ConnectorError::invalid(
            place,
            format!("shape of `{name}`"),
            "too large",
            "less",
        ));
    }
    let dimensions = match dimension_names(dataset, shape.len()) {
        Some(names) => names,
        None if scale && shape.len() == 1 => vec![name.clone()],
        None => (0..shape.len()).map(|d| format!("{name}_{d}")).collect(),
    };
    let attributes = attributes(dataset, place)?;
    let chunk = dataset.chunk();
    let variable = Variable {
        name: name.clone(),
        dimensions,
        shape,
        number_type,
        chunk,
        attributes,
    };
    contents.variables.insert(name, variable);
    Ok(())
}

/// The names of the scales of a variable, if every dimension has one.
fn dimension_names(dataset: &Dataset, rank: usize) -> Option<Vec<String>> {
    let lists = dataset
        .attr("DIMENSION_LIST")
        .ok()?
        .read_raw::<VarLenArray<ObjectReference1>>()
        .ok()?;
    if lists.len() != rank || rank == 0 {
        return None;
    }
    let name = |list: &VarLenArray<ObjectReference1>| match dataset
        .dereference(list.as_slice().first()?)
        .ok()?
    {
        ReferencedObject::Dataset(scale) => Some(scale.name().trim_start_matches('/').to_string()),
        _ => None,
    };
    lists.iter().map(name).collect()
}

fn text_of(location: &Location, name: &str) -> Option<String> {
    match read_attribute(&location.attr(name).ok()?) {
        Some(Attribute::Text(text)) => Some(text),
        _ => None,
    }
}

/// The attributes of a data set or a file that have a readable type.
pub(super) fn attributes(location: &Location, place: &str) -> Result<BTreeMap<String, Attribute>> {
    let names = location
        .attr_names()
        .map_err(ConnectorError::hdf5(place, "list attributes"))?;
    let mut attributes = BTreeMap::new();
    for name in names
        .into_iter()
        .filter(|n| !BOOKKEEPING.contains(&n.as_str()))
    {
        let attribute = location.attr(&name).map_err(ConnectorError::hdf5(
            place,
            format!("open attribute `{name}`"),
        ))?;
        match read_attribute(&attribute) {
            Some(value) => _ = attributes.insert(name, value),
            None => tracing::debug!(place, name, "attribute of an unreadable type is left out"),
        }
    }
    Ok(attributes)
}

fn read_attribute(attribute: &HdfAttribute) -> Option<Attribute> {
    let size = product(&attribute.get_shape().ok()?)?;
    if size > MAX_ATTRIBUTE || attribute.space().ok()?.is_null() {
        return None;
    }
    let join = |texts: Vec<String>| Attribute::Text(texts.join(" "));
    macro_rules! text {
        ($type:ty) => {
            join(
                attribute
                    .read_raw::<$type>()
                    .ok()?
                    .iter()
                    .map(|t| t.to_string())
                    .collect(),
            )
        };
    }
    Some(match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) => {
            Attribute::Integers(attribute.read_raw::<i64>().ok()?)
        }
        TypeDescriptor::Float(_) => Attribute::Reals(attribute.read_raw::<f64>().ok()?),
        TypeDescriptor::VarLenUnicode => text!(VarLenUnicode),
        TypeDescriptor::VarLenAscii => text!(VarLenAscii),
        // A fixed text is read into the next larger buffer; the library pads it.
        TypeDescriptor::FixedAscii(n) if n * size <= MAX_ATTRIBUTE => match n {
            0..=64 => text!(FixedAscii<64>),
            65..=1024 => text!(FixedAscii<1024>),
            _ => text!(FixedAscii<{ MAX_ATTRIBUTE }>),
        },
        TypeDescriptor::FixedUnicode(n) if n * size <= MAX_ATTRIBUTE => match n {
            0..=64 => text!(FixedUnicode<64>),
            65..=1024 => text!(FixedUnicode<1024>),
            _ => text!(FixedUnicode<{ MAX_ATTRIBUTE }>),
        },
        _ => return None,
    })
}

pub(super) fn number_type(descriptor: &TypeDescriptor) -> NumberType {
    match descriptor {
        TypeDescriptor::Integer(IntSize::U1) => NumberType::I8,
        TypeDescriptor::Integer(IntSize::U2) => NumberType::I16,
        TypeDescriptor::Integer(IntSize::U4) => NumberType::I32,
        TypeDescriptor::Integer(IntSize::U8) => NumberType::I64,
        TypeDescriptor::Unsigned(IntSize::U1) => NumberType::U8,
        TypeDescriptor::Unsigned(IntSize::U2) => NumberType::U16,
        TypeDescriptor::Unsigned(IntSize::U4) => NumberType::U32,
        TypeDescriptor::Unsigned(IntSize::U8) => NumberType::U64,
        TypeDescriptor::Float(FloatSize::U4) => NumberType::F32,
        TypeDescriptor::Float(FloatSize::U8) => NumberType::F64,
        _ => NumberType::Other,
    }
}
