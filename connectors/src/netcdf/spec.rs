//! What a netCDF file to be written is declared to hold.

use super::model::{Attribute, NumberType};

/// The length of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many places.
    Fixed(usize),
    /// As many places as are written.
    Unlimited,
}

/// A variable to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct VariableSpec {
    pub(super) name: String,
    pub(super) dimensions: Vec<String>,
    pub(super) number_type: NumberType,
    pub(super) attributes: Vec<(String, Attribute)>,
    pub(super) fill: Option<f64>,
    pub(super) deflate: Option<u8>,
    pub(super) chunk: Option<Vec<usize>>,
}

impl VariableSpec {
    /// A variable over `dimensions`, slowest first; a coordinate bears the name of its one
    /// dimension. No compression, no attributes, no fill value.
    pub fn new(name: &str, dimensions: &[&str], number_type: NumberType) -> Self {
        Self {
            name: name.to_string(),
            dimensions: dimensions.iter().map(|d| d.to_string()).collect(),
            number_type,
            attributes: Vec::new(),
            fill: None,
            deflate: None,
            chunk: None,
        }
    }

    /// Adds any attribute.
    pub fn attribute(mut self, name: &str, value: impl Into<Attribute>) -> Self {
        self.attributes.push((name.to_string(), value.into()));
        self
    }

    /// CF `units`, as UDUNITS spells them.
    pub fn units(self, units: &str) -> Self {
        self.attribute("units", units)
    }

    /// CF `standard_name`.
    pub fn standard_name(self, name: &str) -> Self {
        self.attribute("standard_name", name)
    }

    /// CF `long_name`.
    pub fn long_name(self, name: &str) -> Self {
        self.attribute("long_name", name)
    }

    /// `_FillValue`: the number of places never written (may be NaN).
    pub fn fill(mut self, value: f64) -> Self {
        self.fill = Some(value);
        self
    }

    /// Compresses with shuffle and deflate of this level, 1 to 9.
    pub fn deflate(mut self, level: u8) -> Self {
        self.deflate = Some(level);
        self
    }

    /// Sets the lengths of a chunk. The default is one place of the slowest dimension.
    pub fn chunk(mut self, lengths: &[usize]) -> Self {
        self.chunk = Some(lengths.to_vec());
        self
    }
}
