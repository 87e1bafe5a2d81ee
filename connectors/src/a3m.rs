//! A3M: a multiple sequence alignment whose rows are aligned to the first (HH-suite; Steinegger et al. 2019).
//!
//! The first row is the query; its upper-case letters and gaps are the columns. In every row an upper-case letter
//! or `-` stands in a column, a lower-case letter is an insertion between columns, and `.` fills the place of an
//! insertion that other rows have. A row runs over any number of lines, from a line that begins with `>`.
//!
//! A file is read byte by byte, so that memory is that of one row of as many columns as the query has, whatever
//! the file holds.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::decoded::file_name;
use crate::error::{ConnectorError, Result};
use crate::rejected::{Reason, Rejected};

/// The most columns of a query; the longest known protein has 45,000 residues.
const MOST_COLUMNS: usize = 1 << 20;
/// Bytes of a name that are kept.
const MOST_NAME: usize = 256;
/// What the names of rows begin with that HH-suite writes before the query: secondary structure, solvent
/// accessibility, and the letters that these are of.
const ANNOTATIONS: [&str; 3] = ["ss_", "sa_", "aa_"];
const FORMAT: &str = "A3M";
const MEND: &str =
    "give an alignment whose first row, below a line that begins with '>', is the query";

/// A row of an alignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignedRow {
    /// The line above it without `>`, cut at 256 bytes.
    pub name: String,
    /// One upper-case letter of the 20 amino acids, `X` or `-` for each column. Codes of several are mapped as
    /// in AlphaFold (Jumper et al. 2021): B to D, Z to E, U to C, and J and O to X.
    pub letters: Vec<u8>,
    /// Number of letters that are inserted before each column; those after the last column do not count.
    pub inserted: Vec<u32>,
}

/// The rows of an A3M file, the query first; what is no row of the alignment is rejected with its reason.
///
/// Rows and rejections are as many as lines that begin with `>`. An error ends the rows: the file cannot be
/// read, or has no query.
pub struct A3mReader {
    bytes: Box<dyn BufRead + Send>,
    path: PathBuf,
    origin: String,
    /// Number of the line that is read, from 1.
    line: u64,
    /// The next byte is the first of its line.
    fresh: bool,
    /// Columns of the query.
    columns: Option<usize>,
    state: State,
}

enum State {
    /// Before the first row.
    Before,
    In(Record),
    Ended,
}

/// A row that is read.
#[derive(Default)]
struct Record {
    line: u64,
    in_name: bool,
    name: Vec<u8>,
    raw: Vec<u8>,
    letters: Vec<u8>,
    inserted: Vec<u32>,
    /// Letters since the last column.
    pending: u32,
    columns: usize,
    /// The first byte that is none of an alignment, and its line.
    bad: Option<(u8, u64)>,
}

impl A3mReader {
    /// Opens a file; one that ends in `.gz` is unpacked.
    ///
    /// # Errors
    /// [`ConnectorError::Io`] if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let mend = "check the path and its permissions";
        let file = File::open(path).map_err(ConnectorError::io("open", path, mend))?;
        let bytes: Box<dyn BufRead + Send> = match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
            _ => Box::new(BufReader::new(file)),
        };
        Ok(Self::new(bytes, path))
    }

    /// Reads bytes; `path` says where they are from.
    pub fn new(bytes: impl BufRead + Send + 'static, path: &Path) -> Self {
        A3mReader {
            bytes: Box::new(bytes),
            path: path.to_owned(),
            origin: file_name(path),
            line: 1,
            fresh: true,
            columns: None,
            state: State::Before,
        }
    }

    fn format(&self, detail: String) -> ConnectorError {
        ConnectorError::format(self.path.display().to_string(), FORMAT, detail, MEND)
    }

    /// Takes a byte in; gives the record that it ends.
    fn take(&mut self, byte: u8) -> Result<Option<Record>> {
        let fresh = std::mem::replace(&mut self.fresh, byte == b'\n');
        let line = self.line;
        self.line += u64::from(byte == b'\n');
        if fresh && byte == b'>' {
            let next = Record {
                line,
                in_name: true,
                ..Record::default()
            };
            let State::In(done) = std::mem::replace(&mut self.state, State::In(next)) else {
                return Ok(None);
            };
            return Ok(Some(done));
        }
        let most = self.columns.unwrap_or(MOST_COLUMNS + 1);
        match &mut self.state {
            State::In(record) => record.take(byte, line, most),
            State::Before if byte.is_ascii_whitespace() => {}
            // comments of some programs, to the end of their line
            State::Before if fresh && byte == b'#' => self.fresh = self.skip_line()?,
            _ => {
                let why = format!("line {line} comes before the first '>'");
                return Err(self.format(why));
            }
        }
        Ok(None)
    }

    /// Goes to the next line.
    fn skip_line(&mut self) -> Result<bool> {
        let skipped = self.bytes.skip_until(b'\n');
        skipped.map_err(|e| self.unreadable(e))?;
        self.line += 1;
        Ok(true)
    }

    fn unreadable(&self, e: std::io::Error) -> ConnectorError {
        let mend = "fetch it again, or check its disk";
        ConnectorError::io("read", &self.path, mend)(e)
    }

    /// The next record as it stands.
    fn record(&mut self) -> Result<Option<Record>> {
        loop {
            let read = match self.bytes.fill_buf() {
                Ok(buffer) => buffer.first().copied(),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.unreadable(e)),
            };
            let Some(byte) = read else {
                return match std::mem::replace(&mut self.state, State::Ended) {
                    State::In(record) => Ok(Some(record)),
                    State::Before => Err(self.format("it has no line that begins with '>'".into())),
                    State::Ended => Ok(None),
                };
            };
            self.bytes.consume(1);
            if let Some(record) = self.take(byte)? {
                return Ok(Some(record));
            }
        }
    }

    /// A row of the alignment, or why it is none.
    fn judge(&mut self, record: Record) -> Result<std::result::Result<AlignedRow, Box<Rejected>>> {
        let line = record.line;
        let place = format!("{}:{line}", self.origin);
        let rejected = |raw: &[u8], reason, detail: String| {
            Ok(Err(Box::new(Rejected::raw(raw, reason, detail, place))))
        };
        let name = String::from_utf8_lossy(&record.name).trim().to_owned();
        if ANNOTATIONS.iter().any(|begin| name.starts_with(begin)) {
            if let (State::Ended, None) = (&self.state, self.columns) {
                return Err(self.format("it has annotations and no query".to_owned()));
            }
            let detail = format!("`{name}` is an annotation and no sequence");
            return rejected(&record.raw, Reason::Schema, detail);
        }
        let bad = record.bad.map(|(byte, at)| {
            format!(
                "line {at} holds '{}', which is no letter of an alignment",
                byte.escape_ascii()
            )
        });
        let Some(columns) = self.columns else {
            let why = match (bad, record.columns) {
                (Some(bad), _) => bad,
                (None, 0) => format!("the query at line {line} has no column"),
                (None, n) if n > MOST_COLUMNS => {
                    format!("the query at line {line} has more than {MOST_COLUMNS} columns")
                }
                (None, n) => {
                    self.columns = Some(n);
                    return Ok(Ok(record.row(name)));
                }
            };
            return Err(self.format(why));
        };
        if let Some(bad) = bad {
            return rejected(&record.raw, Reason::Malformed, bad);
        }
        if record.columns != columns {
            let detail = format!("it has {} columns and the query {columns}", record.columns);
            return rejected(&record.raw, Reason::Schema, detail);
        }
        Ok(Ok(record.row(name)))
    }
}

impl Record {
    fn take(&mut self, byte: u8, line: u64, most: usize) {
        if self.in_name {
            self.in_name = byte != b'\n';
            if self.in_name && self.name.len() < MOST_NAME {
                self.name.push(byte);
            }
            return;
        }
        if self.raw.len() < Rejected::RAW_LIMIT {
            self.raw.push(byte);
        }
        let letter = match byte {
            b'.' | b'\n' | b'\r' | b' ' | b'\t' => return,
            b'a'..=b'z' => {
                self.pending = self.pending.saturating_add(1);
                return;
            }
            b'B' => b'D',
            b'Z' => b'E',
            b'U' => b'C',
            b'J' | b'O' => b'X',
            b'A'..=b'Z' | b'-' => byte,
            _ => {
                self.bad = self.bad.or(Some((byte, line)));
                return;
            }
        };
        self.columns += 1;
        let pending = std::mem::take(&mut self.pending);
        if self.letters.len() < most {
            self.letters.push(letter);
            self.inserted.push(pending);
        }
    }

    fn row(self, name: String) -> AlignedRow {
        AlignedRow {
            name,
            letters: self.letters,
            inserted: self.inserted,
        }
    }
}

impl Iterator for A3mReader {
    type Item = Result<std::result::Result<AlignedRow, Box<Rejected>>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let State::Ended = self.state {
            return None;
        }
        let judged = match self.record() {
            Ok(Some(record)) => self.judge(record),
            Ok(None) => return None,
            Err(e) => Err(e),
        };
        if judged.is_err() {
            self.state = State::Ended;
        }
        Some(judged)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(bytes: &[u8]) -> Result<(Vec<AlignedRow>, Vec<Rejected>)> {
        let reader = A3mReader::new(Cursor::new(bytes.to_vec()), Path::new("dir/some.a3m"));
        let (mut rows, mut rejected) = (Vec::new(), Vec::new());
        for row in reader {
            match row? {
                Ok(row) => rows.push(row),
                Err(bad) => rejected.push(*bad),
            }
        }
        Ok((rows, rejected))
    }

    /// Insertions leave the columns and are counted, dots and line ends do not matter, rows run over lines, and
    /// codes of several letters are mapped.
    #[test]
    fn rows_of_the_columns_of_the_query() {
        let text =
            b"#3\t1\n>query one\r\nAC\r\nDE\r\n\r\n>two\naaA.-bD\n..EFc\n>three\nBZU\nO\n>\nJX-Y";
        let (rows, rejected) = read(text).expect("fine");
        let got: Vec<(&str, &[u8])> = rows
            .iter()
            .map(|r| (r.name.as_str(), &r.letters[..]))
            .collect();
        let want: [(&str, &[u8]); 3] = [("query one", b"ACDE"), ("three", b"DECX"), ("", b"XX-Y")];
        // the second has `A`, `-`, `D`, `E`, `F`
        assert_eq!(got, want);
        assert_eq!(rejected.len(), 1);
        assert!(rejected[0].detail.contains("5 columns and the query 4"));
        assert_eq!(rejected[0].place, "some.a3m:6");
        let (rows, _) = read(b">q\nACDE\n>two\naaA.-bD\n..Ecc").expect("fine");
        assert_eq!(rows[1].letters, b"A-DE");
        assert_eq!(rows[1].inserted, [2, 0, 1, 0]);
    }

    /// What is no row is kept with its reason; annotation before the query is none.
    #[test]
    fn bad_rows_are_rejected() {
        let text = b">ss_pred\nHHCC\n>sa_dssp\nABBA\n>aa_dssp\nACDE\n>q\nACDE\n>short\nACD\n>long\nACDEF\n>empty\n>digits\nA1DE\n>\xff\nAC\xe4E\n>good\n--DE\n>cut\nAC";
        let (rows, rejected) = read(text).expect("fine");
        assert_eq!(rows.len(), 2);
        let details: Vec<&str> = rejected.iter().map(|r| r.detail.as_str()).collect();
        for (detail, says) in details.iter().zip([
            "`ss_pred` is an annotation",
            "`sa_dssp` is an annotation",
            "`aa_dssp` is an annotation",
            "3 columns",
            "5 columns",
            "0 columns",
            "line 15 holds '1'",
            "line 17 holds '\\xe4'",
            "2 columns",
        ]) {
            assert!(detail.contains(says), "{detail}: {says}");
        }
        assert_eq!(details.len(), 9);
    }

    /// A file without a query is one error that names the file, the line and the mend, and ends the rows.
    #[test]
    fn no_query_is_an_error() {
        for (bytes, says) in [
            (&b""[..], "no line that begins"),
            (b"\n\n#x", "no line that begins"),
            (b"ACDE\n>q\nACDE", "line 1 comes before"),
            (b"\x89PNG\r\n\x1a\n", "line 1 comes before"),
            (b">q\n>two\nACDE", "query at line 1 has no column"),
            (b"\n>q\nAC\0DE\n>two\nACDE", "line 3 holds '\\x00'"),
            (b">q\nabc...\n", "no column"),
            (b">ss_pred\nHHCC\n", "annotations and no query"),
            (b">sa_pred\nABBA", "annotations and no query"),
        ] {
            let error = read(bytes).expect_err(says).to_string();
            for part in [says, "dir/some.a3m", "first row"] {
                assert!(error.contains(part), "{error}: {part}");
            }
            let path = Path::new("some.a3m");
            let mut reader = A3mReader::new(Cursor::new(bytes.to_vec()), path);
            assert!(reader.next().is_some_and(|r| r.is_err()) && reader.next().is_none());
        }
    }

    /// A row of any length takes the memory of the columns of the query.
    #[test]
    fn long_rows_take_no_memory() {
        let mut text = b">q\nACDE\n>long\n".to_vec();
        text.resize(text.len() + (8 << 20), b'A');
        let (rows, rejected) = read(&text).expect("fine");
        assert_eq!((rows.len(), rejected.len()), (1, 1));
        assert!(rejected[0].detail.contains("8388608 columns"));
        let long = (0..8 << 20).fold(Record::default(), |mut record, _| {
            record.take(b'A', 1, 4);
            record
        });
        // a vector at most doubles what it holds
        assert!(long.letters.capacity() <= 8 && long.inserted.capacity() <= 8);
        assert!(long.raw.capacity() <= 2 * Rejected::RAW_LIMIT);
        assert_eq!(long.columns, 8 << 20);
        let mut reader = A3mReader::new(Cursor::new(text), Path::new("a"));
        reader.next();
        let record = reader.record().expect("it reads").expect("it is there");
        assert!(
            record.letters.capacity() <= 8,
            "{}",
            record.letters.capacity()
        );
        let mut query = b">q\n".to_vec();
        query.resize(query.len() + MOST_COLUMNS + 9, b'A');
        let error = read(&query).expect_err("too long").to_string();
        assert!(error.contains("more than 1048576 columns"), "{error}");
    }
}
