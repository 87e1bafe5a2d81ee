//! Curves for TensorBoard: its event files, which are TFRecords of protocol buffers.
//!
//! A record is its length (`u64`), the masked CRC-32C of that, the bytes, and their masked CRC-32C, all
//! little-endian. An event has a wall time, a step, and a summary of named numbers. Both formats are those
//! of `tensorflow/core/lib/io/record_writer` and `tensorflow/core/util/event.proto`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A file of events.
#[derive(Debug)]
pub(crate) struct Events {
    file: File,
}

impl Events {
    /// A new file in `directory`, beside those of earlier runs, which TensorBoard reads together.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let now = seconds();
        let mut number = 0;
        loop {
            let name = format!("events.out.tfevents.{:.0}.advect.{number}", now.floor());
            match File::create_new(directory.join(name)) {
                Ok(file) => {
                    let mut events = Events { file };
                    let mut first = Message::default();
                    first.double(1, now);
                    first.bytes(3, b"brain.Event:2");
                    events.record(&first.0)?;
                    return Ok(events);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes the numbers of a step.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn scalars(&mut self, step: u64, numbers: &[(&str, f64)]) -> io::Result<()> {
        let mut summary = Message::default();
        for (tag, number) in numbers {
            let mut value = Message::default();
            value.bytes(1, tag.as_bytes());
            value.float(2, *number as f32);
            summary.bytes(1, &value.0);
        }
        let mut event = Message::default();
        event.double(1, seconds());
        event.whole(2, step);
        event.bytes(5, &summary.0);
        self.record(&event.0)
    }

    fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(bytes.len() + 16);
        record.extend_from_slice(&length);
        record.extend_from_slice(&masked(&length).to_le_bytes());
        record.extend_from_slice(bytes);
        record.extend_from_slice(&masked(bytes).to_le_bytes());
        self.file.write_all(&record)
    }
}

fn seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// CRC-32C, turned so that a checksum of checksums is no special case.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// A protocol buffer in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn whole(&mut self, field: u64, number: u64) {
        self.key(field, 0);
        self.varint(number);
    }

    fn double(&mut self, field: u64, number: f64) {
        self.key(field, 1);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn float(&mut self, field: u64, number: f32) {
        self.key(field, 5);
        self.0.extend_from_slice(&number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records have the lengths and checksums they say, and the bytes of an event are those that the
    /// format gives it.
    #[test]
    fn records_are_those_of_the_format() {
        // the checksum of nothing and of "123456789" (RFC 3720, appendix B.4)
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked(b""), 0xa282_ead8);
        let directory = tempfile::tempdir().expect("a directory can be made");
        let mut events = Events::create(directory.path()).expect("it is made");
        Events::create(directory.path()).expect("another is made beside it");
        events
            .scalars(300, &[("bits", 1.5)])
            .expect("it is written");
        let mut names: Vec<_> = std::fs::read_dir(directory.path())
            .expect("it is there")
            .map(|entry| entry.expect("it is there").path())
            .collect();
        names.sort();
        assert_eq!(names.len(), 2);
        let bytes = std::fs::read(&names[0]).expect("it is there");
        let (mut rest, mut found) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().expect("8 bytes")) as usize;
            let crc = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("4 bytes"));
            assert_eq!(crc(8), masked(&rest[..8]));
            let body = &rest[12..12 + length];
            assert_eq!(crc(12 + length), masked(body));
            found.push(body);
            rest = &rest[16 + length..];
        }
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with(b"brain.Event:2"));
        // wall time, step 300, summary { value { "bits", 1.5 } }
        let tail: &[u8] = b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04bits\x15\x00\x00\xc0\x3f";
        assert_eq!(&found[1][9..], tail);
    }
}
