//! Alignments as numbers: letters, insertions, and how much each row counts.

use std::io::Cursor;
use std::path::Path;

use advect_connectors::{A3mReader, Rejected};

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
    pub(crate) rejected: Vec<Rejected>,
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
            all.train.push(read(
                A3mReader::new(Cursor::new(EMBEDDED), place),
                "1a3a",
                files,
                &mut all.rejected,
            )?);
        }
        for file in &files.train {
            let path = data::locate(file)?;
            let reader = A3mReader::open(&path)?;
            all.train
                .push(read(reader, file, files, &mut all.rejected)?);
        }
        if !files.held_out.is_empty() {
            let path = data::locate(&files.held_out)?;
            let reader = A3mReader::open(&path)?;
            all.held_out
                .push(read(reader, &files.held_out, files, &mut all.rejected)?);
        } else {
            for whole in &mut all.train {
                all.held_out.push(whole.some(|row| row % KEPT == KEPT - 1));
                *whole = whole.some(|row| row % KEPT != KEPT - 1);
            }
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
                alignment.weigh(files.identity);
            }
        }
        super::structure::place(config, files, &mut all.train)?;
        Ok(all)
    }
}

/// The rows of a file; what is none goes to `rejected`.
fn read(
    reader: A3mReader,
    name: &str,
    files: &Files,
    rejected: &mut Vec<Rejected>,
) -> Result<Alignment> {
    let mut alignment = Alignment {
        name: name.to_owned(),
        ..Alignment::default()
    };
    for row in reader {
        if alignment.rows() == files.rows || rejected.len() > files.rows {
            break;
        }
        match row? {
            Ok(row) => {
                alignment.columns = row.letters.len();
                alignment.letters.extend(row.letters.iter().map(token));
                let few = row
                    .inserted
                    .iter()
                    .map(|n| u8::try_from(*n).unwrap_or(u8::MAX));
                alignment.inserted.extend(few);
            }
            Err(bad) => rejected.push(*bad),
        }
    }
    alignment.atoms = vec![None; alignment.columns];
    Ok(alignment)
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
        let enough = (identity * self.columns as f64).ceil() as usize;
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
        let long = vec![b'A'; 700];
        assert_eq!(equal(&long, &long), 700);
    }

    /// The embedded alignment is whole, and what is kept of it are other rows.
    #[test]
    fn the_embedded_alignment_reads() {
        let files = Files {
            train: Vec::new(),
            held_out: String::new(),
            structures: Vec::new(),
            identity: 0.8,
            rows: 1000,
        };
        let mut rejected = Vec::new();
        let place = Path::new("embedded");
        let reader = A3mReader::new(Cursor::new(EMBEDDED), place);
        let all = read(reader, "1a3a", &files, &mut rejected).expect("it reads");
        assert!(rejected.is_empty());
        assert_eq!((all.columns, all.rows()), (145, 398));
        let kept = all.some(|row| row % KEPT == KEPT - 1);
        assert_eq!(kept.row(0), all.row(KEPT - 1));
        assert_eq!(kept.rows(), 398 / KEPT);
    }
}
