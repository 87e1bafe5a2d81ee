//! A hostile configuration gives one clear error: no panic, no endless work, no overflow.

use std::cell::Cell;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::layer::from_bytes;
use super::schema::Schema;
use super::tests::{DEFAULT, Sample};
use super::{ConfigError, LIMIT, Sources, resolve};
use crate::pipeline::Pipeline;

/// How many mutated configurations are tried.
const CASES: u32 = 10_000;

/// A change of some bytes of a configuration.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(usize, u8),
    Cut(usize, usize),
    Repeat(usize, usize, usize),
    Insert(usize, &'static [u8]),
}

/// Pieces that have broken parsers before.
const PIECES: &[&[u8]] = &[
    b"[[[[[[[[",
    b"{{{{",
    b"]]]]",
    b"\"\"\"",
    b"'''",
    b"\\u{ffff}",
    b"\\uD800",
    b"\xff\xfe",
    b"\0",
    b"= = =",
    b"a.b.c.d.e.f.g.h",
    b"1e999999",
    b"-9223372036854775809",
    b"0x",
    b"nan",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"[filter]\n",
    b"filter = 1\n",
    b"method.letkf = {}",
    b"1979-05-27T07:32:00Z",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let piece = prop::sample::select(PIECES);
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
        (any::<usize>(), 1..40usize).prop_map(|(at, n)| Mutation::Cut(at, n)),
        (any::<usize>(), 1..20usize, 1..60usize).prop_map(|(at, n, k)| Mutation::Repeat(at, n, k)),
        (any::<usize>(), piece).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
    ]
}

fn mutate(text: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for mutation in mutations {
        let end = bytes.len();
        match *mutation {
            Mutation::Flip(at, byte) if end > 0 => bytes[at % end] ^= byte,
            Mutation::Cut(at, n) if end > 0 => {
                bytes.drain(at % end..(at % end + n).min(end));
            }
            Mutation::Repeat(at, n, times) if end > 0 => {
                let piece = bytes[at % end..(at % end + n).min(end)].repeat(times);
                bytes.splice(at % end..at % end, piece);
            }
            Mutation::Insert(at, piece) => {
                bytes.splice(at % (end + 1)..at % (end + 1), piece.iter().copied());
            }
            _ => {}
        }
    }
    bytes
}

/// Layers the bytes over the default as a file would be.
fn admit(bytes: &[u8]) -> Result<usize, ConfigError> {
    let mut schema = Schema::default();
    schema.learn(&from_bytes(DEFAULT.as_bytes(), Path::new("default"))?);
    let leaves = from_bytes(bytes, Path::new("hostile.toml"))?;
    for leaf in &leaves {
        schema.admits(leaf)?;
    }
    Ok(leaves.len())
}

fn is_clear(error: &ConfigError) -> bool {
    let text = error.to_string();
    text.starts_with("hostile.toml") && text.lines().count() == 1 && text.len() < 2000
}

#[test]
fn ten_thousand_mutations_give_a_configuration_or_one_clear_error() {
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // the same mutations every time
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, random);
    let mutations = prop::collection::vec(mutation(), 1..8);
    let (fine, wrong) = (Cell::new(0u32), Cell::new(0u32));
    let outcome = runner.run(&mutations, |mutations| {
        match admit(&mutate(DEFAULT.as_bytes(), &mutations)) {
            Ok(_) => fine.set(fine.get() + 1),
            Err(e) => {
                prop_assert!(is_clear(&e), "{e}");
                wrong.set(wrong.get() + 1);
            }
        }
        Ok(())
    });
    outcome.unwrap();
    let (fine, wrong) = (fine.get(), wrong.get());
    // neither side may be empty, or the mutations would test nothing
    assert!(
        fine > CASES / 100 && wrong > CASES / 2,
        "{fine} fine, {wrong} wrong"
    );
}

#[test]
fn nesting_length_and_bytes_are_bounded() {
    let deep = |open: &str, n: usize| format!("x = {}", open.repeat(n)).into_bytes();
    let megabyte = LIMIT as usize - 10;
    let hostile: Vec<Vec<u8>> = vec![
        deep("[", 200_000),
        deep("{a=", 200_000),
        [b"a".as_slice(), &b".a".repeat(200_000), b" = 1"].concat(),
        [b"a".as_slice(), &b".a".repeat(40), b" = 1"].concat(),
        [b"[".as_slice(), &b"a.".repeat(70), b"a]"].concat(),
        b"k".repeat(megabyte),
        [b"k".repeat(megabyte - 9), b" = 1".to_vec()].concat(),
        b"x = 1\n".repeat(megabyte / 6),
        b"[[a]]\n".repeat(megabyte / 6),
        (0..80_000)
            .map(|i| format!("k{i}=1\n"))
            .collect::<String>()
            .into_bytes(),
        b"x = \""
            .iter()
            .chain(b"\\".repeat(1000).iter())
            .copied()
            .collect(),
        b"\xff".repeat(1000),
        vec![b'#'; LIMIT as usize + 1],
    ];
    for bytes in hostile {
        let error = admit(&bytes).expect_err("hostile");
        assert!(is_clear(&error), "{error}");
    }
}

#[test]
fn hostile_arguments_and_variables_are_errors_too() {
    let many = "[".repeat(10_000);
    for text in [
        "=",
        ".=1",
        "a..b=1",
        "filter.members",
        "filter.members=[",
        "seeds={a=1}",
        "\0=1",
    ] {
        let set = vec![text.to_owned()];
        assert!(
            resolve(
                &Sample,
                &Sources {
                    set,
                    ..Sources::default()
                }
            )
            .is_err(),
            "{text}"
        );
    }
    for (name, text) in [
        ("ADVECT_FILTER__MEMBERS", many.as_str()),
        ("ADVECT____", "1"),
    ] {
        let environment = vec![(name.to_owned(), text.to_owned())];
        let sources = Sources {
            environment,
            ..Sources::default()
        };
        assert!(resolve(&Sample, &sources).is_err(), "{name}");
    }
    assert_eq!(Sample.name(), "sample");
}
