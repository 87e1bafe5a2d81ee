//! Observations survive Arrow, and no row is lost on the way back.

use super::*;
use proptest::prelude::*;

/// A plain observation; `k` varies it.
pub(crate) fn sample(k: usize) -> Observation {
    Observation {
        time: 1_700_000_000_000_000_000 + k as i64,
        latitude: -90.0 + (k % 181) as f64,
        longitude: (k % 360) as f64,
        elevation: (!k.is_multiple_of(3)).then_some(k as f64),
        variable: "air_temperature".into(),
        value: 273.15 + (k % 30) as f64,
        error: k.is_multiple_of(2).then_some(0.5),
        station: format!("S{k}"),
        source: "test".into(),
    }
}

/// Arrow and back is the identity.
#[test]
fn round_trip() {
    let obs: Vec<_> = (0..1000).map(sample).collect();
    let (back, rejected) = from_batch(&to_batch(&obs).unwrap(), "f", 0).unwrap();
    assert_eq!(back, obs);
    assert!(rejected.is_empty());
}

/// A missing column is named together with the file.
#[test]
fn missing_column_is_named() {
    let batch = to_batch(&[sample(0)])
        .unwrap()
        .project(&[0, 1, 2, 3, 5, 6, 7, 8])
        .unwrap();
    let message = from_batch(&batch, "a.parquet", 0).unwrap_err().to_string();
    assert!(
        message.contains("a.parquet") && message.contains("`variable`"),
        "{message}"
    );
}

/// Dictionary texts are read, but one huge text shared by many rows is refused.
#[test]
fn shared_texts_do_not_swell() {
    use arrow_array::{DictionaryArray, types::Int32Type};
    let obs: Vec<_> = (0..100).map(sample).collect();
    for (n, fits) in [(10, true), (1_000_000, false)] {
        let long = "x".repeat(n);
        let texts: DictionaryArray<Int32Type> = (0..100).map(|_| Some(long.as_str())).collect();
        let batch = to_batch(&obs).unwrap();
        let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
        fields[7] = Arc::new(Field::new("station", texts.data_type().clone(), false));
        let mut columns = batch.columns().to_vec();
        columns[7] = Arc::new(texts);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let got = from_batch(&batch, "f", 0);
        assert_eq!(got.is_ok(), fits, "{n}");
    }
}

proptest! {
    /// Rows in = observations + rejected, and what passes is usable.
    #[test]
    fn nothing_is_lost(rows in prop::collection::vec(
        (any::<f64>(), any::<f64>(), any::<f64>(), prop::option::of(any::<f64>())), 0..40)
    ) {
        let obs: Vec<_> = rows.iter().enumerate().map(|(k, r)| Observation {
            latitude: r.0, longitude: r.1, value: r.2, error: r.3, ..sample(k)
        }).collect();
        let (good, bad) = from_batch(&to_batch(&obs).unwrap(), "f", 0).unwrap();
        prop_assert_eq!(good.len() + bad.len(), obs.len());
        prop_assert!(good.iter().all(|o| o.check().is_ok()));
    }
}
