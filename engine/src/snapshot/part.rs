//! Part files: the state that one worker keeps, at one epoch.
//!
//! [`MAGIC`], then for each operator: its name, the number of its keys, and for each key the key, a
//! byte for the kind and the value. Names, keys and values are lengths of 8 bytes, little-endian,
//! and that many bytes. Length and CRC-32 of the file stand in the manifest.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::disk::{Counted, bad};
use super::manifest::FileSeal;
use super::saved::{Saved, Value};
use crate::error::Result;

const MAGIC: &[u8; 8] = b"advpart1";
const BYTES: u8 = 0;
const COUNT: u8 = 1;

/// Writes a part and waits until it is on the disk; returns its length and CRC-32.
pub(super) fn write(path: &Path, saved: &Saved) -> io::Result<(u64, u32)> {
    let mut file = Counted::create(path)?;
    let word = |n: usize| (n as u64).to_le_bytes();
    file.put(MAGIC)?;
    for (operator, held) in &saved.operators {
        file.put(&word(operator.len()))?;
        file.put(operator.as_bytes())?;
        file.put(&word(held.len()))?;
        for (key, value) in held {
            file.put(&word(key.len()))?;
            file.put(key)?;
            match value {
                Value::Bytes(bytes) => {
                    file.put(&[BYTES])?;
                    file.put(&word(bytes.len()))?;
                    file.put(bytes)?;
                }
                Value::Count(n) => {
                    file.put(&[COUNT])?;
                    file.put(&word(8))?;
                    file.put(&n.to_le_bytes())?;
                }
            }
        }
    }
    file.sync()
}

/// Reads a part that must be as it was sealed.
pub(super) fn read(directory: &Path, seal: &FileSeal) -> Result<Saved> {
    let path = directory.join(&seal.file);
    let bytes = fs::read(&path).map_err(|e| bad(&path, format!("cannot be read: {e}")))?;
    seal.check(&path, bytes.len() as u64, || crc32fast::hash(&bytes))?;
    decode(&bytes).ok_or_else(|| bad(&path, "is not a part of this version of the program"))
}

/// `None` if the bytes are no part; never reserves more than they justify.
fn decode(bytes: &[u8]) -> Option<Saved> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut saved = Saved::default();
    while !rest.is_empty() {
        let operator = String::from_utf8(sized(&mut rest)?.to_vec()).ok()?;
        let mut held = BTreeMap::new();
        for _ in 0..word(&mut rest)? {
            let key = sized(&mut rest)?.to_vec();
            let (&kind, after) = rest.split_first()?;
            rest = after;
            let value = sized(&mut rest)?;
            let value = match kind {
                BYTES => Value::Bytes(value.into()),
                COUNT => Value::Count(i64::from_le_bytes(value.try_into().ok()?)),
                _ => return None,
            };
            held.insert(key, value);
        }
        saved.operators.insert(operator, held);
    }
    Some(saved)
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    let (word, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*word))
}

fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(word(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written is read; every other length and every changed byte is noticed, and bytes
    /// that pass no checksum are refused without a panic.
    #[test]
    fn changes_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("part");
        let mut saved = Saved::default();
        let held = |i: u8| (vec![i; i as usize], Value::Bytes(vec![i; 5].into()));
        saved
            .operators
            .insert("rows".to_owned(), (0..4).map(held).collect());
        saved
            .operators
            .insert("n".to_owned(), [(vec![], Value::Count(-7))].into());
        let (length, crc32) = write(&path, &saved).unwrap();
        let seal = FileSeal {
            file: "part".to_owned(),
            length,
            crc32,
        };
        assert_eq!(read(directory.path(), &seal).unwrap(), saved);
        assert!(
            write(&path, &saved).is_err(),
            "a part is never written over"
        );
        let bytes = fs::read(&path).unwrap();
        for i in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[i] ^= 0x20;
            let _ = decode(&changed);
            fs::write(&path, &changed).unwrap();
            let error = read(directory.path(), &seal).unwrap_err().to_string();
            assert!(
                error.contains("part") && error.contains("checksum"),
                "{error}"
            );
            let _ = decode(&bytes[..i]);
            fs::write(&path, &bytes[..i]).unwrap();
            let error = read(directory.path(), &seal).unwrap_err().to_string();
            assert!(error.contains("bytes"), "{error}");
        }
    }
}
