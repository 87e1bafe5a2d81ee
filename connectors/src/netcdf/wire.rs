//! What a process that reads HDF5 for another one is asked, and what it answers.
//!
//! A frame is a length (u32, little-endian) and so many bytes of JSON; the numbers of a hyperslab
//! follow their frame as they are in memory. Real numbers travel as their bits, since JSON has
//! no NaN.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::decoder::Extent;
use super::direct::Layout;
use super::library::{Catalogue, Plan};
use super::model::{Attribute, NumberType, Variable};
use super::slab::{Slab, product};
use crate::error::ConnectorError;

/// The longest frame: 16 MiB.
const MAX_FRAME: u32 = 16 << 20;

/// A request. The first one opens a file; all others are about that file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// The bytes of its path.
    Open(Vec<u8>),
    Layout(String, Slab),
    Read(String, Slab),
}

/// The answer to a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Opened(Contents),
    NotNow,
    Layout(Option<WireLayout>),
    /// So many bytes of numbers follow.
    Numbers(u64),
    Fault(Fault),
}

/// A [`Catalogue`] on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Contents {
    variables: Vec<WireVariable>,
    dimensions: BTreeMap<String, usize>,
    attributes: BTreeMap<String, WireAttribute>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireVariable {
    name: String,
    dimensions: Vec<String>,
    shape: Vec<usize>,
    number_type: NumberType,
    chunk: Option<Vec<usize>>,
    attributes: BTreeMap<String, WireAttribute>,
}

#[derive(Debug, Serialize, Deserialize)]
enum WireAttribute {
    Text(String),
    Integers(Vec<i64>),
    Bits(Vec<u64>),
}

/// A [`Layout`] on the wire; chunks are (address, size).
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireLayout {
    Contiguous(u64),
    Chunked {
        chunk: Vec<usize>,
        deflate: bool,
        shuffle: bool,
        at: Vec<(u64, u64)>,
    },
}

/// A [`ConnectorError`] without its place, which the asking side knows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Fault {
    Hdf5(String, String),
    TooLarge(String, u64, u64),
    Format(String),
}

impl Fault {
    pub(super) fn of(error: ConnectorError) -> Self {
        match error {
            ConnectorError::Hdf5 { action, detail, .. } => Fault::Hdf5(action, detail),
            ConnectorError::TooLarge {
                what,
                needed,
                limit,
                ..
            } => Fault::TooLarge(what, needed, limit),
            ConnectorError::Format { detail, .. } => Fault::Format(detail),
            other => Fault::Format(other.to_string()),
        }
    }

    pub(super) fn error(self, place: &str) -> ConnectorError {
        let place = place.to_string();
        match self {
            Fault::Hdf5(action, detail) => ConnectorError::Hdf5 {
                place,
                action,
                detail,
            },
            Fault::TooLarge(what, needed, limit) => ConnectorError::TooLarge {
                place,
                what,
                needed,
                limit,
            },
            Fault::Format(detail) => ConnectorError::format(
                place,
                "netCDF or HDF5",
                detail,
                "check that it is whole (compare its size with the origin) and no other format",
            ),
        }
    }
}

fn attributes_out(from: BTreeMap<String, Attribute>) -> BTreeMap<String, WireAttribute> {
    let out = |a| match a {
        Attribute::Text(t) => WireAttribute::Text(t),
        Attribute::Integers(v) => WireAttribute::Integers(v),
        Attribute::Reals(v) => WireAttribute::Bits(v.into_iter().map(f64::to_bits).collect()),
    };
    from.into_iter().map(|(n, a)| (n, out(a))).collect()
}

fn attributes_in(from: BTreeMap<String, WireAttribute>) -> BTreeMap<String, Attribute> {
    let back = |a| match a {
        WireAttribute::Text(t) => Attribute::Text(t),
        WireAttribute::Integers(v) => Attribute::Integers(v),
        WireAttribute::Bits(v) => Attribute::Reals(v.into_iter().map(f64::from_bits).collect()),
    };
    from.into_iter().map(|(n, a)| (n, back(a))).collect()
}

impl From<Catalogue> for Contents {
    fn from(c: Catalogue) -> Self {
        let variables = c.variables.into_values().map(|v| WireVariable {
            name: v.name,
            dimensions: v.dimensions,
            shape: v.shape,
            number_type: v.number_type,
            chunk: v.chunk,
            attributes: attributes_out(v.attributes),
        });
        Contents {
            variables: variables.collect(),
            dimensions: c.dimensions,
            attributes: attributes_out(c.attributes),
        }
    }
}

impl Contents {
    /// The catalogue, if it holds together: nothing is believed because the other process says it.
    pub(super) fn catalogue(self) -> Option<Catalogue> {
        let mut variables = BTreeMap::new();
        for v in self.variables {
            let size = v.number_type.size().max(1);
            product(&v.shape).and_then(|n| n.checked_mul(size))?;
            if v.dimensions.len() != v.shape.len() {
                return None;
            }
            let variable = Variable {
                name: v.name,
                dimensions: v.dimensions,
                shape: v.shape,
                number_type: v.number_type,
                chunk: v.chunk,
                attributes: attributes_in(v.attributes),
            };
            variables.insert(variable.name.clone(), variable);
        }
        Some(Catalogue {
            variables,
            dimensions: self.dimensions,
            attributes: attributes_in(self.attributes),
        })
    }
}

impl From<Plan> for Answer {
    fn from(plan: Plan) -> Self {
        let Plan::Known(layout) = plan else {
            return Answer::NotNow;
        };
        Answer::Layout(layout.map(|layout| match layout {
            Layout::Contiguous(begin) => WireLayout::Contiguous(begin),
            Layout::Chunked {
                chunk,
                deflate,
                shuffle,
                at,
                ..
            } => WireLayout::Chunked {
                chunk,
                deflate,
                shuffle,
                at: at.iter().map(|e| (e.address, e.size)).collect(),
            },
        }))
    }
}

impl WireLayout {
    /// The layout, if it fits the variable.
    pub(super) fn layout(self, variable: &Variable) -> Option<Layout> {
        match self {
            WireLayout::Contiguous(begin) => Some(Layout::Contiguous(begin)),
            WireLayout::Chunked {
                chunk,
                deflate,
                shuffle,
                at,
            } => {
                let extent = |(address, size)| Extent { address, size };
                let at = at.into_iter().map(extent).collect();
                Layout::chunked(variable, chunk, (deflate, shuffle), at)
            }
        }
    }
}

/// Sends a frame. Errors if it is too long or the other side is gone.
pub(super) fn send(to: &mut impl Write, frame: &impl Serialize) -> std::io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, frame)?;
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    if length > MAX_FRAME {
        let detail = format!("a table of contents of {length} bytes, at most {MAX_FRAME} are read");
        return Err(Error::new(ErrorKind::InvalidData, detail));
    }
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&bytes)
}

/// Receives a frame. Memory grows only with bytes that came.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> std::io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    let mut bytes = Vec::new();
    from.take(u64::from(length.min(MAX_FRAME)))
        .read_to_end(&mut bytes)?;
    if bytes.len() != length as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&bytes)?)
}
