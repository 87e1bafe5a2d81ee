//! The classic netCDF format, CDF-1 and CDF-2, read without a library.
//!
//! Layout: "NetCDF Classic Format Specification" (Unidata, netCDF Users' Guide, appendix B). The
//! header is parsed from a bounded buffer and no count in it is believed: every list is read
//! until its declared end or the end of the buffer, and memory grows only with bytes that are
//! there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::header::{Header, Storage, decode};
use super::model::{Attribute, Values, Variable};
use super::slab::{Slab, for_each_index, position, product};
use crate::error::{ConnectorError, Result};

/// The longest header that is read: 4 MiB.
const MAX_HEADER: u64 = 4 << 20;
const FORMAT: &str = "classic netCDF";
const MEND: &str = "fetch it anew; 64-bit data (CDF-5) must be converted with `nccopy -k nc4`";

/// An open classic file.
#[derive(Debug)]
pub(crate) struct ClassicFile {
    place: String,
    file: File,
    bytes: u64,
    storage: BTreeMap<String, Storage>,
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) dimensions: BTreeMap<String, usize>,
    pub(crate) attributes: BTreeMap<String, Attribute>,
}

impl ClassicFile {
    /// Opens a file and parses its header.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(ConnectorError::io("open", path, "check the path"))?;
        let read_error = || ConnectorError::io("read", path, "check the disk");
        let bytes = file.metadata().map_err(read_error())?.len();
        let mut head = Vec::new();
        (&file)
            .take(MAX_HEADER)
            .read_to_end(&mut head)
            .map_err(read_error())?;
        let place = path.display().to_string();
        let header = Header::parse(&head, bytes)
            .map_err(|detail| ConnectorError::format(&*place, FORMAT, detail, MEND))?;
        let Header {
            storage,
            variables,
            dimensions,
            attributes,
        } = header;
        Ok(Self {
            place,
            file,
            bytes,
            storage,
            variables,
            dimensions,
            attributes,
        })
    }

    /// Reads a box; the caller has checked it against the shape.
    pub(crate) fn read(&self, variable: &Variable, slab: &Slab) -> Result<Values> {
        let damaged = |detail: String| ConnectorError::format(&*self.place, FORMAT, detail, MEND);
        let Some(storage) = self.storage.get(&variable.name) else {
            return Err(damaged(format!(
                "variable `{}` has no storage",
                variable.name
            )));
        };
        let size = variable.number_type.size() as u64;
        let places = product(&slab.count).unwrap_or(usize::MAX);
        let needed = (places as u64).saturating_mul(size);
        if needed > self.bytes {
            let detail = format!(
                "`{}` would need {needed} bytes, the file has {}",
                variable.name, self.bytes
            );
            return Err(damaged(detail));
        }
        let mut out = vec![0_u8; needed as usize];
        let (joined, run) = slab.run(&variable.shape, storage.record.is_some());
        let outer = variable.shape.len() - joined;
        let run = run * size as usize;
        let inner_shape = &variable.shape[usize::from(storage.record.is_some())..];
        let mut at = 0;
        for_each_index(&slab.count[..outer], |index| {
            let mut from = slab.start.clone();
            index.iter().enumerate().for_each(|(d, i)| from[d] += i);
            let offset = match storage.record {
                None => Some(position(from.iter().copied(), &variable.shape) as u64 * size),
                Some(stride) => (from[0] as u64).checked_mul(stride).and_then(|r| {
                    r.checked_add(position(from[1..].iter().copied(), inner_shape) as u64 * size)
                }),
            };
            let offset = offset.and_then(|o| o.checked_add(storage.begin));
            let inside =
                offset.filter(|o| o.checked_add(run as u64).is_some_and(|e| e <= self.bytes));
            let Some(offset) = inside else {
                let detail = format!(
                    "variable `{}` goes beyond the end of the file",
                    variable.name
                );
                return Err(damaged(detail));
            };
            self.file
                .read_exact_at(&mut out[at..at + run], offset)
                .map_err(ConnectorError::io(
                    "read",
                    Path::new(&self.place),
                    "check the disk",
                ))?;
            at += run;
            Ok(())
        })?;
        decode(variable.number_type, &out)
            .ok_or_else(|| damaged(format!("variable `{}` holds no numbers", variable.name)))
    }
}
