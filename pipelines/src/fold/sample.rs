//! What a sample is: rows and columns of an alignment, and which of their letters are masked.
//!
//! Sample `n` is a function of the seed and of `n` alone, so that every worker of every mesh, and a run that goes
//! on, has the same.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::alignment::{Alignment, GAP, LETTERS, RESIDUES};

/// The token of a masked letter.
pub(crate) const MASKED: u8 = LETTERS as u8;

/// Which letters are to be found, and what stands in their place (Devlin et al. 2019, *BERT*).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Masking {
    /// The part of the residues that are targets.
    pub(crate) part: f64,
    /// The part of the targets that are masked.
    pub(crate) masked: f64,
    /// The part of the targets in whose place another residue stands; the rest stays what it is.
    pub(crate) random: f64,
}

impl Masking {
    /// All targets are masked: what validation asks for.
    pub(crate) fn plain(self) -> Self {
        Masking {
            masked: 1.0,
            random: 0.0,
            ..self
        }
    }
}

/// Extents of a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extents {
    /// s, rows.
    pub(crate) sequences: usize,
    /// l, columns.
    pub(crate) length: usize,
}

/// A sample: the first of its rows is the query of the alignment. If that has a residue at all, the sample has one, and a
/// target. An alignment of fewer rows or columns is filled up with gaps, which the model does not see.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Number of the alignment.
    pub(crate) alignment: usize,
    /// Rows of the alignment.
    pub(crate) rows: Vec<usize>,
    /// First of its columns, and their number.
    pub(crate) first: usize,
    pub(crate) columns: usize,
    /// What the model is given `[s, l]`: letters, and [`MASKED`].
    pub(crate) tokens: Vec<u8>,
    /// What is to be found `[s, l]`.
    pub(crate) targets: Vec<Option<u8>>,
}

impl Sample {
    /// Sample `n`.
    pub(crate) fn draw(
        alignments: &[Alignment],
        extents: Extents,
        masking: Masking,
        seed: u64,
        n: u64,
    ) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(n);
        let number = random.random_range(0..alignments.len());
        let alignment = &alignments[number];
        let rows = rows(alignment, extents.sequences, &mut random);
        let columns = alignment.columns.min(extents.length);
        let first = random.random_range(0..=alignment.columns - columns);
        let first = with_residue(alignment, &rows, first, columns, &mut random);
        let mut tokens = vec![GAP; extents.sequences * extents.length];
        let mut targets = vec![None; tokens.len()];
        for (place, &row) in rows.iter().enumerate() {
            let letters = &alignment.row(row)[first..first + columns];
            for (column, &letter) in letters.iter().enumerate() {
                let at = place * extents.length + column;
                tokens[at] = letter;
                let residue = usize::from(letter) < RESIDUES;
                if residue && random.random::<f64>() < masking.part {
                    targets[at] = Some(letter);
                    tokens[at] = hidden(letter, masking, &mut random);
                }
            }
        }
        if targets.iter().all(Option::is_none) {
            let residues: Vec<usize> = (0..tokens.len())
                .filter(|at| usize::from(tokens[*at]) < RESIDUES)
                .collect();
            if !residues.is_empty() {
                let at = residues[random.random_range(0..residues.len())];
                targets[at] = Some(tokens[at]);
                tokens[at] = hidden(tokens[at], masking, &mut random);
            }
        }
        Sample {
            alignment: number,
            rows,
            first,
            columns,
            tokens,
            targets,
        }
    }
}

/// The first column of a sample: as it was drawn if there is a residue in these rows, or such that one of the query is
/// among its columns.
fn with_residue(
    alignment: &Alignment,
    rows: &[usize],
    first: usize,
    columns: usize,
    random: &mut ChaCha8Rng,
) -> usize {
    let residue = |letter: &u8| usize::from(*letter) < RESIDUES;
    let there = |row: &usize| alignment.row(*row)[first..][..columns].iter().any(residue);
    if rows.iter().any(there) {
        return first;
    }
    let query = alignment.row(0).iter().enumerate();
    let query: Vec<usize> = query.filter(|(_, y)| residue(y)).map(|(c, _)| c).collect();
    if query.is_empty() {
        return first;
    }
    let column = query[random.random_range(0..query.len())];
    let before = random.random_range(0..columns);
    column
        .saturating_sub(before)
        .min(alignment.columns - columns)
}

/// What stands in the place of a target.
fn hidden(letter: u8, masking: Masking, random: &mut ChaCha8Rng) -> u8 {
    let lot: f64 = random.random();
    if lot < masking.masked {
        MASKED
    } else if lot < masking.masked + masking.random {
        // any of the others
        let other = random.random_range(1..RESIDUES as u8);
        (letter + other) % RESIDUES as u8
    } else {
        letter
    }
}

/// The query and other rows without repetition, each drawn by its weight (Efraimidis and Spirakis 2006).
fn rows(alignment: &Alignment, sequences: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut keys: Vec<(f64, usize)> = (1..alignment.rows())
        .map(|row| (random.random::<f64>().ln() / alignment.weights[row], row))
        .collect();
    keys.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let drawn = keys.into_iter().map(|(_, row)| row);
    std::iter::once(0).chain(drawn).take(sequences).collect()
}

#[cfg(test)]
mod tests {
    use super::super::alignment::tests::alignment;
    use super::*;

    const MASKING: Masking = Masking {
        part: 0.15,
        masked: 0.8,
        random: 0.1,
    };

    fn wide() -> Alignment {
        let row = |k: usize| -> Vec<u8> {
            let letter = |c: usize| b"ACDEFGHIKLMNPQRSTVWY-"[(c * (k + 3) + k * k) % 21];
            (0..50).map(letter).collect()
        };
        let rows: Vec<Vec<u8>> = (0..40).map(row).collect();
        alignment(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// A sample is that of its number; the query is first, no row comes twice, gaps are no targets, and of the
    /// targets the asked parts are masked, changed and left.
    #[test]
    fn samples_are_functions_of_their_number() {
        let alignments = [wide(), wide()];
        let extents = Extents {
            sequences: 8,
            length: 20,
        };
        let draw = |n| Sample::draw(&alignments, extents, MASKING, 7, n);
        let (mut residues, mut counts) = (0, [0.0; 3]);
        for n in 0..200 {
            let sample = draw(n);
            assert_eq!(sample, draw(n));
            assert!(sample != draw(n + 1));
            let mut rows = sample.rows.clone();
            assert_eq!(rows[0], 0);
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), 8);
            for (at, (token, target)) in sample.tokens.iter().zip(&sample.targets).enumerate() {
                let row = alignments[sample.alignment].row(sample.rows[at / 20]);
                let letter = row[sample.first + at % 20];
                residues += usize::from(letter < GAP);
                let Some(target) = target else {
                    assert_eq!(*token, letter);
                    continue;
                };
                assert!(*target == letter && letter < GAP);
                let kind = match *token {
                    MASKED => 0,
                    other if other != letter => 1,
                    _ => 2,
                };
                counts[kind] += 1.0;
            }
        }
        let targets: f64 = counts.iter().sum();
        let near = |a: f64, b: f64| (a - b).abs() < 0.02;
        assert!(near(targets / residues as f64, 0.15), "{targets}");
        assert!(
            near(counts[0] / targets, 0.8) && near(counts[1] / targets, 0.1),
            "{counts:?}"
        );
    }

    /// Rows that are alike come as often as one.
    #[test]
    fn alike_rows_come_as_one() {
        let mut rows: Vec<&[u8]> = vec![b"ACDEF"; 9];
        rows.push(b"LMNPQ");
        let alignments = [alignment(&rows)];
        let extents = Extents {
            sequences: 2,
            length: 5,
        };
        let other = |n| Sample::draw(&alignments, extents, MASKING, 1, n).rows[1] == 9;
        let part = (0..2000).filter(|n| other(*n)).count() as f64 / 2000.0;
        // weight 1 among 8 of 1/9
        assert!((part - 9.0 / 17.0).abs() < 0.04, "{part}");
    }

    /// There is always a target, however few residues there are.
    #[test]
    fn there_is_a_target() {
        let mut query = vec![b'-'; 40];
        query[23] = b'W';
        let gaps = vec![b'-'; 40];
        let alignments = [alignment(&[&query, &gaps, &gaps])];
        let extents = Extents {
            sequences: 2,
            length: 4,
        };
        let mut places = [0; 4];
        for n in 0..200 {
            let sample = Sample::draw(&alignments, extents, MASKING, 3, n);
            let targets: Vec<(usize, u8)> = (sample.targets.iter().enumerate())
                .filter_map(|(at, target)| Some((at, (*target)?)))
                .collect();
            assert_eq!(targets.len(), 1, "sample {n}");
            assert_eq!((sample.first + targets[0].0, targets[0].1), (23, 18));
            places[targets[0].0] += 1;
        }
        assert!(places.iter().all(|n| *n > 10), "{places:?}");
    }

    /// What is not there is filled up with gaps.
    #[test]
    fn small_alignments_are_filled_up() {
        let alignments = [alignment(&[b"ACD", b"A-D"])];
        let extents = Extents {
            sequences: 4,
            length: 5,
        };
        let sample = Sample::draw(&alignments, extents, MASKING, 1, 0);
        assert_eq!((sample.columns, sample.rows.len()), (3, 2));
        assert!(
            sample.tokens[3..5]
                .iter()
                .chain(&sample.tokens[10..])
                .all(|t| *t == GAP)
        );
    }
}
