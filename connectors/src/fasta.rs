//! FASTA: sequences of letters below a line that begins with `>` (Pearson and Lipman 1988).

use std::path::Path;

use crate::error::{ConnectorError, Result};
use crate::text::read_text;

/// A sequence of a FASTA file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The line above it, without `>`.
    pub name: String,
    /// Its letters, upper case.
    pub letters: Vec<u8>,
}

/// All sequences of a file, which may be packed ([`read_text`]).
///
/// # Errors
/// As [`read_text`], and [`ConnectorError::Format`] that names the line if a letter is none, or if there is
/// no sequence.
pub fn read_fasta(path: &Path, limit: u64) -> Result<Vec<Sequence>> {
    parse(&read_text(path, limit)?).map_err(|detail| {
        let mend = "give a file of sequences below lines that begin with '>'";
        ConnectorError::format(path.display().to_string(), "FASTA", detail, mend)
    })
}

fn parse(bytes: &[u8]) -> Result<Vec<Sequence>, String> {
    let mut sequences: Vec<Sequence> = Vec::new();
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if let Some(name) = line.strip_prefix(b">") {
            sequences.push(Sequence {
                name: String::from_utf8_lossy(name).into_owned(),
                letters: Vec::new(),
            });
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let number = number + 1;
        let Some(sequence) = sequences.last_mut() else {
            return Err(format!("line {number} comes before the first '>'"));
        };
        // gaps and stops are letters, too
        let letter = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'-' | b'*');
        if let Some(bad) = line.iter().find(|b| !letter(b)) {
            return Err(format!("line {number} holds {:?}", char::from(*bad)));
        }
        sequence
            .letters
            .extend(line.iter().map(u8::to_ascii_uppercase));
    }
    match sequences.is_empty() {
        true => Err("it has no line that begins with '>'".to_owned()),
        false => Ok(sequences),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines join, case and line ends do not matter, and what is no letter is named with its line.
    #[test]
    fn lines_join() {
        let sequences = parse(b">one first\r\nACg\r\nt\r\n\r\n>two\nNN-\n").expect("fine");
        let got: Vec<(&str, &[u8])> = sequences
            .iter()
            .map(|s| (s.name.as_str(), &s.letters[..]))
            .collect();
        assert_eq!(got, [("one first", &b"ACGT"[..]), ("two", b"NN-")]);
        for (bytes, says) in [
            (&b"ACGT\n>late\n"[..], "line 1"),
            (b">a\nAC\nA1C\n", "line 3"),
            (b"", "no line"),
            (b"\xff\xfe", "line 1"),
        ] {
            let error = parse(bytes).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
