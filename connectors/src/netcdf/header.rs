//! The header of a classic netCDF file.

use std::collections::BTreeMap;

use super::model::{Attribute, NumberType, Values, Variable};
use super::slab::product;

/// The most dimensions of a variable, as in HDF5. Bounds the names a header can multiply.
const MAX_RANK: u32 = 32;

/// Where the numbers of a variable lie.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) begin: u64,
    /// Bytes from one record to the next, for variables over the record dimension.
    pub(super) record: Option<u64>,
}

/// Big-endian bytes as numbers.
pub(super) fn decode(number_type: NumberType, bytes: &[u8]) -> Option<Values> {
    macro_rules! numbers {
        ($type:ty) => {{
            let (words, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
            words
                .iter()
                .map(|w| <$type>::from_be_bytes(*w))
                .collect::<Vec<_>>()
                .into()
        }};
    }
    Some(match number_type {
        NumberType::I8 => numbers!(i8),
        NumberType::U8 => numbers!(u8),
        NumberType::I16 => numbers!(i16),
        NumberType::I32 => numbers!(i32),
        NumberType::F32 => numbers!(f32),
        NumberType::F64 => numbers!(f64),
        _ => return None,
    })
}

/// The parsed header.
pub(super) struct Header {
    pub(super) storage: BTreeMap<String, Storage>,
    pub(super) variables: BTreeMap<String, Variable>,
    pub(super) dimensions: BTreeMap<String, usize>,
    pub(super) attributes: BTreeMap<String, Attribute>,
}

/// A cursor over the header; every step is checked.
struct Cursor<'a> {
    bytes: &'a [u8],
    wide: bool,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, tail) = self
            .bytes
            .split_at_checked(n)
            .ok_or("the header ends too early")?;
        self.bytes = tail;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32, String> {
        let word = self.take(4)?;
        Ok(word.iter().fold(0, |x, &b| x << 8 | u32::from(b)))
    }

    fn offset(&mut self) -> Result<u64, String> {
        let high = if self.wide { u64::from(self.u32()?) } else { 0 };
        Ok(high << 32 | u64::from(self.u32()?))
    }

    fn padded(&mut self, n: usize) -> Result<&'a [u8], String> {
        let bytes = self.take(n)?;
        self.take(n.next_multiple_of(4) - n)?;
        Ok(bytes)
    }

    fn name(&mut self) -> Result<String, String> {
        let n = self.u32()? as usize;
        let bytes = self.padded(n)?;
        if n > 256 {
            return Err(format!("a name of {n} bytes, at most 256 are allowed"));
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| "a name that is not UTF-8".to_string())
    }

    /// The number of elements of a list with this tag; an absent list is two zeros.
    fn list(&mut self, tag: u32) -> Result<u32, String> {
        match (self.u32()?, self.u32()?) {
            (0, 0) => Ok(0),
            (t, n) if t == tag => Ok(n),
            (t, _) => Err(format!("list tag {t} where {tag} or 0 belongs")),
        }
    }

    fn attributes(&mut self) -> Result<BTreeMap<String, Attribute>, String> {
        let mut attributes = BTreeMap::new();
        for _ in 0..self.list(12)? {
            let name = self.name()?;
            let (kind, n) = (self.u32()?, self.u32()? as usize);
            let number_type = number_type(kind)?;
            let length = n
                .checked_mul(number_type.size())
                .ok_or("an attribute too long")?;
            let bytes = self.padded(length)?;
            let value = match (kind, decode(number_type, bytes)) {
                (2, _) => {
                    let text = String::from_utf8_lossy(bytes);
                    Attribute::Text(text.trim_end_matches('\0').to_string())
                }
                (5 | 6, Some(v)) => Attribute::Reals(v.into_f64()),
                (_, Some(v)) => {
                    Attribute::Integers(v.into_f64().into_iter().map(|x| x as i64).collect())
                }
                (_, None) => return Err(format!("attribute `{name}` has no readable type")),
            };
            attributes.insert(name, value);
        }
        Ok(attributes)
    }
}

fn number_type(kind: u32) -> Result<NumberType, String> {
    Ok(match kind {
        1 => NumberType::I8,
        2 => NumberType::U8,
        3 => NumberType::I16,
        4 => NumberType::I32,
        5 => NumberType::F32,
        6 => NumberType::F64,
        other => return Err(format!("number type {other}, 1 to 6 are defined")),
    })
}

impl Header {
    /// Parses the first bytes of a file that is `file_bytes` long.
    pub(super) fn parse(head: &[u8], file_bytes: u64) -> Result<Self, String> {
        let mut c = Cursor {
            bytes: head,
            wide: false,
        };
        match c.take(4)? {
            b"CDF\x01" => (),
            b"CDF\x02" => c.wide = true,
            magic => return Err(format!("it begins with {magic:?}, not CDF-1 or CDF-2")),
        }
        let records = c.u32()?;
        let mut dims: Vec<(String, usize)> = Vec::new();
        for _ in 0..c.list(10)? {
            dims.push((c.name()?, c.u32()? as usize));
        }
        let attributes = c.attributes()?;
        let mut found: Vec<(Variable, u64, bool)> = Vec::new();
        for _ in 0..c.list(11)? {
            let name = c.name()?;
            let rank = c.u32()?;
            if rank > MAX_RANK {
                return Err(format!(
                    "`{name}` has {rank} dimensions, at most {MAX_RANK} are read"
                ));
            }
            let mut ids = Vec::new();
            for _ in 0..rank {
                let id = c.u32()? as usize;
                ids.push(
                    dims.get(id)
                        .ok_or_else(|| format!("`{name}` names dimension {id}"))?,
                );
            }
            let attributes = c.attributes()?;
            let number_type = number_type(c.u32()?)?;
            let _padded_size = c.u32()?; // redundant, and wrong for large variables
            let begin = c.offset()?;
            let record = ids.first().is_some_and(|d| d.1 == 0);
            if ids.iter().skip(1).any(|d| d.1 == 0) {
                return Err(format!(
                    "`{name}` has the record dimension in an inner place"
                ));
            }
            let variable = Variable {
                dimensions: ids.iter().map(|d| d.0.clone()).collect(),
                shape: ids.iter().map(|d| d.1).collect(),
                name,
                number_type,
                chunk: None,
                attributes,
            };
            found.push((variable, begin, record));
        }
        let stride = record_stride(&found)?;
        let mut header = Header {
            storage: BTreeMap::new(),
            variables: BTreeMap::new(),
            dimensions: dims.into_iter().collect(),
            attributes,
        };
        let first = found.iter().filter(|v| v.2).map(|v| v.1).min().unwrap_or(0);
        let records = match (records, stride) {
            // A writer that streams leaves the count open: the length of the file tells it.
            (u32::MAX, 1..) => file_bytes.saturating_sub(first) / stride,
            (n, _) => u64::from(n),
        };
        for (mut variable, begin, record) in found {
            if record {
                variable.shape[0] = records as usize;
                header
                    .dimensions
                    .insert(variable.dimensions[0].clone(), records as usize);
            }
            product(&variable.shape)
                .and_then(|n| n.checked_mul(variable.number_type.size()))
                .ok_or_else(|| format!("`{}` has a shape too large", variable.name))?;
            let storage = Storage {
                begin,
                record: record.then_some(stride),
            };
            header.storage.insert(variable.name.clone(), storage);
            header.variables.insert(variable.name.clone(), variable);
        }
        Ok(header)
    }
}

/// Bytes of one record: the padded sum over record variables, unpadded if there is only one.
fn record_stride(found: &[(Variable, u64, bool)]) -> Result<u64, String> {
    let sizes: Vec<u64> = found
        .iter()
        .filter(|v| v.2)
        .map(|(v, _, _)| {
            let n = product(&v.shape[1..])?.checked_mul(v.number_type.size())?;
            Some(n as u64)
        })
        .collect::<Option<_>>()
        .ok_or("a record too large")?;
    if let [one] = sizes[..] {
        return Ok(one);
    }
    sizes
        .iter()
        .try_fold(0_u64, |sum, n| {
            sum.checked_add(n.checked_next_multiple_of(4)?)
        })
        .ok_or_else(|| "a record too large".to_string())
}
