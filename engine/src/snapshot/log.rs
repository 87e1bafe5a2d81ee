//! Output logs: the records that one worker of one run wrote to one output.
//!
//! [`MAGIC`], then for each record: epoch, order and length, 8 bytes little-endian each, and that many
//! bytes. Records come in order of epoch, order and body. What is sealed is a beginning of the
//! file: its length and CRC-32 stand in the manifest, and what a killed run wrote behind it does not count.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::disk::{Counted, bad};
use super::entry::Record;
use super::manifest::FileSeal;
use crate::error::Result;

const MAGIC: &[u8; 8] = b"advlogs1";

/// A log that grows.
#[derive(Debug)]
pub(super) struct LogWriter {
    file: Counted,
}

impl LogWriter {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut file = Counted::create(path)?;
        file.put(MAGIC)?;
        Ok(LogWriter { file })
    }

    pub(super) fn push(&mut self, epoch: u64, record: &Record) -> io::Result<()> {
        for word in [epoch, record.order, record.body.len() as u64] {
            self.file.put(&word.to_le_bytes())?;
        }
        self.file.put(&record.body)
    }

    /// Length and CRC-32 of what is now on the disk.
    pub(super) fn sync(&mut self) -> io::Result<(u64, u32)> {
        self.file.sync()
    }
}

/// A record of a log: epoch, order, body.
pub(super) type Line = (u64, u64, Vec<u8>);

/// Reads the sealed beginning of a log.
#[derive(Debug)]
pub(super) struct LogReader {
    path: PathBuf,
    seal: FileSeal,
    file: BufReader<File>,
    hasher: crc32fast::Hasher,
    at: u64,
}

impl LogReader {
    pub(super) fn open(directory: &Path, seal: &FileSeal) -> Result<Self> {
        let path = directory.join(&seal.file);
        let file = File::open(&path).map_err(|e| bad(&path, format!("cannot be read: {e}")))?;
        let mut reader = LogReader {
            path,
            seal: seal.clone(),
            file: BufReader::with_capacity(1 << 16, file),
            hasher: crc32fast::Hasher::new(),
            at: 0,
        };
        if reader.take(MAGIC.len() as u64)? != MAGIC {
            return Err(bad(
                &reader.path,
                "is not a log of this version of the program",
            ));
        }
        Ok(reader)
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let sealed = length <= self.seal.length - self.at;
        if sealed {
            let read = self.file.by_ref().take(length).read_to_end(&mut bytes);
            read.map_err(|e| bad(&self.path, format!("cannot be read: {e}")))?;
        }
        if bytes.len() as u64 != length {
            let why = format!(
                "a record at byte {} is cut off; resume from elsewhere",
                self.at
            );
            return Err(bad(&self.path, why));
        }
        self.at += length;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn word(&mut self) -> Result<u64> {
        let bytes = self.take(8)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |word, &b| word << 8 | u64::from(b)))
    }

    /// The next record; at the end, the checksum has been compared.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        if self.at == self.seal.length {
            let crc32 = self.hasher.clone().finalize();
            self.seal.check(&self.path, self.at, || crc32)?;
            return Ok(None);
        }
        let (epoch, order, length) = (self.word()?, self.word()?, self.word()?);
        Ok(Some((epoch, order, self.take(length)?)))
    }
}

/// Whether the sealed beginning of a log is as it was sealed.
pub(super) fn verify(directory: &Path, seal: &FileSeal) -> Result<()> {
    let path = directory.join(&seal.file);
    let unread = |e: io::Error| bad(&path, format!("cannot be read: {e}"));
    let mut file = File::open(&path).map_err(unread)?.take(seal.length);
    let (mut hasher, mut length) = (crc32fast::Hasher::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(unread)? {
            0 => return seal.check(&path, length, || hasher.finalize()),
            n => {
                hasher.update(&buffer[..n]);
                length += n as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sealed beginning is read whatever comes behind it; a cut or changed one is noticed.
    #[test]
    fn beginnings() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let record = |i: u8| Record {
            output: "o".to_owned(),
            order: u64::from(i),
            body: vec![i; i as usize],
        };
        let mut log = LogWriter::create(&path).unwrap();
        (0..5).for_each(|i| log.push(9, &record(i)).unwrap());
        let (length, crc32) = log.sync().unwrap();
        (5..9).for_each(|i| log.push(10, &record(i)).unwrap());
        log.sync().unwrap();
        let seal = FileSeal {
            file: "log".to_owned(),
            length,
            crc32,
        };
        let read = || -> Result<Vec<Line>> {
            verify(directory.path(), &seal)?;
            let mut log = LogReader::open(directory.path(), &seal)?;
            let mut lines = Vec::new();
            while let Some(line) = log.next()? {
                lines.push(line);
            }
            Ok(lines)
        };
        let want: Vec<Line> = (0..5).map(|i| (9, i, vec![i as u8; i as usize])).collect();
        assert_eq!(read().unwrap(), want);
        let bytes = std::fs::read(&path).unwrap();
        for i in 0..length as usize {
            let mut changed = bytes.clone();
            changed[i] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(read().unwrap_err().to_string().contains("checksum"));
            let mut log = LogReader::open(directory.path(), &seal);
            while let Ok(Ok(Some(_))) = log.as_mut().map(LogReader::next) {}
            std::fs::write(&path, &bytes[..i]).unwrap();
            assert!(read().unwrap_err().to_string().contains("bytes"));
        }
    }
}
