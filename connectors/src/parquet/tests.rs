//! Parquet files come back as written; damage is an error.

use super::*;
use crate::schema::{observation_schema, tests::sample, to_batch};
use proptest::prelude::*;

fn bytes_of(rows: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let mut sink = ParquetSink::create(&path, observation_schema()).unwrap();
    sink.write(&to_batch(&(0..rows).map(sample).collect::<Vec<_>>()).unwrap())
        .unwrap();
    assert!(
        !path.exists(),
        "a file in the making does not bear its name"
    );
    assert_eq!(sink.finish().unwrap(), rows as u64);
    std::fs::read(path).unwrap()
}

/// What is written comes back, and a selection of columns is a projection of it.
#[test]
fn round_trip_and_projection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    std::fs::write(&path, bytes_of(20_000)).unwrap();
    let all: Vec<_> = ParquetSource::open(&path)
        .unwrap()
        .read()
        .unwrap()
        .collect();
    assert_eq!(all.len(), 3);
    let source = ParquetSource::open(&path)
        .unwrap()
        .columns(&["value", "time"])
        .unwrap();
    let mut row = 0;
    for (part, whole) in source.row_groups(&[0]).unwrap().read().unwrap().zip(all) {
        let (part, whole) = (part.unwrap(), whole.unwrap());
        assert_eq!(part, whole.project(&[0, 5]).unwrap());
        row += part.num_rows();
    }
    assert_eq!(row, 20_000);
    let message = ParquetSource::open(&path)
        .unwrap()
        .columns(&["valeu"])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`valeu`") && message.contains("latitude"),
        "{message}"
    );
    let beyond = ParquetSource::open(&path)
        .unwrap()
        .row_groups(&[9])
        .unwrap_err();
    assert!(beyond.to_string().contains("row group 9"), "{beyond}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Damaged bytes give an error or rows, never a panic, and never more rows than declared.
    #[test]
    fn damage_is_an_error(at in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..6), cut in 0.0..1.2_f64) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let mut bytes = bytes_of(200);
        for (x, b) in at {
            let i = (x * bytes.len() as f64) as usize;
            bytes[i] = b;
        }
        if cut < 1.0 {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(batches) = ParquetSource::open(&path).and_then(ParquetSource::read) {
            for batch in batches.take(10).flatten() {
                let _ = crate::schema::from_batch(&batch, "a", 0);
            }
        }
    }
}
