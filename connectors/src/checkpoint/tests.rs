//! A checkpoint gives back what was written, box by box, or says what is wrong with it.

use std::fs;

use advect_engine::DType;
use proptest::prelude::*;

use super::*;

/// Elements that know their global index.
fn piece(name: &str, shape: [usize; 2], start: [usize; 2], extent: [usize; 2]) -> Piece {
    let rows = start[0]..start[0] + extent[0];
    let of = |r: usize| (start[1]..start[1] + extent[1]).map(move |c| (r * shape[1] + c) as f64);
    Piece {
        name: name.to_owned(),
        shape: shape.to_vec(),
        region: Region {
            start: start.to_vec(),
            extent: extent.to_vec(),
        },
        data: rows.flat_map(of).collect::<Vec<f64>>().into(),
    }
}

fn progress(step: u64) -> Progress {
    Progress {
        step,
        sample: 8 * step,
        seed: 3,
        job: Default::default(),
    }
}

/// A 5 × 7 tensor in four pieces of two workers.
fn written(directory: &Path) -> Checkpoint {
    let quarter = |start, extent| piece("w", [5, 7], start, extent);
    let one = [quarter([0, 0], [2, 3]), piece("b", [1, 2], [0, 0], [1, 2])];
    let two = [quarter([0, 3], [2, 4]), quarter([2, 0], [3, 7])];
    // a name comes once in a part
    let parts = vec![
        write_part(directory, 0, &one).expect("it is written"),
        write_part(directory, 1, &two[..1]).expect("it is written"),
        write_part(directory, 2, &two[1..]).expect("it is written"),
    ];
    let manifest = Manifest::new(progress(4), parts).expect("pieces tile");
    manifest.commit(directory).expect("it is written");
    Checkpoint::open(directory).expect("it is whole")
}

proptest! {
    /// Every box of a tensor is read from the pieces it lies in.
    #[test]
    fn any_box_comes_back(a in 0usize..5, b in 0usize..7, h in 1usize..6, w in 1usize..8) {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let checkpoint = written(directory.path());
        let extent = [h.min(5 - a), w.min(7 - b)];
        let want = piece("w", [5, 7], [a, b], extent);
        let got = checkpoint.read("w", DType::F64, &[5, 7], &want.region).expect("it is there");
        prop_assert_eq!(got, want.data);
    }

    /// Damage anywhere in a part or the manifest is an error or changes nothing.
    #[test]
    fn damage_is_noticed(at in 0.0f64..1.0, bit in 0u8..8, cut: bool, which in 0usize..2) {
        let directory = tempfile::tempdir().expect("a directory can be made");
        written(directory.path());
        let file = directory.path().join(["part-0002.safetensors", MANIFEST][which]);
        let mut bytes = fs::read(&file).expect("it is there");
        let place = (at * bytes.len() as f64) as usize;
        match cut {
            true => bytes.truncate(place),
            false => bytes[place] ^= 1 << bit,
        }
        fs::write(&file, bytes).expect("it is written");
        let want = piece("w", [5, 7], [0, 0], [5, 7]);
        let read = Checkpoint::open(directory.path())
            .and_then(|c| c.read("w", DType::F64, &[5, 7], &want.region));
        if let Ok(got) = read {
            prop_assert_eq!(got, want.data);
        }
    }
}

/// What is asked for and is not there is named.
#[test]
fn what_is_missing_is_named() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let checkpoint = written(directory.path());
    let all = Region {
        start: vec![0, 0],
        extent: vec![5, 7],
    };
    let said = |name: &str, dtype, shape: &[usize]| {
        let read = checkpoint.read(name, dtype, shape, &all);
        read.expect_err("it is not there").to_string()
    };
    assert!(said("v", DType::F64, &[5, 7]).contains("no tensor 'v'"));
    assert!(said("w", DType::F32, &[5, 7]).contains("'w' is F64 [5, 7], not F32 [5, 7]"));
    assert!(said("w", DType::F64, &[7, 5]).contains("[5, 7], not F64 [7, 5]"));
    fs::remove_file(directory.path().join("part-0001.safetensors")).expect("it was there");
    let said = said("w", DType::F64, &[5, 7]);
    assert!(
        said.contains("part-0001.safetensors") && said.contains("bring back"),
        "{said}"
    );
}

/// Pieces that overlap or leave a hole are no checkpoint.
#[test]
fn pieces_tile() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let tiles = |pieces: &[Piece]| {
        let part = write_part(directory.path(), 0, &pieces[..1]).expect("it is written");
        let rest = write_part(directory.path(), 1, &pieces[1..]).expect("it is written");
        Manifest::new(progress(0), vec![part, rest]).map(|_| ())
    };
    let half = |start: usize, rows: usize| piece("w", [4, 2], [start, 0], [rows, 2]);
    assert!(tiles(&[half(0, 2), half(2, 2)]).is_ok());
    for pieces in [
        [half(0, 2), half(2, 1)],
        [half(0, 3), half(2, 2)],
        [half(0, 2), half(1, 2)],
    ] {
        let said = tiles(&pieces).expect_err("no tiling").to_string();
        assert!(said.contains("'w'"), "{said}");
    }
}

/// A checkpoint without its manifest is none, and older ones go.
#[test]
fn only_whole_checkpoints_count() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let at = |step| at_step(directory.path(), step);
    for step in [3, 10, 7] {
        written(&at(step));
    }
    write_part(&at(12), 0, &[piece("w", [1, 1], [0, 0], [1, 1])]).expect("it is written");
    assert_eq!(steps(directory.path()).expect("it can be read"), [3, 7, 10]);
    keep_last(directory.path(), 2).expect("they can be removed");
    assert_eq!(steps(directory.path()).expect("it can be read"), [7, 10]);
    assert_eq!(
        steps(&directory.path().join("none")).expect("no directory"),
        [0u64; 0]
    );
}
