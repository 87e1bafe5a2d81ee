//! What a file of arrays holds: variables over named dimensions, with attributes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// One or more integers.
    Integers(Vec<i64>),
    /// One or more real numbers.
    Reals(Vec<f64>),
}

impl Attribute {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Attribute::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All numbers; empty for a text.
    pub fn numbers(&self) -> Vec<f64> {
        match self {
            Attribute::Text(_) => Vec::new(),
            Attribute::Integers(v) => v.iter().map(|&x| x as f64).collect(),
            Attribute::Reals(v) => v.clone(),
        }
    }

    /// The first number, if there is one.
    pub fn number(&self) -> Option<f64> {
        self.numbers().first().copied()
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Attribute::Text(text.to_string())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Attribute::Text(text)
    }
}

impl From<f64> for Attribute {
    fn from(x: f64) -> Self {
        Attribute::Reals(vec![x])
    }
}

impl From<i64> for Attribute {
    fn from(x: i64) -> Self {
        Attribute::Integers(vec![x])
    }
}

/// A number type that can be stored in memory as it is.
pub(crate) trait Element: hdf5::H5Type + bytemuck::Pod + Send + Sync {
    /// Puts a vector into the sum type.
    fn values(v: Vec<Self>) -> Values;
    /// Its value, rounded to nearest where 53 bits do not hold it.
    fn to_f64(self) -> f64;
}

macro_rules! numbers {
    ($($name:ident $type:ty, $text:literal;)*) => {
        /// The type of the numbers of a variable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum NumberType {
            $(#[doc = concat!("`", $text, "`")] $name,)*
            /// Texts, compounds and other things that are no numbers.
            Other,
        }

        /// Numbers as they are stored, in row-major order.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Values {
            $(#[doc = concat!("`", $text, "`")] $name(Vec<$type>),)*
        }

        impl NumberType {
            /// The name as in Rust: `f32`.
            pub fn name(self) -> &'static str {
                match self {
                    $(NumberType::$name => $text,)*
                    NumberType::Other => "not a number",
                }
            }

            /// Bytes of one number; 0 for what is no number.
            pub fn size(self) -> usize {
                match self {
                    $(NumberType::$name => size_of::<$type>(),)*
                    NumberType::Other => 0,
                }
            }
        }

        impl Values {
            /// How many numbers.
            pub fn len(&self) -> usize {
                match self { $(Values::$name(v) => v.len(),)* }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The type of the numbers.
            pub fn number_type(&self) -> NumberType {
                match self { $(Values::$name(_) => NumberType::$name,)* }
            }

            /// The numbers as they are in memory.
            pub(super) fn bytes(&self) -> &[u8] {
                match self { $(Values::$name(v) => bytemuck::cast_slice(v),)* }
            }

            /// The numbers as f64; integers beyond 2^53 are rounded to nearest.
            pub fn into_f64(self) -> Vec<f64> {
                match self {
                    Values::F64(v) => v,
                    $(#[allow(unreachable_patterns)]
                    Values::$name(v) => v.into_iter().map(Element::to_f64).collect(),)*
                }
            }

            /// The numbers as f32, rounded to nearest.
            pub fn into_f32(self) -> Vec<f32> {
                match self {
                    Values::F32(v) => v,
                    $(#[allow(unreachable_patterns)]
                    Values::$name(v) => v.into_iter().map(|x| x.to_f64() as f32).collect(),)*
                }
            }
        }

        $(impl Element for $type {
            fn values(v: Vec<Self>) -> Values {
                Values::$name(v)
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
        }

        impl From<Vec<$type>> for Values {
            fn from(v: Vec<$type>) -> Self {
                Values::$name(v)
            }
        })*
    };
}

numbers! {
    I8 i8, "i8";
    U8 u8, "u8";
    I16 i16, "i16";
    U16 u16, "u16";
    I32 i32, "i32";
    U32 u32, "u32";
    I64 i64, "i64";
    U64 u64, "u64";
    F32 f32, "f32";
    F64 f64, "f64";
}

/// One variable: an array over named dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Its name; in a group, its path without the leading `/`.
    pub name: String,
    /// Names of its dimensions, slowest first. A dimension of plain HDF5 that has no name is
    /// `<variable>_<position>`.
    pub dimensions: Vec<String>,
    /// Lengths of its dimensions.
    pub shape: Vec<usize>,
    /// Type of its numbers.
    pub number_type: NumberType,
    /// Lengths of a chunk, if it is stored in chunks; reads along chunks are cheap.
    pub chunk: Option<Vec<usize>>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Attribute>,
}

impl Variable {
    /// A text attribute.
    pub fn text(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute)?.text()
    }
}
