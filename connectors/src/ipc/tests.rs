//! IPC streams come back however they are cut; damage is an error.

use super::*;
use crate::schema::{from_batch, observation_schema, tests::sample, to_batch};
use proptest::prelude::*;

fn stream(batches: usize, rows: usize) -> Vec<u8> {
    let batch = to_batch(&(0..rows).map(sample).collect::<Vec<_>>()).unwrap();
    let mut bytes = Vec::new();
    write_ipc_stream(
        &mut bytes,
        "x",
        &observation_schema(),
        &vec![batch; batches],
    )
    .unwrap();
    bytes
}

/// A stream gives the same batches however its bytes are cut.
#[test]
fn any_cut_gives_the_same_batches() {
    let bytes = stream(3, 50);
    for step in [1, 7, 100, bytes.len()] {
        let mut frames = IpcFrames::new("x", MAX_MESSAGE);
        let mut rows = 0;
        for piece in bytes.chunks(step) {
            frames.push(piece, |b| rows += b.num_rows()).unwrap();
        }
        frames.finish().unwrap();
        assert!(frames.is_finished());
        assert_eq!(rows, 150);
    }
}

/// File and stream on disk are told apart and read alike.
#[test]
fn file_and_stream_agree() {
    let dir = tempfile::tempdir().unwrap();
    let batch = to_batch(&(0..99).map(sample).collect::<Vec<_>>()).unwrap();
    let (a, b) = (dir.path().join("a.arrow"), dir.path().join("b.arrows"));
    write_ipc_file(&a, &observation_schema(), [&batch]).unwrap();
    std::fs::write(&b, stream(1, 99)).unwrap();
    for path in [a, b] {
        let mut got = Vec::new();
        read_ipc(path, |b| got.push(b)).unwrap();
        assert_eq!(got, std::slice::from_ref(&batch));
    }
}

/// A message that declares too much is refused before it comes.
#[test]
fn oversized_is_refused() {
    let mut frames = IpcFrames::new("client", 1 << 20);
    let error = frames
        .push(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x7f], |_| ())
        .unwrap_err();
    assert!(matches!(error, ConnectorError::TooLarge { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Damaged streams end in an error or in rows, without a panic.
    #[test]
    fn damage_is_an_error(at in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..6)) {
        let mut bytes = stream(2, 20);
        for (x, b) in at {
            let i = (x * bytes.len() as f64) as usize;
            bytes[i] = b;
        }
        let mut frames = IpcFrames::new("x", 1 << 20);
        let mut batches = Vec::new();
        let _ = frames.push(&bytes, |b| batches.push(b));
        for batch in batches {
            if let Ok((good, bad)) = from_batch(&batch, "x", 0) {
                prop_assert_eq!(good.len() + bad.len(), batch.num_rows());
            }
        }
    }
}
