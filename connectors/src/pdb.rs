//! PDB: the C-alpha atoms of a chain, from `ATOM` records of fixed columns (wwPDB format 3.3).

use std::path::Path;

use crate::error::{ConnectorError, Result};
use crate::text::read_text;

/// A residue of a chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residue {
    /// Its letter, `X` if it is none of the 20 amino acids.
    pub letter: u8,
    /// Position of its C-alpha atom, Å.
    pub alpha: [f64; 3],
}

/// The residues of the first chain of the first model whose C-alpha atom is there, in the order of the file; of
/// alternative positions the first. The file may be packed ([`read_text`]).
///
/// # Errors
/// As [`read_text`], and [`ConnectorError::Format`] that names the line if a position is no number, or if there is
/// no C-alpha atom.
pub fn read_pdb(path: &Path, limit: u64) -> Result<Vec<Residue>> {
    parse(&read_text(path, limit)?).map_err(|detail| {
        let mend = "give a file with ATOM records, such as those of the Protein Data Bank";
        ConnectorError::format(path.display().to_string(), "PDB", detail, mend)
    })
}

/// Three-letter names, and letters.
const NAMES: [(&[u8; 3], u8); 21] = [
    (b"ALA", b'A'),
    (b"CYS", b'C'),
    (b"ASP", b'D'),
    (b"GLU", b'E'),
    (b"PHE", b'F'),
    (b"GLY", b'G'),
    (b"HIS", b'H'),
    (b"ILE", b'I'),
    (b"LYS", b'K'),
    (b"LEU", b'L'),
    (b"MET", b'M'),
    (b"ASN", b'N'),
    (b"PRO", b'P'),
    (b"GLN", b'Q'),
    (b"ARG", b'R'),
    (b"SER", b'S'),
    (b"THR", b'T'),
    (b"VAL", b'V'),
    (b"TRP", b'W'),
    (b"TYR", b'Y'),
    (b"MSE", b'M'),
];

fn parse(bytes: &[u8]) -> Result<Vec<Residue>, String> {
    let mut residues = Vec::new();
    let mut chain = None;
    let mut last: Option<&[u8]> = None;
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        if line.starts_with(b"ENDMDL") {
            break;
        }
        let alpha = line.get(12..16) == Some(b" CA ");
        // selenomethionine stands as HETATM
        let modified = line.starts_with(b"HETATM") && line.get(17..20) == Some(b"MSE");
        if !alpha || !(line.starts_with(b"ATOM  ") || modified) {
            continue;
        }
        let field = |from: usize, to: usize| {
            let short = format!("line {} ends before column {to}", number + 1);
            line.get(from..to).ok_or(short)
        };
        let (name, here, residue) = (field(17, 20)?, field(21, 22)?, field(22, 27)?);
        if *chain.get_or_insert(here) != here || last == Some(residue) {
            continue;
        }
        last = Some(residue);
        let mut position = [0.0; 3];
        for (axis, x) in position.iter_mut().enumerate() {
            let text = field(30 + 8 * axis, 38 + 8 * axis)?;
            let read = std::str::from_utf8(text).ok();
            let read = read.and_then(|text| text.trim().parse::<f64>().ok());
            *x = read.filter(|x| x.is_finite()).ok_or_else(|| {
                let text = text.escape_ascii();
                format!("line {}: '{text}' is no position", number + 1)
            })?;
        }
        let letter = NAMES.iter().find(|(known, _)| &known[..] == name);
        residues.push(Residue {
            letter: letter.map_or(b'X', |(_, letter)| *letter),
            alpha: position,
        });
    }
    match residues.is_empty() {
        true => Err("it has no ATOM record of an atom CA".to_owned()),
        false => Ok(residues),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE_UP: &str = "\
HEADER    MADE UP
ATOM      1  N   ALA A   1       9.000   9.000   9.000  1.00  0.00           N
ATOM      2  CA AALA A   1       1.000  -2.500   3.250  0.60  0.00           C
ATOM      3  CA BALA A   1       7.000   7.000   7.000  0.40  0.00           C
HETATM    4  CA  MSE A   2       4.800  -2.500   3.250  1.00  0.00           C
ATOM      5  CA  UNK A   2A      4.800   1.300   3.250  1.00  0.00           C
HETATM    6 CA    CA A 101       0.000   0.000   0.000  1.00  0.00          CA
ATOM      7  CA  TRP B   1       0.000   0.000   0.000  1.00  0.00           C
ENDMDL
ATOM      8  CA  TRP A   1       0.000   0.000   0.000  1.00  0.00           C
";

    /// The first chain of the first model, one position a residue; other atoms, calcium too, are passed over.
    #[test]
    fn residues_of_the_first_chain() {
        let residues = parse(MADE_UP.as_bytes()).expect("fine");
        let letters: Vec<u8> = residues.iter().map(|r| r.letter).collect();
        assert_eq!(letters, b"AMX");
        assert_eq!(residues[0].alpha, [1.0, -2.5, 3.25]);
    }

    /// What cannot be read is named with its line.
    #[test]
    fn bad_records_are_named() {
        let bad = MADE_UP.replace("  -2.500   3.250  0.60", "  -2.5x0   3.250  0.60");
        for (text, says) in [
            (bad.as_str(), "line 3: '  -2.5x0'"),
            ("", "no ATOM record"),
            (
                "ATOM      2  CA  ALA A   1       1.000",
                "line 1 ends before",
            ),
        ] {
            let error = parse(text.as_bytes()).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
