//! Files of bytes, packed by gzip or bzip2 or not.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{ConnectorError, Result};

/// All bytes of a file; a name that ends in `.gz` or `.bz2` says how they are packed.
///
/// # Errors
/// [`ConnectorError::Io`] if the file cannot be read, [`ConnectorError::Format`] if it is not packed so
/// or cut short, [`ConnectorError::TooLarge`] if it unpacks to more than `limit` bytes.
pub fn read_text(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mend = "check the path and its permissions";
    let file = File::open(path).map_err(ConnectorError::io("open", path, mend))?;
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => unpack(flate2::read::MultiGzDecoder::new(file), path, "gzip", limit),
        Some("bz2") => unpack(bzip2::read::MultiBzDecoder::new(file), path, "bzip2", limit),
        _ => {
            let mut bytes = Vec::new();
            let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
            read.map_err(ConnectorError::io("read", path, mend))?;
            checked(bytes, path, limit)
        }
    }
}

/// Unpacks the bytes of a bzip2 stream.
///
/// # Errors
/// As [`read_text`]; `place` says where the bytes are from.
pub fn unpack_bzip2(bytes: &[u8], place: &Path, limit: u64) -> Result<Vec<u8>> {
    unpack(
        bzip2::read::MultiBzDecoder::new(bytes),
        place,
        "bzip2",
        limit,
    )
}

fn unpack(packed: impl Read, place: &Path, format: &'static str, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = packed.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| {
        let mend = "fetch it again, or give it the ending of what it is";
        ConnectorError::format(place.display().to_string(), format, e, mend)
    })?;
    checked(bytes, place, limit)
}

fn checked(bytes: Vec<u8>, place: &Path, limit: u64) -> Result<Vec<u8>> {
    if bytes.len() as u64 <= limit {
        return Ok(bytes);
    }
    Err(ConnectorError::TooLarge {
        place: place.display().to_string(),
        what: "its text".to_owned(),
        needed: bytes.len() as u64,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The same bytes, packed or not; what is cut short, too long or of another kind is an error.
    #[test]
    fn packed_and_not() {
        let text: Vec<u8> = (0..50_000u32)
            .flat_map(|i| (i * i % 251).to_string().into_bytes())
            .collect();
        let folder = tempfile::tempdir().expect("a directory can be made");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain.txt"), &text).expect("written");
        let file = |name: &str| File::create(at(name)).expect("created");
        let mut gz = flate2::write::GzEncoder::new(file("packed.gz"), flate2::Compression::fast());
        gz.write_all(&text).expect("packed");
        gz.finish().expect("packed");
        let mut bz = bzip2::write::BzEncoder::new(file("packed.bz2"), bzip2::Compression::fast());
        bz.write_all(&text).expect("packed");
        bz.finish().expect("packed");
        for name in ["plain.txt", "packed.gz", "packed.bz2"] {
            assert!(read_text(&at(name), 1 << 20).expect(name) == text, "{name}");
            let error = read_text(&at(name), 1000).expect_err(name);
            assert!(matches!(error, ConnectorError::TooLarge { .. }), "{error}");
        }
        for name in ["packed.gz", "packed.bz2"] {
            let whole = std::fs::read(at(name)).expect("read");
            for cut in [0, 1, 10, whole.len() / 2, whole.len() - 1] {
                let short = at(&format!("short-{name}"));
                std::fs::write(&short, &whole[..cut]).expect("written");
                // an empty bzip2 file is an empty text
                let read = read_text(&short, 1 << 20);
                assert!(
                    read.as_ref().is_err() || read.is_ok_and(|t| t.is_empty()),
                    "{name} {cut}"
                );
            }
            std::fs::write(at(name), &text).expect("written");
            assert!(read_text(&at(name), 1 << 20).is_err(), "{name}: plain text");
        }
        let error = read_text(&at("none"), 9).expect_err("missing").to_string();
        assert!(error.contains("none"), "{error}");
    }
}
