//! Distances of the residues of a query, from a structure.

use advect_connectors::{Residue, read_pdb};

use super::alignment::{AMINO_ACIDS, Alignment, Files, GAP, RESIDUES};
use super::sample::{Extents, Sample};
use crate::config::Config;
use crate::data;
use crate::error::Result;

/// The largest structure file that is read.
const LIMIT: u64 = 1 << 28;
/// The first and the last edge between bins, Å (Jumper et al. 2021, supplement 1.9.8).
const EDGES: [f64; 2] = [2.3125, 21.6875];

/// Places the structures that are named on the queries of their alignments.
///
/// # Errors
/// If a file cannot be read, or is of another sequence.
pub(super) fn place(config: &Config, files: &Files, train: &mut [Alignment]) -> Result<()> {
    const KEY: &str = "alignments.structures";
    let (named, there) = (files.structures.len(), train.len());
    let why = format!("names {named} files for {there} alignments; leave names of others empty");
    config.require(KEY, named <= there, &why)?;
    for (file, alignment) in files.structures.iter().zip(train) {
        if file.is_empty() {
            continue;
        }
        let residues = read_pdb(&data::locate(file)?, LIMIT)?;
        let query: Vec<usize> = (0..alignment.columns)
            .filter(|column| alignment.row(0)[*column] != GAP)
            .collect();
        let fits = |(column, residue): (&usize, &Residue)| {
            let token = usize::from(alignment.row(0)[*column]);
            token >= RESIDUES || residue.letter == b'X' || AMINO_ACIDS[token] == residue.letter
        };
        let first = query.iter().zip(&residues).position(|pair| !fits(pair));
        let differs = match first {
            Some(place) => Some(format!("differ at residue {}", place + 1)),
            None if query.len() != residues.len() => {
                let (n, m) = (residues.len(), query.len());
                Some(format!("have {n} and {m} residues"))
            }
            None => None,
        };
        if let Some(differs) = differs {
            let name = &alignment.name;
            let why = format!(
                "{file} and the query of {name} {differs}; give the structure of the query"
            );
            return Err(config.wrong(KEY, why).into());
        }
        for (column, residue) in query.into_iter().zip(residues) {
            alignment.atoms[column] = Some(residue.alpha);
        }
    }
    Ok(())
}

/// The bin of each pair of columns of a sample `[l, l]`, −1 where an atom is not known.
pub(super) fn distances(
    alignment: &Alignment,
    sample: &Sample,
    extents: Extents,
    bins: usize,
) -> Vec<i64> {
    let l = extents.length;
    let mut found = vec![-1; l * l];
    let atoms = &alignment.atoms[sample.first..][..sample.columns];
    for (i, a) in atoms.iter().enumerate() {
        for (j, b) in atoms.iter().enumerate() {
            if let (Some(a), Some(b)) = (a, b) {
                found[i * l + j] = bin(a, b, bins);
            }
        }
    }
    found
}

fn bin(a: &[f64; 3], b: &[f64; 3], bins: usize) -> i64 {
    let square: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
    let width = (EDGES[1] - EDGES[0]) / (bins.saturating_sub(2).max(1)) as f64;
    let above = ((square.sqrt() - EDGES[0]) / width).floor() + 1.0;
    above.clamp(0.0, bins.saturating_sub(1) as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bins begin at their lower edges; the first and the last have no other edge.
    #[test]
    fn distances_have_bins() {
        let at = |x: f64| bin(&[0.0; 3], &[x, 0.0, 0.0], 64);
        let width = (EDGES[1] - EDGES[0]) / 62.0;
        assert_eq!((width, at(0.0), at(2.3)), (0.3125, 0, 0));
        assert_eq!((at(2.3126), at(2.3125 + 1.5 * width)), (1, 2));
        assert_eq!((at(21.6), at(21.7), at(400.0)), (62, 63, 63));
    }
}
