//! Arrow IPC: the file format and the stream format.
//!
//! The stream is read by pushing bytes as they arrive ([`IpcFrames`]), so a connection and a file
//! share one decoder; a message that declares more bytes than the limit is refused before memory
//! is set aside for it.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamDecoder};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::SchemaRef;

use crate::error::{ConnectorError, Result};
use crate::parquet::guarded;

/// The most bytes one IPC message may declare by default: 256 MiB.
pub const MAX_MESSAGE: usize = 256 << 20;

/// An Arrow IPC stream cut into batches while its bytes arrive.
#[derive(Debug)]
pub struct IpcFrames {
    place: String,
    limit: usize,
    decoder: StreamDecoder,
    pending: Vec<u8>,
    /// Bytes that must be pending before it pays to look for a message again.
    need: usize,
    finished: bool,
}

impl IpcFrames {
    /// A decoder that names `place` in errors and refuses messages above `limit` bytes.
    pub fn new(place: impl Into<String>, limit: usize) -> Self {
        let (decoder, pending) = (StreamDecoder::new(), Vec::new());
        Self {
            place: place.into(),
            limit,
            decoder,
            pending,
            need: 0,
            finished: false,
        }
    }

    /// Takes the next bytes and hands every batch that they complete to `each`.
    ///
    /// Errors at the first damaged or oversized message; the stream cannot go on after that.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(RecordBatch)) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() < self.need {
            return Ok(());
        }
        self.need = 0;
        let mut at = 0;
        while let Some(size) = self.whole_message(at)? {
            self.need = 0;
            let message = self.pending[at..at + size].to_vec();
            at += size;
            let (decoder, place) = (&mut self.decoder, &self.place);
            let batch = guarded(place, "an Arrow IPC stream", || {
                let mut buffer = message.into();
                decoder.decode(&mut buffer).map_err(|e| e.to_string())
            })?;
            if let Some(batch) = batch {
                each(batch);
            }
        }
        self.pending.drain(..at);
        Ok(())
    }

    /// The size of the message at `at`, if all of it is here.
    fn whole_message(&mut self, at: usize) -> Result<Option<usize>> {
        let bytes = &self.pending[at..];
        if self.finished && !bytes.is_empty() {
            return Err(self.damaged("bytes after the end-of-stream mark"));
        }
        let Some(mark) = word(bytes, 0) else {
            return Ok(None);
        };
        // Streams before Arrow 0.15 lack the continuation mark.
        let (prefix, length) = match (mark, word(bytes, 4)) {
            (u32::MAX, Some(length)) => (8, length as usize),
            (u32::MAX, None) => return Ok(None),
            (length, _) => (4, length as usize),
        };
        if length == 0 {
            self.finished = true;
            return Ok(Some(prefix));
        }
        self.within(length)?;
        self.need = prefix + length;
        let bytes = &self.pending[at..];
        let Some(metadata) = bytes.get(prefix..prefix + length) else {
            return Ok(None);
        };
        let body = guarded(&self.place, "an Arrow IPC stream", || {
            arrow_ipc::root_as_message(metadata)
                .map(|m| m.bodyLength())
                .map_err(|e| e.to_string())
        })?;
        let body =
            usize::try_from(body).map_err(|_| self.damaged("a message of negative length"))?;
        self.within(body)?;
        let whole = prefix + length + body;
        self.need = whole;
        Ok((bytes.len() >= whole).then_some(whole))
    }

    fn within(&self, needed: usize) -> Result<()> {
        if needed <= self.limit {
            return Ok(());
        }
        Err(ConnectorError::TooLarge {
            place: self.place.clone(),
            what: "an Arrow IPC message".into(),
            needed: needed as u64,
            limit: self.limit as u64,
        })
    }

    fn damaged(&self, detail: &str) -> ConnectorError {
        ConnectorError::format(&*self.place, "an Arrow IPC stream", detail, "send it anew")
    }

    /// Whether the end-of-stream mark came.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The schema, once it came.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.decoder.schema()
    }

    /// Ends the stream. Errors if a message is incomplete.
    pub fn finish(&self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        Err(self.damaged(&format!(
            "{} bytes of an incomplete message",
            self.pending.len()
        )))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(word))
}

/// Reads an IPC file or stream from disk (told apart by its first bytes); hands out each batch.
///
/// Errors if the file cannot be opened or is damaged; batches before the damage were handed out.
pub fn read_ipc(path: impl AsRef<Path>, mut each: impl FnMut(RecordBatch)) -> Result<()> {
    let path = path.as_ref();
    let place = path.display().to_string();
    let open = || File::open(path).map_err(ConnectorError::io("open", path, "check the path"));
    let read_error = || ConnectorError::io("read", path, "check the disk");
    let mut file = open()?;
    let mut head = Vec::with_capacity(6);
    Read::by_ref(&mut file)
        .take(6)
        .read_to_end(&mut head)
        .map_err(read_error())?;
    if head == *b"ARROW1" {
        let format = "an Arrow IPC file";
        blocks_fit(&open()?, &place)?;
        let mut reader = guarded(&place, format, || {
            FileReader::try_new(BufReader::new(open().map_err(|e| e.to_string())?), None)
                .map_err(|e| e.to_string())
        })?;
        while let Some(batch) = guarded(&place, format, || {
            reader.next().transpose().map_err(|e| e.to_string())
        })? {
            each(batch);
        }
        return Ok(());
    }
    let mut frames = IpcFrames::new(place, MAX_MESSAGE);
    frames.push(&head, &mut each)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = file.read(&mut buffer).map_err(read_error())?;
        if n == 0 {
            return frames.finish();
        }
        frames.push(&buffer[..n], &mut each)?;
    }
}

/// Checks that the blocks which the footer of an IPC file lists lie in the file: the reader sets
/// memory aside for a block on the word of the footer.
fn blocks_fit(file: &File, place: &str) -> Result<()> {
    let format = "an Arrow IPC file";
    guarded(place, format, || {
        let size = file.metadata().map_err(|e| e.to_string())?.len();
        let mut tail = [0; 10];
        let at = size.checked_sub(10).ok_or("it has no footer")?;
        file.read_exact_at(&mut tail, at)
            .map_err(|e| e.to_string())?;
        let length = u64::from(word(&tail, 0).unwrap_or(u32::MAX));
        let begin = at
            .checked_sub(length)
            .ok_or("its footer begins before it")?;
        let mut footer = vec![0; length as usize];
        file.read_exact_at(&mut footer, begin)
            .map_err(|e| e.to_string())?;
        let footer = arrow_ipc::root_as_footer(&footer).map_err(|e| e.to_string())?;
        let lists = [footer.dictionaries(), footer.recordBatches()];
        for block in lists.iter().flatten().flatten() {
            let fields = [
                block.offset(),
                i64::from(block.metaDataLength()),
                block.bodyLength(),
            ];
            let end = fields.iter().try_fold(0_u64, |sum, &n| {
                u64::try_from(n).ok().and_then(|n| sum.checked_add(n))
            });
            if end.is_none_or(|end| end > size) {
                return Err(format!("a block {fields:?} in a file of {size} bytes"));
            }
        }
        Ok(())
    })
}

/// Writes batches of one schema as an IPC stream to any writer. Errors if it refuses bytes.
pub fn write_ipc_stream<'a>(
    to: impl Write,
    place: &str,
    schema: &SchemaRef,
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<()> {
    let written = || -> Result<(), arrow_schema::ArrowError> {
        let mut writer = StreamWriter::try_new_buffered(to, schema)?;
        for batch in batches {
            writer.write(batch)?;
        }
        writer.finish()
    };
    written().map_err(|e| {
        ConnectorError::format(
            place,
            "an Arrow IPC stream",
            e,
            "check that the peer still reads",
        )
    })
}

/// Writes batches of one schema as an IPC file. Errors if the disk refuses it.
pub fn write_ipc_file<'a>(
    path: impl AsRef<Path>,
    schema: &SchemaRef,
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<()> {
    let path = path.as_ref();
    let file =
        File::create(path).map_err(ConnectorError::io("create", path, "check its directory"))?;
    let written = || -> Result<(), arrow_schema::ArrowError> {
        let mut writer = FileWriter::try_new(BufWriter::new(file), schema)?;
        for batch in batches {
            writer.write(batch)?;
        }
        writer.finish()
    };
    written().map_err(|e| {
        let place = path.display().to_string();
        ConnectorError::format(place, "an Arrow IPC file", e, "check the free space")
    })
}

#[cfg(test)]
mod tests;
