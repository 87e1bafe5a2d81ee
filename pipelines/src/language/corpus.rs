//! The text of a run as tokens: what is trained on, what validates, what tests.

use std::ops::Range;
use std::path::Path;

use advect_connectors::{read_fasta, read_text, unpack_bzip2};

use super::settings::{Alphabet, Text};
use crate::config::Config;
use crate::data;
use crate::error::Result;

/// Pages of an encyclopedia that come with the program, packed.
const EMBEDDED: &[u8] = include_bytes!("../../data/enwiki_cut.xml.bz2");
/// The longest text that is read.
const LIMIT: u64 = 1 << 33;

/// A text, and its parts.
#[derive(Debug, Clone)]
pub(crate) struct Corpus {
    pub(crate) tokens: Vec<u8>,
    alphabet: Alphabet,
    validate: usize,
    test: usize,
}

impl Corpus {
    /// Reads the text that `text` names; each of its parts must hold a window of `context` tokens.
    ///
    /// # Errors
    /// If it cannot be read or is too short.
    pub(crate) fn read(config: &Config, text: &Text, context: usize) -> Result<Self> {
        let tokens = match (text.file.as_str(), text.alphabet) {
            ("", Alphabet::Bytes) => unpack_bzip2(EMBEDDED, Path::new("the embedded text"), LIMIT)?,
            ("", Alphabet::Bases) => {
                return Err(config
                    .wrong("text.file", "is empty; name a FASTA file")
                    .into());
            }
            (file, Alphabet::Bytes) => read_text(&data::locate(file)?, LIMIT)?,
            (file, Alphabet::Bases) => {
                let sequences = read_fasta(&data::locate(file)?, LIMIT)?;
                sequences
                    .iter()
                    .flat_map(|s| s.letters.iter().map(base))
                    .collect()
            }
        };
        let corpus = Corpus {
            tokens,
            alphabet: text.alphabet,
            validate: text.validate,
            test: text.test,
        };
        let kept = text.validate.saturating_add(text.test);
        let rest = corpus.tokens.len().saturating_sub(kept);
        for (key, tokens) in [
            ("text.validate", text.validate),
            ("text.test", text.test),
            ("text.file", rest),
        ] {
            let why = format!(
                "leaves {tokens} of {} tokens; model.context = {context} needs more than that",
                corpus.tokens.len()
            );
            config.require(key, tokens > context, &why)?;
        }
        Ok(corpus)
    }

    /// The part that is trained on.
    pub(crate) fn train(&self) -> Range<usize> {
        0..self.tokens.len() - self.validate - self.test
    }

    /// The part that validates.
    pub(crate) fn validate(&self) -> Range<usize> {
        self.train().end..self.tokens.len() - self.test
    }

    /// The part that tests.
    pub(crate) fn test(&self) -> Range<usize> {
        self.validate().end..self.tokens.len()
    }

    /// Tokens of a text that a user gives.
    pub(crate) fn encode(&self, text: &str) -> Vec<u8> {
        match self.alphabet {
            Alphabet::Bytes => text.bytes().collect(),
            Alphabet::Bases => text
                .bytes()
                .map(|b| base(&b.to_ascii_uppercase()))
                .collect(),
        }
    }

    /// Text of tokens.
    pub(crate) fn decode(&self, tokens: &[u8]) -> String {
        match self.alphabet {
            Alphabet::Bytes => String::from_utf8_lossy(tokens).into_owned(),
            Alphabet::Bases => {
                let letter = |t: &u8| BASES.get(usize::from(*t)).map_or('N', |b| char::from(*b));
                tokens.iter().map(letter).collect()
            }
        }
    }
}

const BASES: [u8; 4] = *b"ACGT";

/// The token of a base; whatever is not A, C, G or T is not known.
fn base(letter: &u8) -> u8 {
    let found = BASES.iter().position(|b| b == letter);
    found.unwrap_or(BASES.len()) as u8
}
