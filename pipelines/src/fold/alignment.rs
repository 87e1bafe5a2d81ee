//! Alignments as numbers: letters, insertions, and how much each row counts.

use std::io::Cursor;
use std::path::Path;

use advect_connectors::{A3mReader, Reason, Rejected};

use crate::config::Config;
use crate::data;
use crate::error::Result;

/// The amino acids, whose places here are their tokens.
pub(crate) const AMINO_ACIDS: [u8; 20] = *b"ACDEFGHIKLMNPQRSTVWY";
/// Number of amino acids; the token of a gap.
pub(crate) const RESIDUES: usize = 20;
pub(crate) const GAP: u8 = 20;
const UNKNOWN: u8 = 21;
/// Number of letters; the token of a masked one.
pub(crate) const LETTERS: usize = 22;
/// An alignment that comes with the program.
const EMBEDDED: &[u8] = include_bytes!("../../data/1a3a_cut.a3m");
/// Of this many rows of a training alignment one is kept for validation, if no alignment is.
const KEPT: usize = 5;

/// Where alignments are, and how they are read.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    pub(crate) train: Vec<String>,
    pub(crate) held_out: String,
    pub(crate) structures: Vec<String>,
    /// Rows that share at least this part of their columns count as one.
    pub(crate) identity: f64,
    /// The most rows that are read of a file.
    pub(crate) rows: usize,
}

/// An alignment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alignment {
    pub(crate) name: String,
    pub(crate) columns: usize,
    /// Tokens `[rows, columns]`.
    pub(crate) letters: Vec<u8>,
    /// Letters inserted before each, `[rows, columns]`, at most 255.
    pub(crate) inserted: Vec<u8>,
    /// What each row counts when rows are drawn.
    pub(crate) weights: Vec<f64>,
    /// Positions of the C-alpha atoms in Å by column, where they are known.
    pub(crate) atoms: Vec<Option<[f64; 3]>>,
}

/// What a run is trained and validated on.
#[derive(Debug, Default)]
pub(crate) struct Alignments {
    pub(crate) train: Vec<Alignment>,
    pub(crate) held_out: Vec<Alignment>,
    /// What was not used, to be kept: of each file as many rows as may be read of it, and a line for all others.
    pub(crate) rejected: Vec<Rejected>,
    /// How many rows of each file that was.
    pub(crate) left: Vec<Left>,
}

/// Rows of a file that are not used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) name: String,
    /// They are no rows of the alignment.
    pub(crate) rejected: usize,
    /// They came after as many as may be read.
    pub(crate) beyond: usize,
}

impl Alignments {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read, or holds too few rows.
    pub(crate) fn read(config: &Config, files: &Files) -> Result<Self> {
        let mut all = Alignments::default();
        if files.train.is_empty() {
            let place = Path::new("the embedded alignment");
            let reader = A3mReader::new(Cursor::new(EMBEDDED), place);
            let read = all.take(reader, "1a3a", files)?;
            all.train.push(read);
        }
        for file in &files.train {
            let reader = A3mReader::open(&data::locate(file)?)?;
            let read = all.take(reader, file, files)?;
            all.train.push(read);
        }
        if files.held_out.is_empty() {
            for whole in &mut all.train {
                let (name, rows, least) = (&whole.name, whole.rows(), 2 * KEPT);
                let why = format!(
                    "{name}: of {rows} rows every {KEPT}th cannot be kept for validation; give {least} at least, or \
                     name an alignment to validate on in alignments.held_out"
                );
                config.require("alignments.train", rows >= least, &why)?;
                all.held_out.push(whole.some(|row| row % KEPT == KEPT - 1));
                *whole = whole.some(|row| row % KEPT != KEPT - 1);
            }
        } else {
            let reader = A3mReader::open(&data::locate(&files.held_out)?)?;
            let read = all.take(reader, &files.held_out, files)?;
            all.held_out.push(read);
        }
        for (alignments, key) in [
            (&mut all.train, "alignments.train"),
            (&mut all.held_out, "alignments.held_out"),
        ] {
            for alignment in alignments {
                let rows = alignment.rows();
                let why = format!(
                    "{}: {rows} rows are too few; give 2 at least",
                    alignment.name
                );
                config.require(key, rows > 1, &why)?;
                let there = alignment.row(0).iter().any(|y| usize::from(*y) < RESIDUES);
                let why = format!(
                    "{}: its first row has no residue; give an alignment that begins with its query",
                    alignment.name
                );
                config.require(key, there, &why)?;
                alignment.weigh(files.identity);
            }
        }
        super::structure::place(config, files, &mut all.train)?;
        Ok(all)
    }

    /// The rows of a file; those that are not used are kept or counted.
    fn take(&mut self, reader: A3mReader, name: &str, files: &Files) -> Result<Alignment> {
        let mut alignment = Alignment {
            name: name.to_owned(),
            ..Alignment::default()
        };
        let mut left = Left {
            name: name.to_owned(),
            ..Left::default()
        };
        for row in reader {
            match row? {
                Ok(_) if alignment.rows() == files.rows => left.beyond += 1,
                Ok(row) => {
                    alignment.columns = row.letters.len();
                    alignment.letters.extend(row.letters.iter().map(token));
                    let few = row
                        .inserted
                        .iter()
                        .map(|n| u8::try_from(*n).unwrap_or(u8::MAX));
                    alignment.inserted.extend(few);
                }
                Err(bad) => {
                    left.rejected += 1;
                    if left.rejected <= files.rows {
                        self.rejected.push(*bad);
                    }
                }
            }
        }
        alignment.atoms = vec![None; alignment.columns];
        let unkept = left.rejected.saturating_sub(files.rows);
        for (rows, what) in [
            (left.beyond, "of the alignment"),
            (unkept, "that were rejected"),
        ] {
            if rows > 0 {
                let most = files.rows;
                let detail = format!("{rows} rows {what}, beyond alignments.rows = {most}");
                let line = Rejected::raw(b"", Reason::Limit, detail, name);
                self.rejected.push(line);
            }
        }
        self.left.push(left);
        Ok(alignment)
    }
}

/// The token of a letter.
fn token(letter: &u8) -> u8 {
    match AMINO_ACIDS.iter().position(|a| a == letter) {
        Some(place) => place as u8,
        None if *letter == b'-' => GAP,
        None => UNKNOWN,
    }
}

impl Alignment {
    pub(crate) fn rows(&self) -> usize {
        self.letters.len() / self.columns.max(1)
    }

    /// Tokens of a row.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        &self.letters[row * self.columns..][..self.columns]
    }

    /// The rows that are chosen; the first of them becomes the query.
    fn some(&self, chosen: impl Fn(usize) -> bool) -> Alignment {
        let (mut letters, mut inserted) = (Vec::new(), Vec::new());
        for row in (0..self.rows()).filter(|&row| chosen(row)) {
            let place = row * self.columns..(row + 1) * self.columns;
            letters.extend_from_slice(&self.letters[place.clone()]);
            inserted.extend_from_slice(&self.inserted[place]);
        }
        Alignment {
            letters,
            inserted,
            ..self.clone()
        }
    }

    /// Weighs each row by one over the number of rows that share at least the part `identity` of their columns
    /// with it, itself among them (Morcos et al. 2011, supplement).
    fn weigh(&mut self, identity: f64) {
        let rows = self.rows();
        // products such as 0.55 · 100 may lie above the whole number that they are
        let enough = (identity * self.columns as f64 * (1.0 - 1e-12)).ceil() as usize;
        let mut alike = vec![1u32; rows];
        for a in 0..rows {
            for b in 0..a {
                if equal(self.row(a), self.row(b)) >= enough {
                    alike[a] += 1;
                    alike[b] += 1;
                }
            }
        }
        self.weights = alike.iter().map(|n| 1.0 / f64::from(*n)).collect();
    }

    /// The sum of the weights: how many sequences there are, those that are alike counted once.
    pub(crate) fn effective(&self) -> f64 {
        self.weights.iter().sum()
    }
}

/// Number of places at which two rows are equal.
fn equal(a: &[u8], b: &[u8]) -> usize {
    // sums of bytes, which the processor adds many at once
    let chunks = a.chunks(255).zip(b.chunks(255));
    let sum = |(a, b): (&[u8], &[u8])| a.iter().zip(b).map(|(x, y)| u8::from(x == y)).sum::<u8>();
    chunks.map(|pair| usize::from(sum(pair))).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An alignment of these rows.
    pub(crate) fn alignment(rows: &[&[u8]]) -> Alignment {
        let letters: Vec<u8> = rows.iter().flat_map(|r| r.iter().map(token)).collect();
        let mut made = Alignment {
            name: "made up".to_owned(),
            columns: rows[0].len(),
            inserted: vec![0; letters.len()],
            atoms: vec![None; rows[0].len()],
            letters,
            weights: Vec::new(),
        };
        made.weigh(0.8);
        made
    }

    /// Rows that are alike share the weight of one.
    #[test]
    fn alike_rows_count_once() {
        let made = alignment(&[b"ACDEF", b"ACDEG", b"ACDEH", b"LMNPQ", b"-----"]);
        let third = 1.0 / 3.0;
        assert_eq!(made.weights, [third, third, third, 1.0, 1.0]);
        assert_eq!(made.effective(), 3.0);
        // 0.55 · 100 is 55.00000000000001
        let half: Vec<u8> = (0..100).map(|c| if c < 55 { b'A' } else { b'C' }).collect();
        let mut made = alignment(&[&[b'A'; 100], &half]);
        made.weigh(0.55);
        assert_eq!(made.weights, [0.5, 0.5]);
        made.weigh(0.56);
        assert_eq!(made.weights, [1.0, 1.0]);
        let long = vec![b'A'; 700];
        assert_eq!(equal(&long, &long), 700);
    }

    fn files(rows: usize) -> Files {
        Files {
            train: Vec::new(),
            held_out: String::new(),
            structures: Vec::new(),
            identity: 0.8,
            rows,
        }
    }

    /// The embedded alignment is whole, and what is kept of it are other rows.
    #[test]
    fn the_embedded_alignment_reads() {
        let mut read = Alignments::default();
        let reader = A3mReader::new(Cursor::new(EMBEDDED), Path::new("embedded"));
        let all = read.take(reader, "1a3a", &files(1000)).expect("it reads");
        assert!(read.rejected.is_empty());
        assert_eq!((all.columns, all.rows()), (145, 398));
        let kept = all.some(|row| row % KEPT == KEPT - 1);
        assert_eq!(kept.row(0), all.row(KEPT - 1));
        assert_eq!(kept.rows(), 398 / KEPT);
    }

    /// Bad rows of one file leave those of the next, and all that is not used is counted.
    #[test]
    fn what_is_left_out_is_counted() {
        let text = |good: usize, bad: usize| -> String {
            let short = ">short\nAC\n".repeat(bad);
            format!(">q\nACDE\n{short}{}", ">good\nAC-E\n".repeat(good - 1))
        };
        let mut read = Alignments::default();
        let mut rows = |name: &str, text: String| {
            let reader = A3mReader::new(Cursor::new(text.into_bytes()), Path::new(name));
            let found = read.take(reader, name, &files(3)).expect("it reads");
            found.rows()
        };
        assert_eq!(rows("bad", text(2, 8)), 2);
        assert_eq!(rows("good", text(3, 0)), 3);
        assert_eq!(rows("many", text(7, 1)), 3);
        let left = |name: &str, rejected, beyond| Left {
            name: name.to_owned(),
            rejected,
            beyond,
        };
        let want = [left("bad", 8, 0), left("good", 0, 0), left("many", 1, 4)];
        assert_eq!(read.left, want);
        let details: Vec<&str> = read.rejected.iter().map(|r| r.detail.as_str()).collect();
        assert_eq!(details.len(), 3 + 1 + 1 + 1, "{details:?}");
        assert!(
            details[3].starts_with("5 rows that were rejected"),
            "{details:?}"
        );
        assert!(
            details[5].starts_with("4 rows of the alignment"),
            "{details:?}"
        );
        assert_eq!(read.rejected[5].reason, Reason::Limit);
    }
}
